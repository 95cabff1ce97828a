//! Metrics, each declared once. [`process`] holds the counters of this process, of which the process exports those of
//! its [`parts`]: [`batch`] (steps of the worker), [`api`] (requests to the workspace API), [`connections`] (to the
//! listeners), [`signatures`] (the signature check of deliveries), [`reconcile`] (undelivered events), [`drift`]
//! (samples compared with Stripe) and `limits` (renewals). [`stripe`] counts requests to Stripe's API, [`database`]
//! reads figures from the database, and [`build`] reports the running release.

pub mod api;
pub mod batch;
pub mod build;
pub mod connections;
pub mod database;
pub mod drift;
mod families;
mod limits;
pub mod parts;
pub mod process;
pub mod reconcile;
pub mod retention;
pub mod signatures;
pub mod stripe;
pub mod writes;
