//! Limits: their calendar, their balances, and what the product may do with them.

mod calls;
mod consume;
mod following;
mod roles;
mod rows;
mod scheduling;
mod sold;
