//! Metrics, each declared once: [`build`] says which release runs, [`instance`] counts what this process does,
//! [`service`] reads what the database says.

pub mod build;
pub mod instance;
pub mod service;
