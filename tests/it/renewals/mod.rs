//! Limits: their calendar, their balances, and what the product may do with them.

mod anchors;
mod bonus;
mod bought;
mod bounds;
mod calendar;
mod calls;
mod cases;
mod consume;
mod contention;
mod following;
mod harness;
mod idempotency;
mod items;
mod late;
mod pool;
mod roles;
mod rows;
mod scheduling;
mod set_aside;
mod simulation;
mod sold;
mod transactions;
mod vectors;
mod waiting;
