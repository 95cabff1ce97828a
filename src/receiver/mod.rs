//! The door. STAND-IN of the branch `cli`: the receiver's branch brings the real module.

pub mod signature;
