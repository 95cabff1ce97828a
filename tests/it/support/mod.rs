//! What the tests share. STAND-IN of the branch `cli`, to be replaced by the embedded branch's module.

pub(crate) mod cluster;
