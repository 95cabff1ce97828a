//! What is read from Stripe, when, and what comes of it: jobs, the guard, and the stories that went wrong elsewhere.

mod confirm;
mod endive;
mod expansions;
mod facts;
mod faults;
mod guard;
mod historic;
mod jobs;
mod methods;
mod not_generated;
mod oddities;
mod plans;
mod sepa;
mod versions;
