//! For the operator's commands: the database's health for `doctor`, payloads without secrets for `outbox show`.

pub mod checkup;
pub mod explain;
pub mod payload;
