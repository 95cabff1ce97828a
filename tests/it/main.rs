//! One integration binary: a file for each behaviour, `support` for what they share.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test; helpers outside test functions need it too")]

mod cli;
mod ops;
mod support;
