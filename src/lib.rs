//! billing-sync: keeps PostgreSQL tables of billing contacts and subscriptions in step with Stripe.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod domain;
pub mod embedded;
pub mod metrics;
pub mod migrations;
pub mod mirror;
pub mod ops;
pub mod outbox;
pub mod projection;
pub mod receiver;
pub mod service;
pub mod store;
pub mod stripe;
pub mod telemetry;
pub mod worker;
