//! From which time `tail` must read again, so that it misses no event. PURE.
//!
//! An event is visible after its commit, and `finished_at` is earlier: other events may be finished and committed in
//! between. So each poll first lists the open transactions that may finish events, and then reads the events. An event
//! that this read does not see yet belongs to a transaction that was listed, or to one that began to write after the
//! list. The next poll therefore reads from the [`Horizon`]: the time of this list, or an earlier time at which the
//! oldest listed transaction was not yet writing. [`Seen`] removes what was shown already.

use std::collections::{BTreeMap, HashMap};

use time::{Duration, OffsetDateTime};

use crate::admin::tail::{Event, Writers};

/// Reach for transactions that were open before `tail` started, or that it cannot know: longer than a step of a worker.
const UNKNOWN_REACH: Duration = Duration::minutes(5);
/// Reach after a lost connection: the clock of the server after a failover may be behind.
const RECONNECT_REACH: Duration = Duration::minutes(1);

/// The time from which the next poll reads.
#[derive(Debug, Clone, Default)]
pub(super) struct Horizon {
    /// The open transactions, each with a time at which it was not writing yet.
    open: BTreeMap<String, OffsetDateTime>,
    /// The time of the last list; `None` before the first one.
    listed_at: Option<OffsetDateTime>,
    /// Result of the last list.
    since: Option<OffsetDateTime>,
}

impl Horizon {
    /// The time from which the next poll reads; `None` before the first list.
    pub(super) fn since(&self) -> Option<OffsetDateTime> {
        self.since
    }

    /// Takes the list of a poll into account. Must be made before the events of that poll are read.
    pub(super) fn update(&mut self, writers: &Writers) {
        let Some(at) = writers.at else { return };
        if writers.is_standby {
            self.since = Some(at - UNKNOWN_REACH);
            return;
        }
        let before = self.listed_at.unwrap_or(at - UNKNOWN_REACH);
        self.open = (writers.transactions.iter())
            .map(|one| (one.clone(), self.open.get(one).copied().unwrap_or(before)))
            .collect();
        self.listed_at = Some(at);
        self.since = self.open.values().copied().chain([at]).min();
    }

    /// Returns to an earlier time, because not all events since then were read.
    pub(super) fn return_to(&mut self, since: OffsetDateTime) {
        self.since = Some(since);
    }

    /// After a lost connection: the transactions of the old server have ended, or are unknown.
    pub(super) fn reconnect(&mut self) {
        self.open.clear();
        self.since = self.since.map(|since| since - RECONNECT_REACH);
        self.listed_at = self.since;
    }
}

/// The events that were shown, as far back as they may be read again.
#[derive(Debug, Default)]
pub(super) struct Seen {
    finished_at: HashMap<(String, OffsetDateTime), OffsetDateTime>,
    /// Since when these are all events; reading earlier ones would show them again.
    complete_since: Option<OffsetDateTime>,
}

impl Seen {
    /// Begins with the events since a time, all of which are added next.
    pub(super) fn since(start: OffsetDateTime) -> Self {
        Self { finished_at: HashMap::new(), complete_since: Some(start) }
    }

    /// The earliest time from which a poll may read, at `since` or later.
    pub(super) fn bound(&self, since: OffsetDateTime) -> OffsetDateTime {
        self.complete_since.map_or(since, |complete| complete.max(since))
    }

    /// Whether the event was shown already. An event that was retried and finished again was not.
    pub(super) fn contains(&self, event: &Event) -> bool {
        self.finished_at.get(&(event.event_id.clone(), event.created)) == Some(&event.finished_at)
    }

    /// Adds an event that is shown, or that does not match.
    pub(super) fn add(&mut self, event: &Event) {
        self.finished_at.insert((event.event_id.clone(), event.created), event.finished_at);
    }

    /// Forgets what no later poll reads, if each reads from `since` or, after a lost connection, from a little earlier.
    pub(super) fn forget_before(&mut self, since: OffsetDateTime) {
        let since = self.bound(since - RECONNECT_REACH);
        self.finished_at.retain(|_, finished_at| *finished_at >= since);
        self.complete_since = Some(since);
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const START: OffsetDateTime = datetime!(2026-11-30 12:00 UTC);

    fn at(seconds: i64) -> OffsetDateTime {
        START + Duration::seconds(seconds)
    }

    fn list(horizon: &mut Horizon, seconds: i64, transactions: &[&str]) {
        horizon.update(&Writers {
            at: Some(at(seconds)),
            is_standby: false,
            transactions: transactions.iter().map(|one| (*one).to_owned()).collect(),
        });
    }

    #[test]
    fn without_open_transactions_each_poll_reads_from_the_last() {
        let mut horizon = Horizon::default();
        assert_eq!(horizon.since(), None);
        for seconds in [0, 1, 2] {
            list(&mut horizon, seconds, &[]);
            assert_eq!(horizon.since(), Some(at(seconds)));
        }
    }

    #[test]
    fn a_transaction_holds_the_horizon_at_the_list_before_it_was_seen() {
        let mut horizon = Horizon::default();
        list(&mut horizon, 0, &[]);
        list(&mut horizon, 10, &["3/7"]);
        assert_eq!(horizon.since(), Some(at(0)));
        list(&mut horizon, 20, &["3/7", "4/1"]);
        assert_eq!(horizon.since(), Some(at(0)));
        list(&mut horizon, 30, &["4/1"]);
        assert_eq!(horizon.since(), Some(at(10)));
        list(&mut horizon, 40, &[]);
        assert_eq!(horizon.since(), Some(at(40)));
    }

    #[test]
    fn a_transaction_from_before_the_start_may_be_minutes_old() {
        let mut horizon = Horizon::default();
        list(&mut horizon, 0, &["3/7"]);
        assert_eq!(horizon.since(), Some(START - UNKNOWN_REACH));
    }

    #[test]
    fn after_a_reconnection_the_horizon_does_not_move_forward() {
        let mut horizon = Horizon::default();
        list(&mut horizon, 0, &[]);
        list(&mut horizon, 10, &["3/7"]);
        horizon.reconnect();
        assert_eq!(horizon.since(), Some(START - RECONNECT_REACH));
        // a new transaction of the same number
        list(&mut horizon, 500, &["3/7"]);
        assert_eq!(horizon.since(), Some(START - RECONNECT_REACH));
    }

    #[test]
    fn an_event_is_new_once_for_each_time_it_is_finished() {
        let event = |seconds| Event {
            event_id: "evt_1".to_owned(),
            created: START,
            event_type: String::new(),
            account: String::new(),
            object_id: None,
            customer_id: None,
            state: "done".to_owned(),
            outcome: None,
            reason: None,
            last_error: None,
            received_at: START,
            finished_at: at(seconds),
            is_match: true,
        };
        let mut seen = Seen::since(START);
        assert!(!seen.contains(&event(0)));
        seen.add(&event(0));
        assert!(seen.contains(&event(0)) && !seen.contains(&event(5)));
        seen.add(&event(5));
        assert!(seen.contains(&event(5)));
    }

    #[test]
    fn no_poll_reads_what_was_forgotten() {
        let mut seen = Seen::since(START);
        assert_eq!(seen.bound(at(-60)), START);
        seen.forget_before(at(30));
        assert_eq!((seen.bound(at(-60)), seen.bound(at(10))), (START, at(10)));
        seen.forget_before(at(600));
        // however often the connection is lost
        assert_eq!(seen.bound(at(0)), at(600) - RECONNECT_REACH);
    }
}
