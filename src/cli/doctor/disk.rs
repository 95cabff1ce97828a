//! The checks of the disk: what the tables occupy, how much the events of a month add, and whether the retention
//! removes old months. Sizes come from the catalogue, so the checks cost the same whatever is stored.

use std::time::Duration;

use time::{Date, OffsetDateTime};

use super::report::Check;
use crate::admin::disk::{self, Growth, MonthSize, Relation, Times};
use crate::cli::units::{size, span};
use crate::config::parse::in_words;
use crate::config::retention::RetentionConfig;
use crate::database::Connection;
use crate::maintenance::retention::{self, Month, name};

/// How long after the end of its retention a month is reported. Maintenance looks for such months once an hour, and
/// tries again if other sessions use the table.
const GRACE: Duration = Duration::from_hours(24);

/// Number of tables that are named, besides those of the events.
const NAMED: usize = 2;

/// Checks the sizes and the retention; without a valid setting, only the sizes.
pub(super) async fn checks(conn: &mut Connection, config: Option<&RetentionConfig>) -> Result<Vec<Check>, sqlx::Error> {
    let relations = disk::relations(conn).await?;
    let times = disk::times(conn).await?;
    let months = disk::months(&relations);
    let growth = disk::growth(&months, &times);
    let mut checks = vec![sizes(&relations, &growth)];
    let Some(config) = config else { return Ok(checks) };
    let late = retention::plan(conn, config.retention + GRACE).await?.months;
    let late = overdue(&months, &late, &times, config.retention);
    if late.is_empty() {
        checks.push(next(&months, &growth, &times, config));
    }
    checks.extend(late);
    Ok(checks)
}

fn sizes(relations: &[Relation], growth: &Growth) -> Check {
    let sum = |of: &[&Relation]| of.iter().map(|one| one.bytes).sum::<i64>();
    let (events, others): (Vec<&Relation>, Vec<&Relation>) = relations.iter().partition(|one| one.is_of_events);
    let (named, others) = others.split_at(others.len().min(NAMED));
    let mut parts = vec![format!("events and outbox {}", bytes(sum(&events)))];
    parts.extend(named.iter().map(|one| format!("{} {}", one.name, bytes(one.bytes))));
    let all: i64 = relations.iter().map(|one| one.bytes).sum();
    let grow = match growth {
        Growth::Measured { bytes, months } => {
            let of = match months.as_slice() {
                [first, .., last] => format!("the mean of {} to {}", name(*first), name(*last)),
                months => months.iter().map(|one| name(*one)).collect(),
            };
            format!("events and outbox grow by {} a month ({of})", size(*bytes))
        }
        Growth::Extrapolated { bytes, seconds } => {
            format!("events and outbox grow by about {} a month (extrapolated from {})", size(*bytes), span(*seconds))
        }
        Growth::Unknown => "their growth is unknown in the first day".to_owned(),
    };
    Check::ok("disk", format!("{}: {}, other tables {}; {grow}", bytes(all), parts.join(", "), bytes(sum(others))))
}

/// When the retention removes something next, and how large the events become.
fn next(months: &[MonthSize], growth: &Growth, times: &Times, config: &RetentionConfig) -> Check {
    let kept = in_words(config.retention);
    if config.keeps_everything() {
        let detail = format!("nothing is ever removed, because BILLING_SYNC_RETENTION is {kept}");
        return Check::warning("disk", detail, "set a shorter BILLING_SYNC_RETENTION, or plan for the growth");
    }
    let removed = months.first().and_then(|one| Some((one.month, disk::expires_at(one.month, config.retention)?)));
    let first = match removed {
        None => "no month is stored yet that it would remove".to_owned(),
        Some((month, at)) if at <= times.now => format!("it removes {} now", name(month)),
        Some((month, at)) => format!("it removes {}, the oldest month, on {}", name(month), day(at)),
    };
    let at_most = growth.bytes().map_or_else(String::new, |growth| {
        format!("; with this growth, events and outbox reach about {}", size(disk::bound(growth, config.retention)))
    });
    Check::ok("disk", format!("the retention is {kept}: {first}{at_most}"))
}

/// Months that the retention should have removed, by the reason why they are still there.
fn overdue(months: &[MonthSize], expired: &[Month], times: &Times, retention: Duration) -> Vec<Check> {
    let is_past = |month: Date| disk::expires_at(month, retention + GRACE).is_some_and(|at| at <= times.now);
    let held: Vec<Date> = months
        .iter()
        .map(|one| one.month)
        .filter(|month| is_past(*month) && expired.iter().all(|one| one.month != *month))
        .collect();
    let of = |is_it: fn(&Month) -> bool| expired.iter().filter(|one| is_it(one)).map(|one| one.month).collect();
    let dead: Vec<Date> = of(|month| month.has_dead);
    let pending: Vec<Date> = of(|month| month.has_pending && !month.has_dead);
    let left: Vec<Date> = of(|month| !month.is_kept());
    let (why, fix) = if times.is_halted {
        ("nothing is removed while the clocks disagree", "synchronise the clocks (NTP); see the line limits")
    } else {
        (
            "no newer event shows that the time has passed by Stripe's clock, too",
            "none is needed if Stripe has no newer events; otherwise see the line reconcile",
        )
    };
    let reasons = [
        (held, why, fix),
        (
            dead,
            "dead events keep them",
            "`outbox list --state dead` shows the events; then `outbox retry` or `outbox discard`",
        ),
        (
            pending,
            "pending events keep them",
            "run `serve` with the role worker; `outbox list --state pending` shows failing events",
        ),
        (
            left,
            "no process removed them",
            "run `serve` with the role maintenance and see its log, or run `outbox prune`",
        ),
    ];
    let reasons = reasons.into_iter().filter(|(months, ..)| !months.is_empty());
    reasons
        .map(|(months, why, fix)| {
            let kept = in_words(retention);
            let detail = format!("months older than the retention of {kept} are stored ({}): {why}", named(&months));
            Check::warning("disk", detail, fix)
        })
        .collect()
}

/// Names of months: the first and the last of many.
fn named(months: &[Date]) -> String {
    match months {
        [first, _, .., last] if months.len() > 3 => {
            format!("{} from {} to {}", months.len(), name(*first), name(*last))
        }
        months => months.iter().map(|month| name(*month)).collect::<Vec<_>>().join(", "),
    }
}

fn day(at: OffsetDateTime) -> String {
    at.date().to_string()
}

fn bytes(bytes: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    size(bytes as f64)
}
