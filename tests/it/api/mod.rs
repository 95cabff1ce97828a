//! The workspace API over HTTP. Tests that serve an endpoint of the public pages begin with its number: `a2_`, `b1_`.

mod absent;
mod access;
mod checkout_links;
mod clients;
mod compatible;
mod contract;
mod documented;
mod fields;
mod filled;
mod freshness;
pub(crate) mod harness;
mod history;
mod hostile;
mod idempotency;
mod json_object;
pub(crate) mod jwt;
mod limits;
mod list;
pub(crate) mod process;
mod rights;
mod schema;
mod search;
mod state;
mod synced;
mod words;
mod workspaces;
