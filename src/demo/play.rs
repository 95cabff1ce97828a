//! Plays the story: posts each event, waits until the worker is done with it, and reads the rows.
//!
//! Owns the comparison with the story. Must not know how the service was started.

use std::io::Write;

use sqlx::PgConnection;

use super::deliver::{Answer, Postman};
use super::error::DemoError;
use super::report::{Report, Tables};
use super::rows::{self, SETTLE_LIMIT, SettledRow};
use super::story::{self, Act, Expected, Step};

/// Plays the story, act by act, then prints the tables.
pub(super) async fn play_story<W: Write>(
    conn: &mut PgConnection,
    postman: &Postman,
    report: &mut Report<'_, W>,
    keep: bool,
) -> Result<(), DemoError> {
    let acts = story::acts();
    let mut mistakes = Vec::new();
    for act in &acts {
        report.act(act)?;
        mistakes.extend(play(conn, postman, report, act).await?);
    }
    mistakes.extend(check_ending(conn, &acts).await?);
    print(conn, report).await?;
    if !mistakes.is_empty() {
        return Err(DemoError::Differences(mistakes));
    }
    report.all_as_expected(&acts, keep)?;
    Ok(())
}

/// Plays one act and returns the differences from the story.
async fn play<W: Write>(
    conn: &mut PgConnection,
    postman: &Postman,
    report: &mut Report<'_, W>,
    act: &Act,
) -> Result<Vec<String>, DemoError> {
    let mut mistakes = Vec::new();
    for step in &act.steps {
        let event_id = || step.event.id.clone();
        let answer = postman.deliver(&step.event, step.delivery).await;
        let answer = answer.map_err(|source| DemoError::Delivery { event_id: event_id(), source })?;
        report.request(step, answer.status.as_u16())?;
        mistakes.extend(judge_answer(step, &answer));
        if matches!(step.expected, Expected::Stored { .. }) && answer.status.is_success() {
            // one at a time, so that the outcomes do not depend on the speed of the worker
            let settled = tokio::time::timeout(SETTLE_LIMIT, rows::settled(conn, &step.event.id)).await;
            let settled = settled.map_err(|_| DemoError::Unsettled { event_id: event_id() })??;
            mistakes.extend(judge_outcome(step, &settled));
        }
    }
    let row = rows::same_key(conn, &act.leaves).await?;
    if let Some(row) = &row {
        report.row_after(row)?;
    }
    mistakes.extend(act.leaves.differences(row.as_ref()));
    for mistake in &mistakes {
        report.mistake(mistake)?;
    }
    Ok(mistakes)
}

fn judge_answer(step: &Step, answer: &Answer) -> Option<String> {
    let (status, text) = match step.expected {
        Expected::Stored { .. } => (200, "stored"),
        Expected::Known => (200, "already known"),
        Expected::Refused(text) => (400, text),
    };
    let as_expected = answer.status == status && answer.text.starts_with(text);
    let (id, found) = (&step.event.id, answer.status.as_u16());
    (!as_expected).then(|| format!("{id}: the answer should be {status} {text}, but is {found} {}", answer.text))
}

fn judge_outcome(step: &Step, settled: &SettledRow) -> Option<String> {
    let Expected::Stored { outcome, reason } = step.expected else { return None };
    let as_expected = settled.outcome.as_deref() == Some(outcome) && settled.reason.as_deref() == reason;
    let expected = [Some(outcome), reason];
    let found = [Some(settled.state.as_str()), settled.outcome.as_deref(), settled.reason.as_deref()];
    let found = found.into_iter().chain([settled.last_error.as_deref()]);
    let words = |words: &mut dyn Iterator<Item = Option<&str>>| words.flatten().collect::<Vec<_>>().join(" ");
    let (expected, found) = (words(&mut expected.into_iter()), words(&mut found.into_iter()));
    (!as_expected).then(|| format!("{}: the outbox should contain {expected}, but contains {found}", step.event.id))
}

/// Checks at the end: the rows of earlier acts are unchanged, refused events are not stored, and all others are stored
/// once. Other senders may be active during a kept demo, so only its own events are checked.
async fn check_ending(conn: &mut PgConnection, acts: &[Act]) -> Result<Vec<String>, DemoError> {
    let mut mistakes = Vec::new();
    for expected in story::ending() {
        let found = rows::same_key(conn, &expected).await?;
        let differences = expected.differences(found.as_ref());
        mistakes.extend(differences.into_iter().map(|difference| format!("at the end, {difference}")));
    }
    let steps = || acts.iter().flat_map(|act| &act.steps);
    let all: Vec<String> = steps().map(|step| step.event.id.clone()).collect();
    let stored = rows::stored(conn, &all).await?;
    for Step { event, .. } in steps() {
        let wanted = steps().any(|it| it.event.id == event.id && matches!(it.expected, Expected::Stored { .. }));
        let found = stored.iter().filter(|id| **id == event.id).count();
        let wanted = usize::from(wanted);
        if found != wanted {
            mistakes.push(format!("{}: the outbox should have {wanted} rows of it, but has {found}", event.id));
        }
    }
    Ok(mistakes)
}

async fn print<W: Write>(conn: &mut PgConnection, report: &mut Report<'_, W>) -> Result<(), DemoError> {
    if report.is_json() {
        for line in rows::as_json(conn).await? {
            report.row(&line)?;
        }
        return Ok(());
    }
    let tables = Tables {
        contacts: rows::contacts(conn).await?,
        subscriptions: rows::subscriptions(conn).await?,
        plans: rows::plans(conn).await?,
        outcomes: rows::outcomes(conn).await?,
    };
    report.tables(&tables)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::StatusCode;

    fn step(wanted: fn(&Expected) -> bool) -> Step {
        story::acts().into_iter().flat_map(|act| act.steps).find(|step| wanted(&step.expected)).unwrap()
    }

    fn answer(status: StatusCode, text: &str) -> Answer {
        Answer { status, text: text.to_owned() }
    }

    #[test]
    fn an_unexpected_answer_is_reported() {
        let refused = step(|it| matches!(it, Expected::Refused(_)));
        assert_eq!(judge_answer(&refused, &answer(StatusCode::BAD_REQUEST, "no signature matches: is …")), None);
        for (status, text) in [(StatusCode::OK, "stored"), (StatusCode::BAD_REQUEST, "the body is no event")] {
            assert!(judge_answer(&refused, &answer(status, text)).is_some(), "{status} {text}");
        }
        let known = step(|it| matches!(it, Expected::Known));
        assert!(judge_answer(&known, &answer(StatusCode::OK, "stored")).is_some());
    }

    #[test]
    fn an_unexpected_outcome_is_reported() {
        let applied = step(|it| *it == Expected::Stored { outcome: "applied", reason: None });
        let settled = |state: &str, outcome: Option<&str>, last_error: Option<&str>| SettledRow {
            state: state.to_owned(),
            outcome: outcome.map(ToOwned::to_owned),
            reason: None,
            last_error: last_error.map(ToOwned::to_owned),
        };
        assert_eq!(judge_outcome(&applied, &settled("done", Some("applied"), None)), None);
        assert!(judge_outcome(&applied, &settled("done", Some("superseded"), None)).is_some());
        let dead = judge_outcome(&applied, &settled("dead", None, Some("it panicked"))).unwrap();
        assert!(dead.ends_with("contains dead it panicked"), "{dead}");
    }
}
