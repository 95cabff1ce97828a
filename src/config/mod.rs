//! Settings: one struct for each concern, every field's doc naming the variable it comes from.
//!
//! The structs hold values that are already checked; nothing here opens a socket or a database.

pub mod receiver;
pub mod sync;
pub mod worker;
