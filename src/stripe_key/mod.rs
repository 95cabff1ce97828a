//! Checks that the API key belongs to the account and mode of the stored data, before anything is read with it.
//!
//! [`check`] compares the key with stored events and with the account of the last backfill; [`account`] holds the type
//! and reads that account. The fetcher, `backfill`, `reconcile` and `doctor` use it.
pub mod account;
pub mod check;
