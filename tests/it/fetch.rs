//! What is read from Stripe, when, and what comes of it: jobs, the guard, and the stories that went wrong elsewhere.

mod confirm;
mod faults;
mod guard;
mod jobs;
mod plans;
mod versions;
