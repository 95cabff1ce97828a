//! PostgreSQL as operators set it up: odd defaults, read-only servers, full disks, lost standbys and vanished hosts.

mod bounds;
mod cancelled_transactions;
mod costs;
mod disk;
mod encoding;
mod few_connections;
mod harness;
mod jit;
mod odd_defaults;
mod outages;
mod plans;
mod read_only;
mod unchecked_connections;
