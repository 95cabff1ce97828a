//! billing-sync: keeps PostgreSQL tables of billing contacts and subscriptions in step with Stripe.

pub mod clock;
pub mod embedded;
