//! The one integration test binary: a file for each behaviour.

mod receiver;
mod support;
