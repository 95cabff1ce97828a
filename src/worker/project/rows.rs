//! Projected rows on their way to the store: their causes, their notes, and the fetches that they need.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::object::ObjectKey;
use crate::jobs::requests::JobRequests;
use crate::projection::Projected;
use crate::store::CausedRow;
use crate::worker::change_set::{Causes, Notes};

/// The events that caused the projection of an object.
pub(super) fn causes_of(causes: &Causes, key: &ObjectKey) -> BTreeSet<String> {
    causes.get(key).cloned().unwrap_or_default()
}

/// A row with the events that caused it.
pub(super) fn caused<T>(row: T, causes: &BTreeSet<String>) -> CausedRow<T> {
    CausedRow { row, causes: causes.iter().cloned().collect() }
}

/// The keys of each account: a graph holds objects of one account.
pub(super) fn by_account<'a>(keys: impl IntoIterator<Item = &'a ObjectKey>) -> BTreeMap<&'a str, Vec<&'a ObjectKey>> {
    let mut accounts: BTreeMap<&str, Vec<&ObjectKey>> = BTreeMap::new();
    for key in keys {
        accounts.entry(&key.account).or_default().push(key);
    }
    accounts
}

/// Returns the row; stores its notes under its object and queues fetches for what it needs.
pub(super) fn take_row<T>(
    key: &ObjectKey,
    projected: Projected<T>,
    notes: &mut Notes,
    job_requests: &mut JobRequests,
) -> T {
    notes.entry(key.clone()).or_default().extend(projected.notes);
    for need in projected.needs {
        job_requests.fetch(need, None);
    }
    projected.row
}
