//! The one integration test binary: a file for each behaviour.

#![expect(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but does not see that helpers are tests too")]

mod demo;
mod embedded;
mod projection;
mod receiver;
mod support;
