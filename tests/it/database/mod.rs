//! PostgreSQL as operators set it up: odd defaults, read-only servers, full disks, lost standbys and vanished hosts.

mod bounds;
mod costs;
mod cut_off;
mod disk;
mod encoding;
mod few;
mod harness;
mod hostile;
mod jit;
mod plans;
mod read_only;
mod recent;
