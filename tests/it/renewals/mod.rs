//! Limits: their calendar, their balances, and what the product may do with them.

mod calendar;
mod calls;
mod cases;
mod following;
mod ground;
mod late;
mod roles;
mod scheduling;
mod sold;
mod vectors;
