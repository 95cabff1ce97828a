pub mod failure;
pub mod retry;
