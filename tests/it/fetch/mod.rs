//! Reads from Stripe: when they are made and what they change. Covers jobs, the key check, and known pitfalls.

mod confirm;
mod endive;
mod expansions;
mod facts;
mod faults;
mod jobs;
mod key_check;
mod methods;
mod not_generated;
mod oddities;
mod pitfalls;
mod plans;
mod sepa;
mod versions;
