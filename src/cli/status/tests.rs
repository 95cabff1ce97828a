//! The laws of the verdict and of the screen: each problem makes exactly its line appear, every line fits, and what is
//! unknown is never shown as a number.

use time::macros::{date, datetime};

use super::figures::Figures;
use super::{json, screen, verdict};
use crate::admin::status::{ComparedDay, Drift, Flow, Server, Size};
use crate::backfill::run_store::UnfinishedRun;
use crate::base::text::WIDTH;
use crate::database::instance::{Instance, Instances};
use crate::metrics::database::{Comparison, Jobs, Limits, Outbox, Writes};
use crate::outbox::processes::Process;

/// Figures of a service without any problem.
fn well() -> Figures {
    let roles = ["receiver", "worker", "renewals", "reconcile", "maintenance"].map(str::to_owned).to_vec();
    Figures {
        server: Server {
            version: "15.18 (Debian 15.18-0+deb12u1)".to_owned(),
            is_standby: false,
            now: datetime!(2026-11-30 3:04:05 UTC),
        },
        processes: Ok(Instances {
            processes: vec![Instance { name: "4242@web-1".to_owned(), roles, connections: 12 }],
            other_connections: 0,
        }),
        contradicting: Ok(Vec::new()),
        outbox: Ok(Outbox { pending: 3, dead: 0, done: 9, oldest_pending_age_seconds: 2.0 }),
        flow: Ok(Flow {
            seconds: 300.0,
            arrived: 360,
            finished: 357,
            delay_p50_seconds: Some(0.02),
            delay_p99_seconds: Some(0.31),
            last_finished_age_seconds: Some(1.0),
        }),
        jobs: Ok(vec![Jobs { kind: "fetch".to_owned(), all: 4, failing: 0 }]),
        writes: Ok(Writes { begun: 1, sent: 0, unknown: 0, oldest_open_seconds: 2.0 }),
        limits: Ok(Limits { due: 2, oldest_due_age_seconds: 1.0, halted_because: None }),
        comparison: Ok(Comparison {
            watermark_age_seconds: Some(130.0),
            compared: true,
            failures: 0,
            last_error: None,
            gap_seconds: 0.0,
            gap_account: None,
            gap_since: None,
            gap_until: None,
        }),
        days: Ok(vec![day()]),
        drift: Ok(Some(Drift { age_seconds: 720.0, customers: 20, failed: 0, differing: 0, tables: Vec::new() })),
        backfill: Ok(None),
        size: Ok(Size {
            schema_bytes: 4_200_000_000,
            database_bytes: 12_000_000_000,
            growth_bytes_per_day: Some(140_000_000.0),
        }),
    }
}

fn day() -> ComparedDay {
    ComparedDay { day: date!(2026 - 11 - 30), is_incomplete: false, missed: 0, unreadable: false, gap_found: false }
}

/// Each problem: its kind, the change to the figures that causes it, and a part of its line.
type Case = (&'static str, fn(&mut Figures), &'static str);

const CASES: [Case; 21] = [
    ("standby", |it| it.server.is_standby = true, "the database is a standby"),
    ("no_process", |it| it.processes = Ok(Instances::default()), "no process of `serve` is connected"),
    ("no_role", |it| drop_role(it, "receiver"), "no process has the role receiver: no events are stored"),
    ("no_role", |it| drop_role(it, "maintenance"), "no process has the role maintenance"),
    ("renewals_halted", |it| limits(it).halted_because = Some("x".to_owned()), "renewals are halted because x"),
    ("queue_old", |it| outbox(it).oldest_pending_age_seconds = 301.0, "3 events pending, the oldest for 5 min"),
    ("gap", |it| comparison(it).gap_seconds = 90_000.0, "the events of 25 h were never compared"),
    ("changes_unknown", |it| writes(it).unknown = 1, "1 change at Stripe of unknown outcome"),
    ("changes_old", |it| writes(it).oldest_open_seconds = 601.0, "1 change at Stripe not complete"),
    ("dead", |it| outbox(it).dead = 2, "2 dead events"),
    (
        "watermark_old",
        |it| comparison(it).watermark_age_seconds = Some(3601.0),
        "events of the last 60 min not compared",
    ),
    ("watermark_old", never_compared, "never compared with Stripe's list, 2 failed runs in a row (a cause)"),
    ("missed", |it| it.days = Ok(vec![ComparedDay { missed: 5, ..day() }]), "5 events since yesterday not delivered"),
    ("unreadable", |it| it.days = Ok(vec![ComparedDay { unreadable: true, ..day() }]), "events that cannot be stored"),
    ("renewals_overdue", |it| limits(it).oldest_due_age_seconds = 301.0, "2 limits overdue for renewal"),
    ("set_aside", |it| job(it, "renewal", 1, 1), "1 subscription whose limits cannot be renewed"),
    ("drift", differing, "1 row of the last sample differed from Stripe (coupons)"),
    ("settings_differ", contradicting, "processes run with different settings"),
    ("backfill_interrupted", |it| run(it, false), "a backfill is unfinished"),
    ("jobs_failing", |it| job(it, "fetch", 9, 2), "2 jobs failed"),
    ("unknown", |it| it.jobs = Err("the role may not read it".to_owned()), "jobs: unknown, because the role may not"),
];

fn outbox(figures: &mut Figures) -> &mut Outbox {
    figures.outbox.as_mut().unwrap()
}

fn limits(figures: &mut Figures) -> &mut Limits {
    figures.limits.as_mut().unwrap()
}

fn writes(figures: &mut Figures) -> &mut Writes {
    figures.writes.as_mut().unwrap()
}

