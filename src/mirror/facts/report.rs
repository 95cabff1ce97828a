//! The report that states facts: an event or a read, with its time. PURE.

use time::OffsetDateTime;

use crate::stripe::json::Json;

/// The source and time of an object, and what the source contains beside it.
#[derive(Clone, Copy)]
pub struct Report<'a> {
    /// The creation of an event, or the version of a read.
    pub at: OffsetDateTime,
    /// The id of an event, or `read`.
    pub source: &'a str,
    /// `previous_attributes` of an event.
    pub previous: Json<'a>,
    /// All items of a subscription, if a read has listed them.
    pub all_items: Json<'a>,
}

impl Report<'_> {
    /// The report for an object nested in the reported one.
    #[must_use]
    pub fn of_nested(self) -> Self {
        Self { previous: Json::NULL, all_items: Json::NULL, ..self }
    }

    /// Whether it is a read, which shows a state that held at its version already.
    pub(super) fn is_read(&self) -> bool {
        self.source == READ
    }
}

/// Used instead of an event id if the object was read.
pub const READ: &str = "read";
