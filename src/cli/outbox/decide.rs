//! `outbox retry` and `outbox discard`: what is dead is decided on; anything else is refused, event by event.

use std::collections::BTreeMap;
use std::process::ExitCode;

use sqlx::{Connection, PgConnection};

use super::Settings;
use crate::cli::output;
use crate::cli::settings::SettingArgs;
use crate::outbox::admin;
use crate::outbox::wake::wake;

/// Arguments of `outbox retry`.
#[derive(Debug, clap::Args)]
pub struct RetryArgs {
    /// Stripe's event ids (evt_…).
    #[arg(value_name = "EVENT_ID", required_unless_present = "all_dead", conflicts_with = "all_dead")]
    event_ids: Vec<String>,
    /// Every dead event.
    #[arg(long)]
    all_dead: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<Settings>,
}

/// Arguments of `outbox discard`.
#[derive(Debug, clap::Args)]
pub struct DiscardArgs {
    /// Stripe's event ids (evt_…).
    #[arg(value_name = "EVENT_ID", required = true)]
    event_ids: Vec<String>,
    #[command(flatten)]
    pub(super) settings: SettingArgs<Settings>,
}

pub(super) async fn retry(conn: &mut PgConnection, args: &RetryArgs) -> anyhow::Result<ExitCode> {
    if args.all_dead {
        let retried = admin::retry(conn, None).await?.len();
        wake_workers(conn).await;
        output::print(&match retried {
            0 => "There are no dead events.".to_owned(),
            1 => "1 dead event is pending again.".to_owned(),
            count => format!("{count} dead events are pending again."),
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut transaction = conn.begin().await?;
    let states = states(&mut transaction, &args.event_ids).await?;
    admin::retry(&mut transaction, Some(&dead(&states))).await?;
    transaction.commit().await?;
    wake_workers(conn).await;
    report(&args.event_ids, &states, "is pending again")
}

/// What was decided stands, whether they hear of it now or find it when they poll.
async fn wake_workers(conn: &mut PgConnection) {
    if let Err(error) = wake(conn).await {
        tracing::debug!(error = %error, "cannot notify the workers");
    }
}

pub(super) async fn discard(conn: &mut PgConnection, args: &DiscardArgs) -> anyhow::Result<ExitCode> {
    let mut transaction = conn.begin().await?;
    let states = states(&mut transaction, &args.event_ids).await?;
    admin::discard(&mut transaction, &dead(&states)).await?;
    transaction.commit().await?;
    report(&args.event_ids, &states, "is given up: done, ignored, discarded")
}

/// The states before the decision, by event id. Locked, so that what is reported is what was decided on.
async fn states(conn: &mut PgConnection, event_ids: &[String]) -> Result<BTreeMap<String, String>, sqlx::Error> {
    let mut states = BTreeMap::new();
    for (event_id, state) in admin::lock(conn, event_ids).await? {
        // of several rows with one id the dead one counts: it is the one that can be decided on
        if state == "dead" || !states.contains_key(&event_id) {
            states.insert(event_id, state);
        }
    }
    Ok(states)
}

fn dead(states: &BTreeMap<String, String>) -> Vec<String> {
    states.iter().filter(|(_, state)| *state == "dead").map(|(event_id, _)| event_id.clone()).collect()
}

fn report(event_ids: &[String], states: &BTreeMap<String, String>, done: &str) -> anyhow::Result<ExitCode> {
    let mut refused = 0;
    for event_id in event_ids {
        match states.get(event_id).map(String::as_str) {
            Some("dead") => output::print(&format!("{event_id} {done}"))?,
            Some(state) => {
                refused += 1;
                output::complain(&format!("{event_id} is {state}, not dead: left as it is"));
            }
            None => {
                refused += 1;
                output::complain(&format!("{event_id} is not in the outbox"));
            }
        }
    }
    anyhow::ensure!(refused == 0, "{refused} of {} events could not be decided on", event_ids.len());
    Ok(ExitCode::SUCCESS)
}
