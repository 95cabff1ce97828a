//! What a comparison reports: rows that differ, and what could not be compared.

use super::customer::CheckError;
use crate::backfill::List;
use crate::client::ApiError;
use crate::store::Change;

/// Result of one check.
#[derive(Debug)]
pub enum Finding {
    /// A customer, a page or an object was compared.
    Seen {
        /// The customer; `None`: a page of a list, or one object.
        customer: Option<String>,
        /// Number of objects that were compared: one, or those of the page.
        objects: usize,
        /// The rows that differ from Stripe.
        changes: Vec<Change>,
    },
    /// Stripe has no such list.
    NoList(List),
    /// The key may not read some data, so the columns that depend on it were not compared. Reported once per operation.
    Forbidden(ApiError),
    /// A customer or a list could not be checked.
    Failed {
        /// The customer or the list.
        what: String,
        /// The reason.
        error: CheckError,
    },
    /// How far the comparison is, for display.
    Progress(CompareProgress),
}

/// Progress of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareProgress {
    /// So many objects will be compared. Missing if that is not known.
    Expected(usize),
    /// So many objects differ, and are compared once more at the end.
    Deferred(usize),
    /// The second pass over so many objects begins.
    Again(usize),
}
