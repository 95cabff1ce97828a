//! What several behaviours need to be tested.

pub(crate) mod client;
pub(crate) mod cluster;
