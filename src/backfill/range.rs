//! One range of one list: its cursor, its next page, and where it is split.
//!
//! PURE. Stripe lists newest objects first and filters by creation time. So the unread part of a range can be split at
//! any second, and both parts can be read concurrently. A range is split only while a slot is free, because each split
//! costs one page that is not full.

use super::list::{List, Page};
use crate::client::Span;

/// No object at Stripe is older: 2010-01-01.
pub(super) const OLDEST: i64 = 1_262_304_000;

/// Minimum length in seconds of an unread span that is worth a request of its own.
const NARROWEST: i64 = 60;

/// A range with its cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    /// Key of its row in `billing.backfill_ranges`.
    pub(super) id: i64,
    /// The connected account; empty for the key's own account.
    pub(super) account: String,
    /// The list.
    pub(super) list: List,
    /// The creation times that it covers.
    pub(super) span: Span,
    /// The last stored object; `None` before the first page.
    pub(super) after: Option<Cursor>,
}

/// A cursor in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The object at the cursor.
    pub(super) id: String,
    /// Its creation time.
    pub(super) created: Option<i64>,
}

/// The step after a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// The page was the last one.
    End,
    /// The next page begins after this cursor.
    After(Cursor),
    /// Stripe sent `has_more`, but no object after the cursor.
    NoCursor,
}

impl Range {
    /// The range restarted at the second of its cursor, for a cursor object that is no longer in the list. Some objects
    /// are then read twice.
    pub(super) fn without_cursor(&self) -> Option<Self> {
        let created = self.after.as_ref()?.created?;
        let until = Some(created + 1).min(self.span.until.or(Some(i64::MAX)));
        Some(Self { after: None, span: Span { until, ..self.span }, ..self.clone() })
    }

    /// Returns the step after `page`.
    pub(super) fn next(&self, page: &Page) -> Next {
        if !page.has_more {
            return Next::End;
        }
        match page.elements.last() {
            Some(last) if self.after.as_ref().is_none_or(|before| before.id != last.id) => {
                Next::After(Cursor { id: last.id.clone(), created: last.created })
            }
            _ => Next::NoCursor,
        }
    }

    /// Seconds of creation time that are not read yet, at most.
    pub(super) fn left(&self, floor: i64, now: i64) -> i64 {
        let from = self.span.from.unwrap_or(floor);
        let until = self.after.as_ref().and_then(|cursor| cursor.created).or(self.span.until).unwrap_or(now);
        (until - from).max(0)
    }

    /// The second at which to split the part after `cursor`; the older half becomes a range of its own. `floor` is the
    /// creation time of the account.
    pub(super) fn split(&self, page: &Page, cursor: &Cursor, floor: i64) -> Option<i64> {
        let left = cursor.created?;
        let from = self.span.from.unwrap_or(floor);
        (page.is_newest_first() && left - from >= NARROWEST).then(|| from + (left - from) / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::Element;
    use super::*;

    fn range(from: Option<i64>, until: Option<i64>, after: Option<(&str, i64)>) -> Range {
        let after = after.map(|(id, created)| Cursor { id: id.to_owned(), created: Some(created) });
        Range { id: 1, account: String::new(), list: List::Customers, span: Span { from, until }, after }
    }

    fn page(created: &[i64], has_more: bool) -> Page {
        let element = |at: &i64| Element { id: format!("cus_{at}"), created: Some(*at), json: String::new() };
        Page { elements: created.iter().map(element).collect(), without_id: Vec::new(), has_more }
    }

    #[test]
    fn a_range_ends_with_its_last_page_and_never_repeats_one() {
        let begun = range(None, None, Some(("cus_5", 5)));
        assert_eq!(begun.next(&page(&[4, 3], false)), Next::End);
        assert_eq!(begun.next(&page(&[], false)), Next::End);
        assert_eq!(begun.next(&page(&[4, 3], true)), Next::After(Cursor { id: "cus_3".into(), created: Some(3) }));
        assert_eq!(begun.next(&page(&[], true)), Next::NoCursor);
        assert_eq!(begun.next(&page(&[6, 5], true)), Next::NoCursor);
    }

    #[test]
    fn a_split_leaves_no_gap_between_the_parts() {
        let whole = range(None, None, None);
        let first = page(&[OLDEST + 1000, OLDEST + 900], true);
        let Next::After(cursor) = whole.next(&first) else { panic!("the range must continue") };
        assert_eq!(whole.split(&first, &cursor, OLDEST), Some(OLDEST + 450));
        // oldest first, all of one second, or nearly at the end: not worth a split, or the order is unknown
        assert_eq!(whole.split(&page(&[OLDEST + 900, OLDEST + 1000], true), &cursor, OLDEST), None);
        assert_eq!(whole.split(&page(&[OLDEST + 900, OLDEST + 900], true), &cursor, OLDEST), None);
        assert_eq!(range(Some(OLDEST + 890), None, None).split(&first, &cursor, OLDEST), None);
    }

    #[test]
    fn a_lost_cursor_is_replaced_by_its_second() {
        let lost = range(Some(1), Some(100), Some(("cus_5", 5)));
        assert_eq!(lost.without_cursor(), Some(range(Some(1), Some(6), None)));
        assert_eq!(range(None, Some(4), Some(("cus_5", 5))).without_cursor(), Some(range(None, Some(4), None)));
        assert_eq!(range(None, None, None).without_cursor(), None);
    }

    #[test]
    fn objects_outside_of_the_range_are_recognised() {
        let span = range(Some(10), Some(20), None).span;
        assert!(span.covers(Some(10)) && span.covers(Some(19)) && span.covers(None));
        assert!(!span.covers(Some(9)) && !span.covers(Some(20)));
    }
}
