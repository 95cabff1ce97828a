//! The one integration test binary: a file for each behaviour.

#![expect(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but does not see that helpers are tests too")]

mod backfill;
mod cli;
mod copies;
mod demo;
mod durability;
mod embedded;
mod fake;
mod fetch;
mod fixtures;
mod foreign;
mod laws;
mod mapping;
mod ops;
mod ordering;
mod orphans;
mod partitions;
mod poison;
mod privacy;
mod product;
mod receiver;
mod reconcile;
mod renewals;
mod schema;
mod support;
mod views;
