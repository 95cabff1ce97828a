//! The queue and the archive: what the receiver writes and the worker takes.

pub mod admin;
