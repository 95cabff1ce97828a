//! Metrics, each declared once: [`build`] says which release runs, [`service`] what the database says.

pub mod build;
pub mod service;
