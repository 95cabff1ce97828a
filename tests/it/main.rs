//! The integration tests: one binary, a module for each behaviour.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail where they stand, as tests do")]

mod embedded;
mod support;
