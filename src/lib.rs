//! billing-sync: keeps PostgreSQL tables of billing contacts and subscriptions in step with Stripe.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod metrics;
pub mod migrations;
pub mod ops;
pub mod outbox;
pub mod receiver;
pub mod stripe;
pub mod telemetry;
