//! Metrics, each declared once: [`build`] says which release runs, [`instance`] counts what this process does,
//! [`stripe`] what it asks Stripe, [`service`] reads what the database says.

pub mod build;
pub mod instance;
mod limits;
pub mod service;
pub mod stripe;
