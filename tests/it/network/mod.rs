//! Network behaviour of the process: shutdown behind a load balancer, protocols of its ports, connections to Stripe,
//! and signing secrets.

mod bodies;
mod connection_slots;
mod drain;
mod egress;
mod probes;
mod protocols;
mod secrets;