fn comparison(figures: &mut Figures) -> &mut Comparison {
    figures.comparison.as_mut().unwrap()
}

fn never_compared(figures: &mut Figures) {
    let comparison = comparison(figures);
    comparison.compared = false;
    comparison.failures = 2;
    comparison.last_error = Some("a cause".to_owned());
}

fn drop_role(figures: &mut Figures, role: &str) {
    figures.processes.as_mut().unwrap().processes[0].roles.retain(|one| one != role);
}

fn job(figures: &mut Figures, kind: &str, all: i64, failing: i64) {
    figures.jobs.as_mut().unwrap().push(Jobs { kind: kind.to_owned(), all, failing });
}

fn differing(figures: &mut Figures) {
    let drift = figures.drift.as_mut().unwrap().as_mut().unwrap();
    drift.differing = 1;
    drift.tables = vec!["coupons".to_owned()];
}

fn contradicting(figures: &mut Figures) {
    let process =
        Process { name: "process 1 at h".to_owned(), settings: vec!["BILLING_SYNC_RETENTION=35d".to_owned()] };
    figures.contradicting = Ok(vec![process]);
}

fn run(figures: &mut Figures, alive: bool) {
    let started_at = datetime!(2026-11-29 0:00 UTC);
    let seconds_since_heartbeat = if alive { 1.0 } else { 90_000.0 };
    figures.backfill =
        Ok(Some(UnfinishedRun { id: 1, started_at, created_after: None, alive, seconds_since_heartbeat }));
}

fn shown(figures: &Figures) -> String {
    screen::text(figures, &verdict::problems(figures))
}

#[test]
fn without_problems_all_is_well() {
    let mut figures = well();
    // in progress, which is no problem
    run(&mut figures, true);
    assert_eq!(verdict::problems(&figures), []);
    assert!(shown(&figures).starts_with("All is well.\n"));
}

#[test]
fn each_problem_makes_exactly_its_line_appear() {
    for (kind, cause, part) in CASES {
        let mut figures = well();
        cause(&mut figures);
        let problems = verdict::problems(&figures);
        assert_eq!(problems.iter().map(|one| one.kind).collect::<Vec<_>>(), [kind], "{part}");
        assert!(problems[0].text.contains(part), "{part}: {}", problems[0].text);
        let text = shown(&figures);
        assert!(text.starts_with("1 thing needs attention:\n! "), "{text}");
        assert!(text.split_whitespace().collect::<Vec<_>>().join(" ").contains(problems[0].next), "{text}");
    }
}

#[test]
fn the_order_of_problems_is_that_of_the_cases() {
    let mut figures = well();
    for (_, cause, _) in CASES.iter().filter(|(kind, ..)| !["no_process", "unknown"].contains(kind)) {
        cause(&mut figures);
    }
    let all = verdict::problems(&figures);
    let mut expected: Vec<&str> = CASES.iter().map(|(kind, ..)| *kind).filter(|kind| *kind != "no_process").collect();
    expected.retain(|kind| *kind != "unknown");
    // both causes of the watermark are one line, and of the two days the last one counts
    expected.dedup_by(|one, before| one == before && *one == "watermark_old");
    expected.retain(|kind| *kind != "missed");
    assert_eq!(all.iter().map(|one| one.kind).collect::<Vec<_>>(), expected);
    let text = shown(&figures);
    assert!(text.contains(&format!("! and {} more: `billing-sync status --json`", all.len() - 6)), "{text}");
    assert!(text.lines().count() <= 34, "{text}");
}

#[test]
fn every_line_fits_the_terminal() {
    for (_, cause, part) in CASES {
        let mut figures = well();
        cause(&mut figures);
        let text = shown(&figures);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{part}: {text}");
        assert!(text.lines().count() <= 24, "{part}: {text}");
    }
}

#[test]
fn an_old_missed_event_is_history() {
    let mut figures = well();
    figures.days = Ok(vec![ComparedDay { missed: 5, day: date!(2026 - 11 - 28), ..day() }, day()]);
    assert_eq!(verdict::problems(&figures), []);
    assert!(shown(&figures).contains("m-."));
}

#[test]
fn the_unknown_is_never_a_number() {
    let reason = "it could not be read within 1 s".to_owned();
    let figures = Figures {
        server: well().server,
        processes: Err(reason.clone()),
        contradicting: Err(reason.clone()),
        outbox: Err(reason.clone()),
        flow: Err(reason.clone()),
        jobs: Err(reason.clone()),
        writes: Err(reason.clone()),
        limits: Err(reason.clone()),
        comparison: Err(reason.clone()),
        days: Err(reason.clone()),
        drift: Err(reason.clone()),
        backfill: Err(reason.clone()),
        size: Err(reason),
    };
    let text = shown(&figures);
    let (_, figures_text) = text.split_once("PostgreSQL 15.18\n").unwrap();
    for line in figures_text.lines().filter(|line| !line.is_empty() && !line.contains(". ok")) {
        assert!(line.contains("unknown: it could not be read"), "{line}: {text}");
    }
    let problems = verdict::problems(&figures);
    assert_eq!(problems.len(), 12);
    assert!(problems.iter().all(|problem| problem.kind == "unknown"));
    let object = json::object(&figures, &problems);
    for part in
        ["processes", "events", "queue", "jobs", "changes", "limits", "reconcile", "days", "drift", "backfill", "size"]
    {
        assert!(object[part].is_null(), "{part}");
    }
}

#[test]
fn the_screen_of_a_good_night() {
    insta::assert_snapshot!(shown(&well()));
}
