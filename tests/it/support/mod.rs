//! Shared support code of the integration tests.

pub(crate) mod app;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod dump;
pub(crate) mod egress;
pub(crate) mod events;
pub(crate) mod fetching;
pub(crate) mod metrics;
#[path = "../../support/month.rs"]
pub(crate) mod month;
#[path = "../../support/pages.rs"]
pub(crate) mod pages;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod stripe;
pub(crate) mod writing;
