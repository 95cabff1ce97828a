//! Plays the story: posts each event, waits until the worker is done with it, consumes limits, and reads the rows.
//!
//! Owns the comparison with the story. Must not know how the service was started.

use std::io::Write;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::consume::{self, ConsumeAnswer};
use super::deliver::{Answer, Postman};
use super::error::DemoError;
use super::history;
use super::queries::{self, SETTLE_LIMIT};
use super::report::{Report, Tables};
use super::rows::{Line, Row, SettledRow};
use super::story::{self, Act, Consume, Consumed, Expected, Renewal, Request, Step, Story};
use crate::database::Connection;

/// Least and longest time until the end of Cleo's month. Before it, the demo posts an event and consumes twice.
const LEAD: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(1)];

/// What is needed to play an act.
struct Stage<'a, 'b, W> {
    conn: &'a mut Connection,
    postman: &'a Postman,
    report: &'a mut Report<'b, W>,
}

/// Plays the story, act by act, then prints the tables.
pub(super) async fn play_story<W: Write>(
    conn: &mut Connection,
    postman: &Postman,
    report: &mut Report<'_, W>,
    keep: bool,
) -> Result<(), DemoError> {
    let mut stage = Stage { conn, postman, report };
    let mut story = Story::new();
    let began = Instant::now();
    let opening = story.opening(queries::now(stage.conn).await?);
    let mut mistakes = stage.play(&opening).await?;
    let now = queries::now(stage.conn).await?;
    let cleo = story.cleo(now, month_end(now, began.elapsed()));
    mistakes.extend(stage.play_all(&cleo.before).await?);
    mistakes.extend(stage.play_all(&story.acts).await?);
    mistakes.extend(stage.play(&cleo.after).await?);

    let acts: Vec<&Act> = [&opening].into_iter().chain(&cleo.before).chain(&story.acts).chain([&cleo.after]).collect();
    let ending: Vec<Row> = story::ending().into_iter().chain(cleo.ending).collect();
    mistakes.extend(check_ending(conn, &acts, &ending).await?);
    let tables = tables(conn).await?;
    mistakes.extend(judge_lines("Cleo's words", &cleo.statement, &tables.statement));
    mistakes.extend(judge_lines(story::ADA_SUB, &story::history(), &tables.changes));
    print(conn, report, &tables).await?;
    if !mistakes.is_empty() {
        return Err(DemoError::Differences(mistakes));
    }
    report.all_as_expected(&acts, keep)?;
    Ok(())
}

/// The first whole second after the lead. A slow machine needs a longer one: six times the time of the opening, which
/// posts two events.
fn month_end(now: OffsetDateTime, opening: Duration) -> OffsetDateTime {
    let [least, longest] = LEAD;
    let end = now + (opening * 6).clamp(least, longest);
    end.replace_nanosecond(0).unwrap_or(end) + Duration::from_secs(1)
}

impl<W: Write> Stage<'_, '_, W> {
    /// Plays these acts and returns the differences from the story.
    async fn play_all(&mut self, acts: &[Act]) -> Result<Vec<String>, DemoError> {
        let mut mistakes = Vec::new();
        for act in acts {
            mistakes.extend(self.play(act).await?);
        }
        Ok(mistakes)
    }

    async fn play(&mut self, act: &Act) -> Result<Vec<String>, DemoError> {
        self.report.act(act)?;
        let mut mistakes = Vec::new();
        for step in &act.steps {
            match step {
                Step::Request(request) => mistakes.extend(self.post(request).await?),
                Step::Consume(call) => mistakes.extend(self.consume(call).await?),
                Step::Renewal(renewal) => self.wait_for(renewal).await?,
            }
        }
        let row = queries::same_key(self.conn, &act.leaves).await?;
        if let Row::Limit(limit) = &act.leaves {
            // after that time the next period has begun, and other answers and rows are right
            let now = queries::now(self.conn).await?;
            if limit.limit_renewal_date.is_some_and(|end| end <= now) {
                return Err(DemoError::Slow);
            }
        }
        if let Some(row) = &row {
            self.report.row_after(row)?;
        }
        mistakes.extend(act.leaves.differences(row.as_ref()));
        for mistake in &mistakes {
            self.report.mistake(mistake)?;
        }
        Ok(mistakes)
    }

