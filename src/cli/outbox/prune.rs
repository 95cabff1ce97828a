//! `outbox prune`: removes what is older than the retention, as `serve` with the role maintenance does every hour.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::base::text::{counted, to_the_second};
use crate::cli::output;
use crate::cli::settings::{RetentionSettings, SettingArgs};
use crate::config::parse::in_words;
use crate::config::retention::RetentionConfig;
use crate::database::Connection;
use crate::maintenance::retention::{self, Done, Month, name};

/// Arguments of `outbox prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove nothing; list the months that would be dropped or kept.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON, one object per line, and the summary as the last one.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<RetentionSettings>,
}

pub(super) async fn prune(conn: &mut Connection, args: &Args, config: &RetentionConfig) -> anyhow::Result<ExitCode> {
    let plan = retention::plan(conn, config.retention).await?;
    let mut left = 0;
    if args.dry_run {
        for month in &plan.months {
            left += usize::from(month.is_kept());
            let line = json!({ "month": name(month.month), "would": if month.is_kept() { "keep" } else { "drop" },
                "pending": month.has_pending, "dead": month.has_dead });
            let text = if month.is_kept() { kept(month) } else { format!("would drop {}", name(month.month)) };
            print(args, &line, &text)?;
        }
    }
    let mut deleted: BTreeMap<&str, u64> = BTreeMap::new();
    let mut dropped = 0;
    let mut printed = Ok(());
    let mut note = |done: Done| match done {
        Done::Dropped(parent, month) => {
            dropped += 1;
            let (table, month) = (parent.as_str(), name(month));
            let line = json!({ "month": month, "dropped": table });
            print(args, &line, &format!("dropped {month} of {table}"))
        }
        Done::Kept(month) => {
            left += 1;
            let line = json!({ "month": name(month.month), "kept": true,
                "pending": month.has_pending, "dead": month.has_dead });
            print(args, &line, &kept(&month))
        }
        Done::Busy(parent, month) => {
            left += 1;
            let (table, month) = (parent.as_str(), name(month));
            let line = json!({ "month": month, "busy": table });
            let text = format!("left {month}: other sessions used billing.{table} all the time; run this again");
            print(args, &line, &text)
        }
        Done::DeletedEvents(count) => {
            *deleted.entry("outbox").or_default() += count;
            Ok(())
        }
        Done::DeletedRows(history, count) => {
            *deleted.entry(history.as_str()).or_default() += count;
            Ok(())
        }
    };
    if !args.dry_run {
        retention::remove(conn, &plan, |done| {
            if printed.is_ok() {
                printed = note(done);
            }
        })
        .await?;
    }
    printed?;
    let cutoff = plan.cutoff.map(to_the_second);
    if args.json {
        let summary =
            json!({ "cutoff": cutoff, "dropped_partitions": dropped, "deleted_rows": deleted, "left_months": left });
        output::print_json(&json!({ "summary": summary }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for (table, count) in &deleted {
        output::print(&format!("deleted {} of {table}", counted(*count, "row")))?;
    }
    let age = in_words(config.retention);
    output::print(&match cutoff {
        None => {
            format!("nothing to remove: no event shows that a stored month is older than {age}, or the clocks disagree")
        }
        Some(cutoff) if args.dry_run => format!("with a retention of {age}, all before {cutoff} would be removed"),
        Some(cutoff) => format!("removed all before {cutoff} (retention {age}), except what is named above"),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Why a month stays.
fn kept(month: &Month) -> String {
    let (events, state) = match (month.has_pending, month.has_dead) {
        (true, true) => ("pending and dead events", "dead"),
        (true, false) => ("pending events", "pending"),
        _ => ("dead events", "dead"),
    };
    let month = name(month.month);
    output::wrapped(&format!("kept {month}: "), &format!("{events}, see billing-sync outbox list --state {state}"))
}

fn print(args: &Args, json: &Value, text: &str) -> anyhow::Result<()> {
    if args.json { output::print_json(json) } else { output::print(text) }
}
