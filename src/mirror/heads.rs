//! Finds the newest state of each object with new events, from these events and, if they share a second, from the
//! archive.
//!
//! Called by the merge, and by the timeline for historical seconds. `history` and `same_second` decide; this module
//! loads the events that they need.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::archive;
use super::history::{Head, HeadResult, History};
use super::incoming::Arrival;
use super::snapshot::Snapshot;
use super::store::{Content, ContentSource, Mirror};
use crate::database::Connection;
use crate::domain::object::ObjectKey;

/// The head of each object with arrivals at or after its mirrored version, or whose head depends on earlier events.
pub(super) async fn of(
    conn: &mut Connection,
    mirror: &Mirror,
    arrivals: Vec<Arrival>,
) -> Result<Vec<(ObjectKey, Head)>, sqlx::Error> {
    let open = histories(mirror, arrivals).into_iter().collect();
    resolve(conn, mirror, open).await
}

/// The state at the end of each of these seconds, from the events of the archive and of the batch. The mirror is not
/// consulted: it holds only the current state.
pub(super) async fn of_seconds(
    conn: &mut Connection,
    seconds: &[(ObjectKey, OffsetDateTime)],
    arrivals: &[Arrival],
) -> Result<Vec<(ObjectKey, Head)>, sqlx::Error> {
    let open = seconds.iter().map(|(key, second)| {
        let mut history = History::complete_after(Some(*second));
        for one in arrivals.iter().filter(|one| one.key == *key && one.snapshot.created <= *second) {
            history.add(one.snapshot.clone());
        }
        (key.clone(), history)
    });
    resolve(conn, &Mirror::new(), open.collect()).await
}

/// The head of each history, which is extended from the archive as long as it needs earlier events.
async fn resolve(
    conn: &mut Connection,
    mirror: &Mirror,
    mut open: Vec<(ObjectKey, History)>,
) -> Result<Vec<(ObjectKey, Head)>, sqlx::Error> {
    let mut heads = Vec::new();
    loop {
        let mut asking = Vec::new();
        for (key, history) in open {
            match history.head() {
                HeadResult::Head(head) => heads.push((key, *head)),
                HeadResult::Nothing => {}
                HeadResult::Needs(until) => asking.push((key, history, until)),
            }
        }
        if asking.is_empty() {
            return Ok(heads);
        }
        open = read_back(conn, mirror, asking).await?;
    }
}

fn content<'a>(mirror: &'a Mirror, key: &ObjectKey) -> Option<&'a Content> {
    mirror.get(key)?.seen()
}

/// The history of each object from the events of the batch. They include every event newer than the mirror's version,
/// because that is the newest event merged before.
fn histories(mirror: &Mirror, arrivals: Vec<Arrival>) -> BTreeMap<ObjectKey, History> {
    let mut histories: BTreeMap<ObjectKey, History> = BTreeMap::new();
    let mut newest: BTreeMap<ObjectKey, OffsetDateTime> = BTreeMap::new();
    for Arrival { key, snapshot } in arrivals {
        let latest = newest.entry(key.clone()).or_insert(snapshot.created);
        *latest = (*latest).max(snapshot.created);
        let known = content(mirror, &key);
        let history = histories.entry(key).or_insert_with(|| {
            let mut history = History::complete_after(known.map(|one| one.version));
            if let Some(one) = known.filter(|one| one.origin != ContentSource::Event) {
                history.seen_without_event_at(one.version);
            }
            if let Some(one) = known.filter(|one| one.origin == ContentSource::Write) {
                history.written_at(one.version, &one.json);
            }
            history
        });
        history.add(snapshot);
    }
    // an event older than the head changes nothing and is not ambiguous
    histories.retain(|key, _| {
        content(mirror, key).is_none_or(|one| one.depends_on_previous_second || newest[key] >= one.version)
    });
    histories
}

/// Adds one more second of the archive to each history that needs it.
async fn read_back(
    conn: &mut Connection,
    mirror: &Mirror,
    asking: Vec<(ObjectKey, History, OffsetDateTime)>,
) -> Result<Vec<(ObjectKey, History)>, sqlx::Error> {
    let asked: Vec<_> = asking.iter().map(|(key, _, until)| (key, *until)).collect();
    let mut found: BTreeMap<usize, Vec<Snapshot>> = BTreeMap::new();
    for (place, snapshot) in archive::earlier_second(conn, &asked).await? {
        found.entry(place).or_default().push(snapshot);
    }
    let mut histories = Vec::new();
    for (place, (key, mut history, _)) in asking.into_iter().enumerate() {
        let second = found.remove(&place).unwrap_or_default();
        // one tick before that second, so that the second itself counts as complete
        let reached = second.first().map(|one| one.created - time::Duration::MICROSECOND);
        for one in second {
            history.add(one);
        }
        history.now_complete_after(reached);
        let remembered = content(mirror, &key).filter(|one| one.origin == ContentSource::Event);
        if let (None, Some(content)) = (reached, remembered) {
            // the archive ends here; the mirror may still hold a state that retention has removed from it
            history.remember(content.version, &content.json);
        }
        histories.push((key, history));
    }
    Ok(histories)
}
