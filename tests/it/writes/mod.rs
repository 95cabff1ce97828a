//! Changes at Stripe through the workspace API: each is made once, its answer shows it, and its rows are Stripe's truth,
//! whatever is lost, repeated, delayed or killed on the way.

mod attempts;
mod checkout;
mod contact;
mod customer;
mod faults;
pub(crate) mod harness;
mod kill;
mod law;
mod secrets;
