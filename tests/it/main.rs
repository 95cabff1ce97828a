//! The one integration test binary: a file for each behaviour.

#![expect(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but does not see that helpers are tests too")]

mod accounts;
mod api;
mod backfill;
mod bounds;
mod cli;
mod clocks;
mod contention;
mod database;
mod demo;
mod docs;
mod durability;
mod embedded;
mod examples;
mod fake;
mod fetch;
mod fixtures;
mod foreign;
mod generated;
mod laws;
mod limits;
mod logs;
mod mapping;
mod modes;
mod monitoring;
mod nested_copies;
mod network;
mod ops;
mod ordering;
mod orphans;
mod parallel_workers;
mod partitions;
mod permissions;
mod poison;
mod pooler;
mod privacy;
mod product;
mod rates;
mod receiver;
mod reconcile;
mod schema;
mod set_aside;
mod support;
mod views;
mod writes;
