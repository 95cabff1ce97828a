//! The process on its network: how it ends while a balancer still sends, which protocols its ports take, how it reaches
//! Stripe, and what it says of its secrets.

mod bodies;
mod crowd;
mod drain;
mod egress;
mod probes;
mod protocols;
mod secrets;
