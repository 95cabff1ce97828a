//! The screen of `status`: the verdict, then one block for each subject, in 80 columns. PURE.

use std::fmt::Write as _;

use super::figures::{Figures, Part};
use super::strip::{self, DayResult};
use super::verdict::Problem;
use crate::admin::status::WINDOW_SECONDS;
use crate::base::text::{counted, in_utc, wrapped};
use crate::cli::units::{rate, size, span};
use crate::domain::job::Kind;

/// Problems that are shown; the others are counted. The screen of a bad night still fits a terminal.
const MOST_PROBLEMS: usize = 6;
/// Processes that are shown; the others are counted.
const MOST_PROCESSES: usize = 5;

/// The whole screen. Its first line is the verdict.
pub(super) fn text(figures: &Figures, problems: &[Problem]) -> String {
    let mut lines = verdict(problems);
    lines.push(String::new());
    let server = &figures.server;
    let standby = if server.is_standby { ", standby" } else { "" };
    // without the words of the package, such as (Debian 15.18-0+deb12u1)
    let release = server.version.split(' ').next().unwrap_or_default();
    lines.push(format!(
        "{} UTC, billing-sync {}, PostgreSQL {release}{standby}",
        in_utc(server.now),
        env!("CARGO_PKG_VERSION")
    ));
    lines.push(String::new());
    lines.extend(processes(figures));
    let blocks = [
        ("events", flow(figures)),
        ("delay", delay(figures)),
        ("queue", queue(figures)),
        ("jobs", jobs(figures)),
        ("changes", changes(figures)),
        ("limits", limits(figures)),
        ("watermark", watermark(figures)),
        ("30 days", days(figures)),
        ("", legend()),
        ("drift", drift(figures)),
        ("size", sizes(figures)),
    ];
    lines.extend(blocks.map(|(name, text)| line(name, &text)));
    lines.join("\n")
}

fn verdict(problems: &[Problem]) -> Vec<String> {
    let mut lines = match problems.len() {
        0 => return vec!["All is well.".to_owned()],
        1 => vec!["1 thing needs attention:".to_owned()],
        count => vec![format!("{count} things need attention, the most important first:")],
    };
    lines.extend(
        problems
            .iter()
            .take(MOST_PROBLEMS)
            .map(|problem| wrapped("! ", &format!("{}: `{}`", problem.text, problem.next))),
    );
    if problems.len() > MOST_PROBLEMS {
        lines.push(format!("! and {} more: `billing-sync status --json`", problems.len() - MOST_PROBLEMS));
    }
    lines
}

fn line(name: &str, text: &str) -> String {
    wrapped(&format!("{name:<10} "), text)
}

/// Text of a part; an unknown part says so instead of showing 0.
fn known<T>(part: &Part<T>, text: impl FnOnce(&T) -> String) -> String {
    match part {
        Ok(part) => text(part),
        Err(reason) => format!("unknown: {reason}"),
    }
}

fn processes(figures: &Figures) -> Vec<String> {
    let found = match &figures.processes {
        Ok(found) => found,
        Err(reason) => return vec![line("processes", &format!("unknown: {reason}"))],
    };
    let mut texts: Vec<String> = (found.processes.iter().take(MOST_PROCESSES))
        .map(|one| format!("{}: {} ({})", one.name, one.roles.join(", "), counted(one.connections, "connection")))
        .collect();
    if found.processes.len() > MOST_PROCESSES {
        texts.push(format!("and {} more", found.processes.len() - MOST_PROCESSES));
    }
    if texts.is_empty() {
        texts.push("none of `serve`".to_owned());
    }
    if found.other_connections > 0 {
        texts.push(format!("{} of commands or of an older release", counted(found.other_connections, "connection")));
    }
    let names = std::iter::once("processes").chain(std::iter::repeat(""));
    names.zip(texts).map(|(name, text)| line(name, &text)).collect()
}

fn flow(figures: &Figures) -> String {
    known(&figures.flow, |flow| {
        let last = match flow.last_finished_age_seconds {
            None => "none ever".to_owned(),
            Some(age) => format!("the last {} ago", span(age)),
        };
        format!(
            "{} arrived, {} finished in the last {}; {last}",
            rate(flow.arrived, flow.seconds),
            rate(flow.finished, flow.seconds),
            span(flow.seconds)
        )
    })
}

