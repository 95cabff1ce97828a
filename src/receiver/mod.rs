//! The receiver of Stripe's deliveries: verifies them and stores them in the outbox.
//!
//! ```text
//! socket ─▶ handler ─▶ body ─▶ signature ─▶ envelope ─▶ batch ─▶ outbox::enqueue ─▶ answer
//! http.rs                       PURE         PURE        group commit
//! ```
//!
//! A 2xx is sent only after the event is durable. Every failure before that is an answer that names the cause, never a
//! panic and never a 500. Knows nothing of customers or subscriptions: the payload stays bytes.

mod answer;
mod batch;
mod body;
mod diagnosis;
mod handler;
mod http;
mod notify;
pub mod signature;

pub use batch::CHECK_AFTER_IDLE;
pub use handler::PATH;
pub use http::Receiver;
