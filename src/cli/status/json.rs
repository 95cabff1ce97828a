//! The figures of `status` as one JSON object; `docs/operations.md` lists its keys. An unknown value is null. PURE.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::figures::{Figures, Part};
use super::strip;
use super::verdict::Problem;
use crate::base::text::to_the_second;

/// The object.
pub(super) fn object(figures: &Figures, problems: &[Problem]) -> Value {
    json!({
        "at": to_the_second(figures.server.now),
        "verdict": if problems.is_empty() { "ok" } else { "attention" },
        "problems": problems.iter().map(|one| json!({ "kind": one.kind, "text": one.text, "next": one.next })).collect::<Vec<_>>(),
        "version": env!("CARGO_PKG_VERSION"),
        "server": { "version": figures.server.version, "is_standby": figures.server.is_standby },
        "processes": known(&figures.processes, |found| found.processes.iter().map(|one| {
            json!({ "name": one.name, "roles": one.roles, "connections": one.connections })
        }).collect()),
        "events": known(&figures.flow, |flow| json!({
            "window_seconds": flow.seconds, "arrived": flow.arrived, "finished": flow.finished,
            "delay_p50_seconds": flow.delay_p50_seconds, "delay_p99_seconds": flow.delay_p99_seconds,
            "last_finished_age_seconds": flow.last_finished_age_seconds,
        })),
        "queue": known(&figures.outbox, |outbox| json!({
            "pending": outbox.pending, "dead": outbox.dead,
            "oldest_pending_age_seconds": (outbox.pending > 0).then_some(outbox.oldest_pending_age_seconds),
        })),
        "jobs": known(&figures.jobs, |jobs| jobs.iter().map(|of_kind| {
            (of_kind.kind.clone(), json!({ "all": of_kind.all, "failing": of_kind.failing }))
        }).collect::<Map<_, _>>().into()),
        "changes": known(&figures.writes, |writes| json!({
            "begun": writes.begun, "sent": writes.sent, "unknown": writes.unknown,
            "oldest_open_seconds": (writes.begun + writes.sent > 0).then_some(writes.oldest_open_seconds),
        })),
        "limits": known(&figures.limits, |limits| json!({
            "due": limits.due, "oldest_due_age_seconds": (limits.due > 0).then_some(limits.oldest_due_age_seconds),
            "halted_because": limits.halted_because,
        })),
        "reconcile": known(&figures.comparison, |comparison| json!({
            "watermark_age_seconds": comparison.watermark_age_seconds.filter(|_| comparison.compared),
            "failures": comparison.failures, "last_error": comparison.last_error,
            "gap_since": comparison.gap_since.map(to_the_second), "gap_until": comparison.gap_until.map(to_the_second),
        })),
        "days": known(&figures.days, |days| strip::results(days, figures.server.now.date()).into_iter().map(|(day, result)| {
            json!({ "day": day.to_string(), "result": result.as_str() })
        }).collect()),
        "drift": known(&figures.drift, |drift| drift.as_ref().map(|drift| json!({
            "age_seconds": drift.age_seconds, "customers": drift.customers, "failed": drift.failed,
            "differing": drift.differing, "tables": drift.tables,
        })).into()),
        "backfill": known(&figures.backfill, |run| run.as_ref().map(|run| json!({
            "started": to_the_second(run.started_at), "is_running": run.alive,
        })).into()),
        "size": known(&figures.size, |size| json!({
            "schema_bytes": size.schema_bytes, "database_bytes": size.database_bytes,
            "growth_bytes_per_day": size.growth_bytes_per_day,
        })),
    })
}

/// The object while the database cannot be reached.
pub(super) fn unreachable(now: OffsetDateTime, since: OffsetDateTime, error: &str) -> Value {
    json!({ "at": to_the_second(now), "verdict": "unreachable", "since": to_the_second(since), "error": error })
}

fn known<T>(part: &Part<T>, value: impl FnOnce(&T) -> Value) -> Value {
    part.as_ref().map_or(Value::Null, value)
}
