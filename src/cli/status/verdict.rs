//! The verdict of `status`: what needs attention, the most important first, each with the command to run next. PURE.

use time::Duration;

use super::figures::Figures;
use crate::base::text::counted;
use crate::cli::doctor::{OLD_CHANGE_SECONDS, OLD_ITEM_SECONDS, OLD_WATERMARK_SECONDS};
use crate::cli::units::span;
use crate::domain::job::Kind;

/// Something that needs attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Its name in JSON; never changes.
    pub(super) kind: &'static str,
    /// What is wrong, with its figures.
    pub(super) text: String,
    /// The command to run next.
    pub(super) next: &'static str,
}

/// Roles without which something stops, in the order of importance, and what stops.
const ROLES: [(&str, &str, &str); 5] = [
    ("receiver", "no events are stored", "billing-sync serve --roles receiver"),
    ("worker", "events are not processed", "billing-sync serve --roles worker"),
    ("renewals", "limits are not renewed", "billing-sync serve --roles renewals"),
    ("reconcile", "undelivered events are not found", "billing-sync serve --roles reconcile"),
    ("maintenance", "no partitions are created", "billing-sync serve --roles maintenance"),
];

/// What needs attention, the most important first: what stops everything, what loses data, what delays it, what is
/// wrong without getting worse, and last what is unknown.
pub(super) fn problems(figures: &Figures) -> Vec<Problem> {
    [
        standby, processes, clocks, queue, gap, changes, dead, watermark, missed, renewals, drift, settings, backfill,
        jobs,
    ]
    .iter()
    .flat_map(|check| check(figures))
    .chain(
        figures.unknown().into_iter().map(|(part, reason)| {
            problem("unknown", format!("{part}: unknown, because {reason}"), "billing-sync doctor")
        }),
    )
    .collect()
}

fn problem(kind: &'static str, text: String, next: &'static str) -> Problem {
    Problem { kind, text, next }
}

fn standby(figures: &Figures) -> Vec<Problem> {
    let text = "the database is a standby: it accepts no writes, and these figures may be old".to_owned();
    figures.server.is_standby.then(|| problem("standby", text, "billing-sync doctor")).into_iter().collect()
}

fn processes(figures: &Figures) -> Vec<Problem> {
    let Ok(found) = &figures.processes else { return Vec::new() };
    if found.processes.is_empty() {
        let text = "no process of `serve` is connected to the database".to_owned();
        return vec![problem("no_process", text, "billing-sync serve")];
    }
    let runs = |role: &str| found.processes.iter().any(|process| process.roles.iter().any(|one| one == role));
    let missing = ROLES.iter().filter(|(role, ..)| !runs(role));
    missing
        .map(|(role, stops, next)| problem("no_role", format!("no process has the role {role}: {stops}"), next))
        .collect()
}

fn clocks(figures: &Figures) -> Vec<Problem> {
    let halted = figures.limits.iter().filter_map(|limits| limits.halted_because.as_ref());
    halted
        .map(|why| problem("renewals_halted", format!("renewals are halted because {why}"), "billing-sync doctor"))
        .collect()
}

fn queue(figures: &Figures) -> Vec<Problem> {
    let old = figures.outbox.iter().filter(|outbox| outbox.oldest_pending_age_seconds > OLD_ITEM_SECONDS);
    old.map(|outbox| {
        let text = format!(
            "{} pending, the oldest for {}",
            counted(outbox.pending, "event"),
            span(outbox.oldest_pending_age_seconds)
        );
        problem("queue_old", text, "billing-sync outbox list --state pending")
    })
    .collect()
}

fn gap(figures: &Figures) -> Vec<Problem> {
    let gap = figures.comparison.iter().filter(|comparison| comparison.gap_seconds > 0.0);
    gap.map(|comparison| {
        let text = format!(
            "the events of {} were never compared, and Stripe no longer lists them",
            span(comparison.gap_seconds)
        );
        problem("gap", text, "billing-sync backfill")
    })
    .collect()
}

fn changes(figures: &Figures) -> Vec<Problem> {
    let Ok(writes) = &figures.writes else { return Vec::new() };
    let unknown = (writes.unknown > 0).then(|| {
        let text = format!("{} at Stripe of unknown outcome", counted(writes.unknown, "change"));
        problem("changes_unknown", text, "billing-sync writes list --state unknown")
    });
    let old = (writes.oldest_open_seconds > OLD_CHANGE_SECONDS).then(|| {
        let open = counted(writes.begun + writes.sent, "change");
        let text = format!("{open} at Stripe not complete, the oldest for {}", span(writes.oldest_open_seconds));
        problem("changes_old", text, "billing-sync writes list --state open")
    });
    unknown.into_iter().chain(old).collect()
}