fn delay(figures: &Figures) -> String {
    known(&figures.flow, |flow| match (flow.delay_p50_seconds, flow.delay_p99_seconds) {
        (Some(median), Some(most)) => {
            format!("p50 {}, p99 {}, from arrival to outcome", span(median), span(most))
        }
        _ => format!("unknown: no event was done in the last {}", span(WINDOW_SECONDS)),
    })
}

fn queue(figures: &Figures) -> String {
    known(&figures.outbox, |outbox| {
        let oldest = match outbox.pending {
            0 => String::new(),
            _ => format!(", the oldest for {}", span(outbox.oldest_pending_age_seconds)),
        };
        format!("{} pending{oldest}; {} dead", counted(outbox.pending, "event"), outbox.dead)
    })
}

fn jobs(figures: &Figures) -> String {
    let jobs = known(&figures.jobs, |jobs| {
        let of_kind = |kind: Kind| {
            let found = jobs.iter().find(|jobs| jobs.kind == kind.as_str());
            let (all, failing) = found.map_or((0, 0), |jobs| (jobs.all, jobs.failing));
            let failing = if failing > 0 { format!(" ({failing} failed)") } else { String::new() };
            format!("{all} {}{failing}", kind.as_str())
        };
        Kind::ALL.map(of_kind).join(", ")
    });
    let backfill = match &figures.backfill {
        Ok(Some(run)) if run.alive => "; a backfill is running",
        Ok(Some(_)) => "; a backfill is unfinished",
        _ => "",
    };
    jobs + backfill
}

fn changes(figures: &Figures) -> String {
    known(&figures.writes, |writes| {
        let open = writes.begun + writes.sent;
        let oldest =
            if open > 0 { format!(", the oldest for {}", span(writes.oldest_open_seconds)) } else { String::new() };
        format!("{open} at Stripe in progress{oldest}; {} of unknown outcome", writes.unknown)
    })
}

fn limits(figures: &Figures) -> String {
    known(&figures.limits, |limits| {
        let oldest = match limits.due {
            0 => String::new(),
            _ => format!(", the oldest for {}", span(limits.oldest_due_age_seconds)),
        };
        let halted = if limits.halted_because.is_some() { "; renewals are halted" } else { "" };
        format!("{} due{oldest}{halted}", counted(limits.due, "renewal"))
    })
}

fn watermark(figures: &Figures) -> String {
    known(&figures.comparison, |comparison| {
        let mut text = match comparison.watermark_age_seconds {
            None => return "unknown: no event was ever compared with Stripe's list".to_owned(),
            Some(age) if !comparison.compared => format!("none yet; the first comparison began {} ago", span(age)),
            Some(age) => format!("{} old: earlier events were compared with Stripe's list", span(age)),
        };
        if comparison.failures > 0 {
            let _ = write!(text, "; {} in a row", counted(comparison.failures, "failed run"));
        }
        text
    })
}

fn days(figures: &Figures) -> String {
    known(&figures.days, |days| {
        strip::results(days, figures.server.now.date()).iter().map(|(_, result)| result.letter()).collect::<String>()
            + " today is the last"
    })
}

fn legend() -> String {
    DayResult::ALL.map(|result| format!("{} {}", result.letter(), result.as_str().replace('_', " "))).join(", ")
}

fn drift(figures: &Figures) -> String {
    known(&figures.drift, |drift| match drift {
        None => "unknown: no sample of rows was compared with Stripe yet".to_owned(),
        Some(drift) => {
            let failed = if drift.failed > 0 { format!(", {} not compared", drift.failed) } else { String::new() };
            format!(
                "{} differed in the sample of {} ago ({}{failed})",
                counted(drift.differing, "row"),
                span(drift.age_seconds),
                counted(drift.customers, "customer")
            )
        }
    })
}

fn sizes(figures: &Figures) -> String {
    known(&figures.size, |sizes| {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 bytes")]
        let (schema, whole) = (sizes.schema_bytes as f64, sizes.database_bytes as f64);
        let growth = match sizes.growth_bytes_per_day {
            None => "growth unknown in the first day".to_owned(),
            Some(growth) if growth < 0.0 => format!("{} less each day", size(-growth)),
            Some(growth) => format!("{} more each day", size(growth)),
        };
        format!("schema billing {}, {growth}; whole database {}", size(schema), size(whole))
    })
}
