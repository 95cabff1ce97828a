//! Settings: one struct for each group. The doc of every field names its variable.
//!
//! ```text
//! settings (registry) ─▶ source (flag > environment > file > default) ─▶ parse (bounds) ─▶ one struct per group
//! ```
//!
//! The structs hold checked values; nothing here opens a socket or a database. A struct's `read` returns `None` after
//! noting its problems; [`source::Source::collect`] reports all of them at once.

pub mod api;
pub mod database;
pub mod demo;
pub mod egress;
pub mod embedded;
pub mod error;
pub mod log;
pub mod ops;
pub mod parse;
mod pasted;
pub mod receiver;
pub mod reconcile;
pub mod retention;
pub mod secret;
pub mod settings;
pub mod shutdown;
pub mod source;
pub mod stripe;
pub mod sync;
pub mod unknown;
pub mod value;
pub mod worker;

#[cfg(test)]
mod tests;
