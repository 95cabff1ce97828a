//! The reads of `tail` over one connection: the last events at the start, then each poll's new ones with their changes.

use std::collections::{BTreeMap, BTreeSet};

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::horizon::{Horizon, Seen};
use crate::admin::explain;
use crate::admin::tail::{self, Change, Event, Filter};
use crate::database::Connection;

/// Events that were finished further apart than this are looked up separately.
const APART: Duration = Duration::minutes(5);

/// An event and the changes to show with it.
pub(super) struct Shown {
    pub(super) event: Event,
    pub(super) changes: Vec<Change>,
}

/// What was shown, and from which time the next poll reads. Outlives a connection.
pub(super) struct Follower {
    filter: Filter,
    horizon: Horizon,
    seen: Seen,
    /// The last event of an unfinished poll, whose next page follows.
    page_end: Option<Event>,
    /// From where the pages of this poll are read.
    since: Option<OffsetDateTime>,
}

impl Follower {
    pub(super) fn new(filter: Filter) -> Self {
        Self { filter, horizon: Horizon::default(), seen: Seen::default(), page_end: None, since: None }
    }

    /// Whether [`Follower::start`] has run.
    pub(super) fn has_started(&self) -> bool {
        self.horizon.since().is_some()
    }

    /// Prepares for a new connection after the old one was lost. Pages that were not shown yet are read again.
    pub(super) fn reconnect(&mut self) {
        self.page_end = None;
        if let Some(since) = self.since.take() {
            self.horizon.return_to(since);
        }
        self.horizon.reconnect();
    }

    /// Returns the last `count` events, oldest first. Earlier ones are not shown by a later poll.
    pub(super) async fn start(&mut self, conn: &mut Connection, count: i64) -> Result<Vec<Shown>, sqlx::Error> {
        let horizon = self.start_from(conn).await?;
        let objects = self.objects(conn).await?;
        let mut last = if count > 0 { tail::last(conn, objects.as_deref(), count).await? } else { Vec::new() };
        last.reverse();
        // an event that was committed after the reads of `start_from` is shown here, and not again
        for event in &last {
            self.seen.add(event);
        }
        let shown = self.with_changes(conn, last).await?;
        // only now: after an error it starts again
        self.horizon = horizon;
        Ok(shown)
    }

    /// Notes what is visible already and may be read again; returns the horizon of the first poll.
    async fn start_from(&mut self, conn: &mut Connection) -> Result<Horizon, sqlx::Error> {
        let mut horizon = Horizon::default();
        horizon.update(&tail::writers(conn).await?);
        // a standby that has applied no transaction has no events either
        let since = horizon.since().unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let mut after = None;
        self.seen = Seen::since(since);
        loop {
            let page = tail::finished(conn, since, after.as_ref(), &Filter::default()).await?;
            for event in &page {
                self.seen.add(event);
            }
            if !is_full(&page) {
                break;
            }
            after = page.into_iter().last();
        }
        Ok(horizon)
    }

    /// The objects of the filter's customers, whose events an index finds; `None` without a filter.
    async fn objects(&self, conn: &mut Connection) -> Result<Option<Vec<String>>, sqlx::Error> {
        let customers = match (&self.filter.customer, self.filter.workspace) {
            (Some(customer), _) => vec![customer.clone()],
            (None, Some(workspace)) => tail::customers(conn, workspace).await?,
            (None, None) => return Ok(None),
        };
        let mut objects = BTreeSet::new();
        for customer in customers {
            let around = explain::around(conn, &customer).await?;
            objects.extend(around.into_iter().map(|key| key.object_id));
            objects.insert(customer);
        }
        Ok(Some(objects.into_iter().collect()))
    }

    /// Reads the next page of new events; the flag reports whether more may follow at once.
    pub(super) async fn poll(&mut self, conn: &mut Connection) -> Result<(Vec<Shown>, bool), sqlx::Error> {
        let since = if let Some(since) = self.since {
            since
        } else {
            let since = self.seen.bound(self.horizon.since().unwrap_or(OffsetDateTime::UNIX_EPOCH));
            // before the events are read: see `horizon`
            self.horizon.update(&tail::writers(conn).await?);
            self.since = Some(since);
            since
        };
        let page = tail::finished(conn, since, self.page_end.as_ref(), &self.filter).await?;
        let may_match = |event: &&Event| event.is_match || self.filter.workspace.is_some();
        let new = page.iter().filter(|event| !self.seen.contains(event)).filter(may_match).cloned().collect();
        let shown = self.with_changes(conn, new).await?;
        // only now: after an error the page is read again
        for event in &page {
            self.seen.add(event);
        }
        let has_more = is_full(&page);
        if has_more {
            self.page_end = page.into_iter().last();
        } else {
            self.page_end = None;
            self.since = None;
            self.seen.forget_before(since);
        }
        Ok((shown.into_iter().filter(|one| self.is_wanted(one)).collect(), has_more))
    }

    /// Adds to each event the changes of which it is the last cause.
    async fn with_changes(&self, conn: &mut Connection, events: Vec<Event>) -> Result<Vec<Shown>, sqlx::Error> {
        let mut changes: BTreeMap<String, Vec<Change>> = BTreeMap::new();
        for group in events.chunk_by(|one, next| next.finished_at - one.finished_at < APART) {
            let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
            let ids: Vec<String> = group.iter().map(|event| event.event_id.clone()).collect();
            for change in tail::changes(conn, &ids, first.finished_at, last.finished_at).await? {
                let cause = ids.iter().rev().find(|id| change.causes.contains(id));
                changes.entry(cause.cloned().unwrap_or_default()).or_default().push(change);
            }
        }
        let shown = events
            .into_iter()
            .map(|event| Shown { changes: changes.remove(&event.event_id).unwrap_or_default(), event });
        Ok(shown.collect())
    }

    /// Whether the filter matches. An event that takes a row out of the workspace matches by its changes.
    fn is_wanted(&self, shown: &Shown) -> bool {
        shown.event.is_match
            || self.filter.workspace.is_some_and(|workspace| shown.changes.iter().any(|one| leaves(one, workspace)))
    }
}

/// Whether the change takes the row out of the workspace.
fn leaves(change: &Change, workspace: Uuid) -> bool {
    let columns: serde_json::Value = serde_json::from_str(&change.changes).unwrap_or_default();
    columns["workspace_id"][0].as_str() == Some(&workspace.to_string())
}

fn is_full(page: &[Event]) -> bool {
    i64::try_from(page.len()).is_ok_and(|events| events == tail::PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_leaves_its_workspace_only_if_it_was_in_it() {
        let workspace = Uuid::from_u128(7);
        let change = |changes: String| Change {
            table_name: "subscriptions".to_owned(),
            row_id: workspace,
            causes: Vec::new(),
            changes,
        };
        assert!(leaves(&change(format!(r#"{{"workspace_id":["{workspace}",null]}}"#)), workspace));
        assert!(!leaves(&change(format!(r#"{{"workspace_id":[null,"{workspace}"]}}"#)), workspace));
        assert!(!leaves(&change(r#"{"active":[true,false]}"#.to_owned()), workspace));
    }
}
