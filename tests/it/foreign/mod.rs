//! Tests against software about Stripe that is not ours: localstripe, an independent Stripe fake, and the parameter types
//! of Stripe's Python library.
//!
//! localstripe has plans instead of prices, the formats of 2017, and lists that begin with the oldest object. Lists that
//! it does not support are reported. Needs Python; `make test-foreign` installs both packages and runs these tests.

mod forms;
mod localstripe;
mod reads;
mod writes;

/// What `make test-foreign` installs.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/foreign/bin/python");