fn dead(figures: &Figures) -> Vec<Problem> {
    let dead = figures.outbox.iter().filter(|outbox| outbox.dead > 0);
    dead.map(|outbox| problem("dead", counted(outbox.dead, "dead event"), "billing-sync outbox list --state dead"))
        .collect()
}

fn watermark(figures: &Figures) -> Vec<Problem> {
    let Ok(comparison) = &figures.comparison else { return Vec::new() };
    let Some(age) = comparison.watermark_age_seconds else { return Vec::new() };
    let never = !comparison.compared && comparison.failures > 0;
    if age <= OLD_WATERMARK_SECONDS && !never {
        return Vec::new();
    }
    let what = if comparison.compared {
        format!("events of the last {} not compared with Stripe's list", span(age))
    } else {
        "stored events never compared with Stripe's list".to_owned()
    };
    let failures = match comparison.failures {
        0 => String::new(),
        failures => {
            let error = comparison.last_error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
            format!(", {} in a row{error}", counted(failures, "failed run"))
        }
    };
    vec![problem("watermark_old", what + &failures, "billing-sync reconcile")]
}

/// Missed events of today and yesterday. Earlier ones are history, which the strip shows.
fn missed(figures: &Figures) -> Vec<Problem> {
    let yesterday = figures.server.now.date() - Duration::days(1);
    let recent = figures.days.iter().flatten().filter(|day| day.day >= yesterday);
    let missed: i64 = recent.clone().map(|day| day.missed).sum();
    let found = (missed > 0).then(|| {
        let text =
            format!("{} since yesterday not delivered by Stripe, but found and stored", counted(missed, "event"));
        problem("missed", text, "billing-sync doctor")
    });
    let unreadable = recent.filter(|day| day.unreadable).count() > 0;
    let text = "Stripe lists events that cannot be stored; the log of `serve` names them".to_owned();
    found.into_iter().chain(unreadable.then(|| problem("unreadable", text, "billing-sync reconcile"))).collect()
}

fn renewals(figures: &Figures) -> Vec<Problem> {
    let overdue = figures.limits.iter().filter(|limits| limits.oldest_due_age_seconds > OLD_ITEM_SECONDS);
    let overdue = overdue.map(|limits| {
        let due = counted(limits.due, "limit");
        let text = format!("{due} overdue for renewal, the oldest for {}", span(limits.oldest_due_age_seconds));
        problem("renewals_overdue", text, "billing-sync renew --dry-run")
    });
    let aside: i64 = of_renewals(figures).sum();
    let text = format!("{} whose limits cannot be renewed", counted(aside, "subscription"));
    overdue.chain((aside > 0).then(|| problem("set_aside", text, "billing-sync renew"))).collect()
}

fn of_renewals(figures: &Figures) -> impl Iterator<Item = i64> {
    figures.jobs.iter().flatten().filter(|jobs| jobs.kind == Kind::Renewal.as_str()).map(|jobs| jobs.all)
}

fn drift(figures: &Figures) -> Vec<Problem> {
    let differing = figures.drift.iter().flatten().filter(|drift| drift.differing > 0);
    differing
        .map(|drift| {
            let rows = counted(drift.differing, "row");
            let text = format!("{rows} of the last sample differed from Stripe ({})", drift.tables.join(", "));
            problem("drift", text, "billing-sync verify")
        })
        .collect()
}

fn settings(figures: &Figures) -> Vec<Problem> {
    let differ = figures.contradicting.iter().any(|processes| !processes.is_empty());
    let text = "processes run with different settings: one ignores, undoes or removes what another processes or keeps"
        .to_owned();
    differ.then(|| problem("settings_differ", text, "billing-sync doctor")).into_iter().collect()
}

fn backfill(figures: &Figures) -> Vec<Problem> {
    let interrupted = figures.backfill.iter().flatten().filter(|run| !run.alive);
    interrupted
        .map(|run| {
            let text = format!(
                "a backfill is unfinished, and no process has run it for {}",
                span(run.seconds_since_heartbeat)
            );
            problem("backfill_interrupted", text, "billing-sync backfill --resume")
        })
        .collect()
}

fn jobs(figures: &Figures) -> Vec<Problem> {
    let others = figures.jobs.iter().flatten().filter(|jobs| jobs.kind != Kind::Renewal.as_str());
    let failing: i64 = others.map(|jobs| jobs.failing).sum();
    let text = format!("{} failed and will be retried", counted(failing, "job"));
    (failing > 0).then(|| problem("jobs_failing", text, "billing-sync doctor")).into_iter().collect()
}
