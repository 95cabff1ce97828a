//! Small helpers that belong to no other module: the clock, retry delays, durations in SQL, text for terminals, and
//! files.
//!
//! All modules may use these helpers. They use nothing else of the crate.
pub mod clock;
pub mod file;
pub mod interval;
pub mod retry;
pub mod text;
