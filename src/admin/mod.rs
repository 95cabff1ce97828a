//! For the operator's commands: the database's health and its orphans for `doctor`, statements of limits for `explain
//! workspace`, payloads without secrets for `outbox show`.

pub mod checkup;
pub mod explain;
pub mod orphans;
pub mod payload;
pub mod statement;
