//! The newest state of each object that has new events, told by these events and, where seconds tie, by the archive.
//!
//! Called by the merge, and by the timeline for seconds of the past; `history` and `walk` decide, this brings them what
//! they ask for.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::archive;
use super::history::{Answer, Head, History};
use super::merge::{Arrival, Mirror};
use super::rows::{Content, Origin};
use super::snapshot::Snapshot;
use crate::domain::object::ObjectKey;

/// The head of each object that has arrivals at or after it, or whose head hangs on what came before.
pub(super) async fn of(
    conn: &mut PgConnection,
    mirror: &Mirror,
    arrivals: Vec<Arrival>,
) -> Result<Vec<(ObjectKey, Head)>, sqlx::Error> {
    let open = histories(mirror, arrivals).into_iter().collect();
    tell(conn, mirror, open).await
}

/// The end of each of these seconds, in which the archive and the batch have events of that object. The mirror, which
/// speaks of the present, has no say in it.
pub(super) async fn of_seconds(
    conn: &mut PgConnection,
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
    tell(conn, &Mirror::new(), open.collect()).await
}

/// The head of each history, which is read back for as long as it asks for more.
async fn tell(
    conn: &mut PgConnection,
    mirror: &Mirror,
    mut open: Vec<(ObjectKey, History)>,
) -> Result<Vec<(ObjectKey, Head)>, sqlx::Error> {
    let mut heads = Vec::new();
    loop {
        let mut asking = Vec::new();
        for (key, history) in open {
            match history.head() {
                Answer::Head(head) => heads.push((key, *head)),
                Answer::Nothing => {}
                Answer::Needs(until) => asking.push((key, history, until)),
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

/// What the batch alone tells of each object. Everything after the mirror's version is in the batch, since
/// whatever was merged before is at or before it.
fn histories(mirror: &Mirror, arrivals: Vec<Arrival>) -> BTreeMap<ObjectKey, History> {
    let mut histories: BTreeMap<ObjectKey, History> = BTreeMap::new();
    let mut newest: BTreeMap<ObjectKey, OffsetDateTime> = BTreeMap::new();
    for Arrival { key, snapshot } in arrivals {
        let latest = newest.entry(key.clone()).or_insert(snapshot.created);
        *latest = (*latest).max(snapshot.created);
        let known = content(mirror, &key);
        let history = histories.entry(key).or_insert_with(|| {
            let mut history = History::complete_after(known.map(|one| one.version));
            if let Some(one) = known.filter(|one| one.origin != Origin::Event) {
                history.seen_otherwise(one.version);
            }
            history
        });
        history.add(snapshot);
    }
    // an event that is merely older than the head is no doubt and changes nothing
    histories.retain(|key, _| content(mirror, key).is_none_or(|one| one.circuit || newest[key] >= one.version));
    histories
}

/// Adds one more second of the archive to each history that asks for it.
async fn read_back(
    conn: &mut PgConnection,
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
        // one tick before that second, so that the second itself counts as known
        let reached = second.first().map(|one| one.created - time::Duration::MICROSECOND);
        for one in second {
            history.add(one);
        }
        history.now_complete_after(reached);
        let remembered = content(mirror, &key).filter(|one| one.origin == Origin::Event);
        if let (None, Some(content)) = (reached, remembered) {
            // the archive ends here; the mirror may remember a state that retention has removed from it
            history.remember(content.version, &content.json);
        }
        histories.push((key, history));
    }
    Ok(histories)
}
