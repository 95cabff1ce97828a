//! `outbox retry` and `outbox discard`: only dead events are accepted; others are refused one by one.

use std::collections::BTreeMap;
use std::process::ExitCode;

use sqlx::{Connection, PgConnection};

use crate::cli::output;
use crate::cli::settings::{DatabaseSettings, SettingArgs};
use crate::outbox::admin;
use crate::outbox::wake::wake;

/// Arguments of `outbox retry`.
#[derive(Debug, clap::Args)]
pub struct RetryArgs {
    /// Stripe event ids (evt_…).
    #[arg(value_name = "EVENT_ID", required_unless_present = "all_dead", conflicts_with = "all_dead")]
    event_ids: Vec<String>,
    /// Retry every dead event.
    #[arg(long)]
    all_dead: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
}

/// Arguments of `outbox discard`.
#[derive(Debug, clap::Args)]
pub struct DiscardArgs {
    /// Stripe event ids (evt_…).
    #[arg(value_name = "EVENT_ID", required = true)]
    event_ids: Vec<String>,
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
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

/// Notifies the workers. A failure is harmless, because they find the events when they poll.
async fn wake_workers(conn: &mut PgConnection) {
    if let Err(error) = wake(conn).await {
        tracing::debug!(error = %error, "could not notify the workers");
    }
}

pub(super) async fn discard(conn: &mut PgConnection, args: &DiscardArgs) -> anyhow::Result<ExitCode> {
    let mut transaction = conn.begin().await?;
    let states = states(&mut transaction, &args.event_ids).await?;
    admin::discard(&mut transaction, &dead(&states)).await?;
    transaction.commit().await?;
    report(&args.event_ids, &states, "is discarded: state done, outcome ignored, reason discarded")
}

/// The states before the change, by event id. The rows are locked, so the reported state is the one that was changed.
async fn states(conn: &mut PgConnection, event_ids: &[String]) -> Result<BTreeMap<String, String>, sqlx::Error> {
    let mut states = BTreeMap::new();
    for (event_id, state) in admin::lock(conn, event_ids).await? {
        // if several rows have this id, the dead one counts, because only it can be retried or discarded
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
                output::complain(&format!("{event_id} is {state}, not dead; it was not changed"));
            }
            None => {
                refused += 1;
                output::complain(&format!("{event_id} is not in the outbox"));
            }
        }
    }
    anyhow::ensure!(refused == 0, "{refused} of {} events were not changed", event_ids.len());
    Ok(ExitCode::SUCCESS)
}
