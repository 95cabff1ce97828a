//! Sessions with the database: where it is, as whom we work there, and what we may do.

pub mod hosts;
pub mod role;
