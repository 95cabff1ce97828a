//! The workspace API: the billing state over HTTP, for products and their users. The role `api` of `serve`.
//!
//! ```text
//! listener ─▶ finish ─▶ CORS ─▶ authenticate ─▶ workspaces,              ─▶ rows ─▶ views and functions in SQL
//!                                               checkout_links (dialects)
//!             id,                principal,      routes, names, bodies     one SELECT for each GET
//!             problems           rate            wait, idempotency, ETag
//! ```
//!
//! A dialect is a folder with routes, names and rendering. What the caller may not see does not exist for it: every
//! statement takes its [`principal::Access`]. Reads never ask Stripe; what is changed there goes through `changes` to
//! `crate::writes`. Errors are [`problem`]s of one catalogue.

mod answer;
mod authenticate;
mod changes;
mod checkout_links;
mod context;
mod documented;
mod finish;
mod idempotency;
pub mod openapi;
pub mod principal;
pub mod problem;
mod request;
mod router;
mod rows;
mod server;
mod wait;
mod workspace_key;
mod workspaces;

/// Statements for the benchmark, which compares the API with them.
#[doc(hidden)]
pub mod statements {
    pub use super::rows::{WORKSPACE, search_statement};
}

pub use self::server::{Api, ApiParts, BindError, metrics};
