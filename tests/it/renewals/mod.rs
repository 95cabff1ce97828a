//! Limits: their calendar, their balances, and what the product may do with them.

mod bonus;
mod calls;
mod consume;
mod contention;
mod following;
mod idempotency;
mod roles;
mod rows;
mod scheduling;
mod sold;
mod transactions;
mod waiting;
