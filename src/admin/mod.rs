//! For the operator's commands: the database's health for `doctor`, payloads without secrets for `outbox show`, and a call
//! to the workers for `outbox retry`.

pub mod checkup;
pub mod payload;
pub mod wake;