    async fn post(&mut self, request: &Request) -> Result<Vec<String>, DemoError> {
        let event_id = || request.event.id.clone();
        let answer = self.postman.deliver(&request.event, request.delivery).await;
        let answer = answer.map_err(|source| DemoError::Delivery { event_id: event_id(), source })?;
        self.report.request(request, answer.status.as_u16())?;
        let mut mistakes = Vec::from_iter(judge_answer(request, &answer));
        if matches!(request.expected, Expected::Stored { .. }) && answer.status.is_success() {
            // one at a time, so that the outcomes do not depend on the speed of the worker
            let settled = tokio::time::timeout(SETTLE_LIMIT, queries::settled(self.conn, &request.event.id)).await;
            let settled = settled.map_err(|_| DemoError::Unsettled { event_id: event_id() })??;
            mistakes.extend(judge_outcome(request, &settled));
        }
        Ok(mistakes)
    }

    async fn consume(&mut self, call: &Consume) -> Result<Option<String>, DemoError> {
        let answer = consume::consume(self.conn, call).await?;
        self.report.call(call, &answer)?;
        Ok(judge_call(call, &answer))
    }

    /// Waits until the period is over and the scheduler has renewed the limit.
    async fn wait_for(&mut self, renewal: &Renewal) -> Result<(), DemoError> {
        self.report.waiting(renewal)?;
        let left = renewal.period_end - queries::now(self.conn).await?;
        tokio::time::sleep(left.try_into().unwrap_or_default()).await;
        let renewed = queries::renewed(self.conn, renewal.subscription, renewal.period_end);
        let renewed = tokio::time::timeout(SETTLE_LIMIT, renewed).await;
        renewed.map_err(|_| DemoError::NotRenewed { subscription: renewal.subscription })??;
        Ok(())
    }
}

fn judge_answer(request: &Request, answer: &Answer) -> Option<String> {
    let (status, text) = match request.expected {
        Expected::Stored { .. } => (200, "stored"),
        Expected::Known => (200, "already known"),
        Expected::Refused(text) => (400, text),
    };
    let as_expected = answer.status == status && answer.text.starts_with(text);
    let (id, found) = (&request.event.id, answer.status.as_u16());
    (!as_expected).then(|| format!("{id}: the answer should be {status} {text}, but is {found} {}", answer.text))
}

fn judge_outcome(request: &Request, settled: &SettledRow) -> Option<String> {
    let Expected::Stored { outcome, reason } = request.expected else { return None };
    let as_expected = settled.outcome.as_deref() == Some(outcome) && settled.reason.as_deref() == reason;
    let expected = [Some(outcome), reason];
    let found = [Some(settled.state.as_str()), settled.outcome.as_deref(), settled.reason.as_deref()];
    let found = found.into_iter().chain([settled.last_error.as_deref()]);
    let words = |words: &mut dyn Iterator<Item = Option<&str>>| words.flatten().collect::<Vec<_>>().join(" ");
    let (expected, found) = (words(&mut expected.into_iter()), words(&mut found.into_iter()));
    (!as_expected).then(|| format!("{}: the outbox should contain {expected}, but contains {found}", request.event.id))
}

fn judge_call(call: &Consume, answer: &ConsumeAnswer) -> Option<String> {
    let as_expected = match (call.expected, answer) {
        (Consumed::Left(left), ConsumeAnswer::Left(found)) => *found == Some(left),
        (Consumed::Refused(left), ConsumeAnswer::Refused { sqlstate, detail, .. }) => {
            sqlstate == "LM001" && detail.as_deref() == Some(&left.to_string())
        }
        _ => false,
    };
    let statement = consume::statement(call);
    (!as_expected).then(|| format!("{statement} should give {:?}, but gives {answer:?}", call.expected))
}

/// Checks at the end: the rows of earlier acts are unchanged, refused events are not stored, and all others are stored
/// once. Other senders may be active during a kept demo, so only its own events are checked.
async fn check_ending(conn: &mut Connection, acts: &[&Act], ending: &[Row]) -> Result<Vec<String>, DemoError> {
    let mut mistakes = Vec::new();
    for expected in ending {
        let found = queries::same_key(conn, expected).await?;
        let differences = expected.differences(found.as_ref());
        mistakes.extend(differences.into_iter().map(|difference| format!("at the end, {difference}")));
    }
    let requests = || acts.iter().flat_map(|act| act.requests());
    let all: Vec<String> = requests().map(|request| request.event.id.clone()).collect();
    let stored = queries::stored(conn, &all).await?;
    for Request { event, .. } in requests() {
        let wanted = requests().any(|it| it.event.id == event.id && matches!(it.expected, Expected::Stored { .. }));
        let found = stored.iter().filter(|id| **id == event.id).count();
        let wanted = usize::from(wanted);
        if found != wanted {
            mistakes.push(format!("{}: the outbox should have {wanted} rows of it, but has {found}", event.id));
        }
    }
    Ok(mistakes)
}

