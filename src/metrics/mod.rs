//! Metrics, each declared once: [`batch`] measures what the worker does, [`build`] says which release runs, [`connections`] counts
//! those to the listeners, [`signatures`] the deliveries that are not verified, [`instance`] counts what this process does,
//! [`stripe`] what it asks Stripe, [`reconcile`] what its list had that was not delivered, [`service`] reads what the database says.

pub mod batch;
pub mod build;
pub mod connections;
pub mod drift;
pub mod instance;
mod limits;
pub mod reconcile;
pub mod service;
pub mod signatures;
pub mod stripe;
