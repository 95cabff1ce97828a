//! Queries of the operator's commands: health, sizes and orphans for `doctor`, histories, states and statements of
//! limits for `explain`, masked payloads for `outbox show`, the figures of `status`, the events of `tail`.

pub mod checkup;
pub mod disk;
pub mod explain;
pub mod life;
pub mod orphans;
pub mod payload;
pub mod statement;
pub mod status;
pub mod subscription_state;
pub mod tail;
