//! `writes resolve`: records what an operator found at Stripe, and only where billing-sync cannot find it.

use std::process::ExitCode;

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::show::unknown;
use crate::base::text::to_the_second;
use crate::cli::arguments::reason;
use crate::cli::output;
use crate::cli::settings::{DatabaseSettings, SettingArgs};
use crate::database::Connection;
use crate::ledger::admin::{self, Decision, Line, Surroundings};
use crate::ledger::links;

/// Time without an attempt after which an open line may be decided: no process that sends it is running.
const IDLE: Duration = Duration::HOUR;

/// Arguments of `writes resolve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the change: of unknown outcome, or open and not tried for an hour.
    #[arg(value_name = "ID")]
    id: Uuid,
    /// Whether Stripe made the change.
    #[arg(long = "as", value_name = "OUTCOME", value_enum)]
    outcome: Outcome,
    /// How you know it; stored with the change.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    /// Stripe's id of the new object; required with `--as done` if the change creates one.
    #[arg(long, value_name = "OBJECT_ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    object: Option<String>,
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Outcome {
    /// Stripe made the change.
    Done,
    /// Stripe did not make the change; the client may repeat its request.
    Refused,
}

pub(super) async fn resolve(conn: &mut Connection, args: &Args) -> anyhow::Result<ExitCode> {
    let mut transaction = conn.begin().await?;
    let line = admin::lock(&mut transaction, args.id).await?.ok_or_else(|| unknown(args.id))?;
    let around = admin::surroundings(&mut transaction, args.id).await?.ok_or_else(|| unknown(args.id))?;
    if let Some(wrong) = refusal(&line, &around).or_else(|| args.wrong_object(&line)) {
        anyhow::bail!("{} {wrong}; it was not changed", line.id);
    }
    let is_done = args.outcome == Outcome::Done;
    let decision = Decision {
        is_done,
        object_id: args.object.as_deref(),
        reason: &args.reason,
        // the worker of replacements finds a session; the second step of a payment link begins with its answer only
        keeps_follow_up: is_done && line.replaces.is_some(),
    };
    let forgot = admin::resolve(&mut transaction, line.id, decision).await?;
    // other lines have no row of a checkout link
    match &args.object {
        Some(created) => links::created(&mut transaction, line.id, created, None).await?,
        None if is_done => {}
        None => links::refused(&mut transaction, line.id).await?,
    }
    transaction.commit().await?;
    output::print(&output::wrapped("", &result(&line, is_done, forgot)))?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// Why the object does not fit the line.
    fn wrong_object(&self, line: &Line) -> Option<String> {
        match (&self.object, &line.object_id) {
            (Some(_), _) if self.outcome == Outcome::Refused => {
                Some("has no object if it was refused: omit --object".to_owned())
            }
            (Some(given), Some(known)) if given != known => Some(format!("is about {known}: omit --object")),
            (None, None) if self.outcome == Outcome::Done => {
                Some(format!("creates a {}: add --object with its id at Stripe", line.object_type))
            }
            _ => None,
        }
    }
}

/// Why a line cannot be decided by an operator.
fn refusal(line: &Line, around: &Surroundings) -> Option<String> {
    if line.state == "unknown" {
        return None;
    }
    if !line.is_open() {
        return Some(format!("is {}, not unknown", line.state));
    }
    if around.is_leased {
        return Some(format!(
            "is {}, and a process is sending it, at most until {}: wait for the outcome",
            line.state,
            line.leased_until.map(to_the_second).unwrap_or_default()
        ));
    }
    is_recent(line.tried_at(), around.now).then(|| {
        format!(
            "is {}, and was tried within the last hour or is about to be (last_error: {}). A process with the role api and \
             STRIPE_WRITE_KEY finds the outcome; it can be resolved after an hour without an attempt",
            line.state,
            line.last_error.as_deref().unwrap_or("none")
        )
    })
}

fn is_recent(tried_at: OffsetDateTime, now: OffsetDateTime) -> bool {
    now - tried_at <= IDLE
}

fn result(line: &Line, is_done: bool, forgot: bool) -> String {
    let id = line.id;
    if !is_done {
        let repeat = if forgot { "; the client may repeat its request with the same Idempotency-Key" } else { "" };
        return format!("{id} is refused{repeat}");
    }
    let by_hand = line.follow_up_due && line.replaces.is_none();
    let follow_up = if by_hand { ". Deactivate the payment link in the Stripe dashboard: no step follows" } else { "" };
    format!("{id} is done{follow_up}")
}
