//! Limits: their calendar, their balances, and the functions of the product.

mod anchors;
mod bonus;
mod bounds;
mod calendar;
mod calls;
mod cases;
mod consume;
mod contention;
mod harness;
mod idempotency;
mod items;
mod late_events;
mod lock_waits;
mod meanings;
mod roles;
pub(crate) mod rows;
mod scheduling;
mod set_aside;
mod shared_bonus;
mod simulation;
mod transactions;
mod vectors;
mod webhook_items;
mod webhook_sale;
mod webhooks;