async fn tables(conn: &mut Connection) -> Result<Tables, sqlx::Error> {
    Ok(Tables {
        workspaces: queries::workspaces(conn).await?,
        statement: history::statement(conn, story::WORKSPACE, story::WORDS).await?,
        changes: history::changes(conn, story::ADA_SUB).await?,
        contacts: queries::contacts(conn).await?,
        subscriptions: queries::subscriptions(conn).await?,
        outcomes: queries::outcomes(conn).await?,
    })
}

async fn print<W: Write>(conn: &mut Connection, report: &mut Report<'_, W>, tables: &Tables) -> Result<(), DemoError> {
    if report.is_json() {
        for line in queries::as_json(conn).await? {
            report.row(&line)?;
        }
        return Ok(());
    }
    report.tables(tables)?;
    Ok(())
}

fn judge_lines<const N: usize>(of: &str, expected: &[Line<N>], found: &[Line<N>]) -> Option<String> {
    let text = |lines: &[Line<N>]| lines.iter().map(|line| line.join(" ")).collect::<Vec<_>>().join("; ");
    (expected != found).then(|| format!("the history of {of} should be: {}, but is: {}", text(expected), text(found)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::StatusCode;
    use time::macros::datetime;

    fn request(wanted: fn(&Expected) -> bool) -> Request {
        let story = Story::new();
        let steps = story.acts.into_iter().flat_map(|act| act.steps);
        let requests = steps.filter_map(|step| if let Step::Request(request) = step { Some(request) } else { None });
        requests.into_iter().find(|request| wanted(&request.expected)).unwrap()
    }

    fn answer(status: StatusCode, text: &str) -> Answer {
        Answer { status, text: text.to_owned() }
    }

    #[test]
    fn an_unexpected_answer_is_reported() {
        let refused = request(|it| matches!(it, Expected::Refused(_)));
        assert_eq!(judge_answer(&refused, &answer(StatusCode::BAD_REQUEST, "no signature matches: is …")), None);
        for (status, text) in [(StatusCode::OK, "stored"), (StatusCode::BAD_REQUEST, "the body is no event")] {
            assert!(judge_answer(&refused, &answer(status, text)).is_some(), "{status} {text}");
        }
        let known = request(|it| matches!(it, Expected::Known));
        assert!(judge_answer(&known, &answer(StatusCode::OK, "stored")).is_some());
    }

    #[test]
    fn an_unexpected_answer_of_consume_is_reported() {
        let call = |expected| Consume { workspace: story::WORKSPACE, limit_key: story::WORDS, amount: 500, expected };
        let refused = |sqlstate: &str, detail: &str| ConsumeAnswer::Refused {
            sqlstate: sqlstate.to_owned(),
            message: String::new(),
            detail: Some(detail.to_owned()),
            hint: None,
        };
        let granted = call(Consumed::Left(400));
        assert_eq!(judge_call(&granted, &ConsumeAnswer::Left(Some(400))), None);
        for wrong in [ConsumeAnswer::Left(Some(401)), ConsumeAnswer::Left(None), refused("LM001", "400")] {
            assert!(judge_call(&granted, &wrong).is_some(), "{wrong:?}");
        }
        let not_granted = call(Consumed::Refused(400));
        assert_eq!(judge_call(&not_granted, &refused("LM001", "400")), None);
        for wrong in [ConsumeAnswer::Left(Some(400)), refused("LM001", "0"), refused("LM002", "400")] {
            assert!(judge_call(&not_granted, &wrong).is_some(), "{wrong:?}");
        }
    }

    #[test]
    fn an_unexpected_history_is_reported() {
        let line = |text: &str| [text.to_owned()];
        assert_eq!(judge_lines("it", &[line("a")], &[line("a")]), None);
        for wrong in [vec![], vec![line("b")], vec![line("a"), line("a")]] {
            assert!(judge_lines("it", &[line("a")], &wrong).is_some(), "{wrong:?}");
        }
    }

    #[test]
    fn a_month_ends_at_a_whole_second_after_enough_time() {
        let now = datetime!(2026-12-31 23:59:58.25 UTC);
        for (opening, least) in [(0, 1000), (100, 1000), (500, 3000), (20_000, 60_000)] {
            let left = month_end(now, Duration::from_millis(opening)) - now;
            assert!(left > time::Duration::milliseconds(least), "{left}");
            assert!(left <= time::Duration::milliseconds(least + 1000), "{left}");
        }
        assert_eq!(month_end(now, Duration::ZERO).nanosecond(), 0);
    }

    #[test]
    fn an_unexpected_outcome_is_reported() {
        let applied = request(|it| *it == Expected::Stored { outcome: "applied", reason: None });
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
