//! What a read comes to: merged like an event, and the job settled, in one transaction.
//!
//! Called by the fetcher with what was looked up. Calls nothing outside.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::look_up::{LookUp, Part};
use crate::domain::object::ObjectKey;
use crate::jobs::{Job, settle};
use crate::mirror::facts::fold;
use crate::mirror::merge::{Embedded, Found, Read};
use crate::stripe::json::Json;
use crate::stripe::{embedded, reference};
use crate::worker::Context;
use crate::worker::batch::Tally;
use crate::worker::effect::{self, Applied, Touch, Work};
use crate::worker::failure::Failure;

/// What causes the changes of a read, in `row_changes`.
const CAUSE: &str = "read";

/// Merges what was read and settles the job, all but the commit.
pub(super) async fn store(
    conn: &mut PgConnection,
    context: &Context,
    job: &Job,
    found: LookUp,
) -> Result<Tally, Failure> {
    let LookUp { parts, request_id } = found;
    let Some(version) = parts.first().map(|part| part.version) else {
        // there is no way to read it: nothing more can be known
        settle::done(conn, &[job]).await?;
        return Ok(Tally::default());
    };
    let missing = parts.first().is_some_and(|part| part.json.is_none());
    let mut work = Work::default();
    for part in parts {
        add(&mut work, part);
    }
    let applied = effect::apply(conn, context, work).await?;
    let outcome = match (missing, applied.merged.read.contains(&job.key)) {
        (true, _) => "missing",
        (false, true) => "applied",
        (false, false) => "superseded",
    };
    settle::note_read(conn, job, version, outcome, request_id.as_deref()).await?;
    let wait = context.read_margin + Duration::from_secs(1);
    if job.later_than.is_some_and(|second| version <= second) {
        settle::put_back(conn, job, wait, false, None).await?;
    } else if applied.demands.has_fetch(&job.key) {
        // what was to be found is not there yet, or the object has changed within the margin: not at once again, and
        // ever more rarely
        settle::put_back(conn, job, wait.max(context.backoff(job.attempt)), true, None).await?;
    } else {
        settle::done(conn, &[job]).await?;
    }
    Ok(tally(applied))
}

/// Adds one object that was read, and those inside it.
fn add(work: &mut Work, part: Part) {
    let Part { key, version, json, expansion } = part;
    let mut touch = work.touches.remove(CAUSE).unwrap_or_default();
    touch.objects.insert(key.clone());
    let found = match json {
        None => Found::Nothing,
        Some(json) => add_content(work, &mut touch, &key, version, json),
    };
    work.incoming.reads.push(Read { key, version, found, expansion });
    work.touches.insert(CAUSE.to_owned(), touch);
}

fn add_content(work: &mut Work, touch: &mut Touch, key: &ObjectKey, version: OffsetDateTime, json: String) -> Found {
    let object = Json::parse(&json).unwrap_or(Json::NULL);
    if object.get("deleted").boolean() == Some(true) {
        return Found::Stub;
    }
    let account = key.account.as_str();
    let inside = embedded::embedded(object);
    let all = inside.iter().map(|one| (one.object_type, one.content)).chain([(key.object_type.as_str(), object)]);
    for (kind, content) in all {
        let facts = fold::fold(kind, content, version, CAUSE);
        touch.pays |= facts.iter().any(effect::is_of_payment);
        work.facts.extend(facts.into_iter().map(|fact| (account.to_owned(), fact)));
        let named: BTreeSet<(&'static str, String)> = reference::named(kind, content);
        touch.named.extend(named.into_iter().map(|(kind, id)| ObjectKey::new(account, kind, &id)));
        touch.customers.extend(reference::customer_of(content).map(|id| ObjectKey::new(account, "customer", &id)));
    }
    for one in inside {
        let key = ObjectKey::new(account, one.object_type, &one.object_id);
        touch.objects.insert(key.clone());
        let (event_id, json) = (CAUSE.to_owned(), one.content.raw().to_owned());
        work.incoming.embedded.push(Embedded { key, event_id, version, json });
    }
    Found::Content(json)
}

fn tally(applied: Applied) -> Tally {
    Tally {
        reasons: applied.notes.into_values().flatten().collect(),
        doubts: u64::try_from(applied.merged.doubts.len()).unwrap_or(u64::MAX),
        demanded: !applied.demands.is_empty(),
        ..Tally::default()
    }
}
