//! Limits: their calendar, their balances, and what the product may do with them.

mod roles;
