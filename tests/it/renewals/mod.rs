//! Limits: their calendar, their balances, and what the product may do with them.

mod calls;
mod following;
mod roles;
mod scheduling;
mod sold;
