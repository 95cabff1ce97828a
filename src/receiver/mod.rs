//! The door: Stripe's deliveries come in here and leave as rows of the outbox.
//!
//! ```text
//! socket ─▶ door ─▶ body ─▶ signature ─▶ envelope ─▶ batch ─▶ outbox::enqueue ─▶ answer
//! http.rs                    PURE         PURE        group commit
//! ```
//!
//! A 2xx leaves only after the event is durable; whatever goes wrong on the way is an answer that says so, never a
//! panic and never a 500. Knows nothing of customers or subscriptions: the payload stays bytes.

mod answer;
mod batch;
mod body;
mod diagnosis;
mod door;
mod http;
mod notify;
pub mod signature;

pub use batch::UNCHECKED;
pub use door::PATH;
pub use http::Receiver;
