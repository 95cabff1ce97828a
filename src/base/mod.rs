//! Small helpers that belong to no other module: the clock, retry delays, waits, durations in SQL, text and the status
//! line of terminals, and files.
//!
//! All modules may use these helpers. They use nothing else of the crate.
pub mod clock;
pub mod file;
pub mod interval;
pub mod retry;
pub mod status_line;
pub mod text;
pub mod waits;
