//! The door: Stripe's deliveries come in here and leave as rows of the outbox.
//!
//! ```text
//! connection ─▶ body ─▶ signature ─▶ envelope ─▶ batch ─▶ outbox::enqueue ─▶ 200
//!  http.rs     body.rs   PURE         PURE       group commit
//! ```
//!
//! A 2xx leaves only after the event is durable; everything that goes wrong on the way is an [`answer`], never a
//! panic and never a 500. Knows nothing of customers or subscriptions: the payload stays bytes.

pub mod envelope;
pub mod signature;
