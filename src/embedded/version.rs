//! The supported versions of PostgreSQL.

/// Oldest major version that the schema and the queries support.
pub(super) const OLDEST: u32 = 15;
