//! A subscription whose limits cannot be computed or written is set aside with the error, and all others are renewed,
//! by the scheduler of the real binary and by the command `renew`.

use std::process::Output;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::calls::call;
use super::rows::{DUE, NEW, Rows};
use crate::cli::{code, run};
use crate::support::process::Server;

/// Faults of the subscription `bad`, each in one statement of a renewal: name, SQL that causes it, SQL that removes it.
const FAULTS: [(&str, &str, &str); 3] = [
    (
        "the ledger refuses it",
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'refused: jane@example.com'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON billing.limit_renewals
            FOR EACH ROW WHEN (NEW.subscription_id = md5('bad')::uuid) EXECUTE FUNCTION public.refuse()",
        "DROP TRIGGER refuse ON billing.limit_renewals",
    ),
    (
        "its balance refuses it",
        "ALTER TABLE billing.subscription_limits ADD CONSTRAINT no_spillover
            CHECK (subscription_id <> md5('bad')::uuid OR spillover = 0)",
        "ALTER TABLE billing.subscription_limits DROP CONSTRAINT no_spillover",
    ),
    (
        "it cannot be computed",
        "UPDATE billing.subscription_timeline SET status = 'poisoned' WHERE subscription_id = 'bad';
        CREATE OR REPLACE FUNCTION billing.subscription_is_active(stripe_status text, payment_paused boolean, ended_at timestamptz,
            past_due_active boolean) RETURNS boolean LANGUAGE sql IMMUTABLE
            RETURN stripe_status = 'active' OR 1 / (length(stripe_status) - 8) > 0",
        "UPDATE billing.subscription_timeline SET status = 'active' WHERE subscription_id = 'bad'",
    ),
];

/// Six subscriptions; `bad` is first in every order, and the only one of its workspace.
async fn sold() -> Rows {
    let rows = Rows::start().await;
    rows.subscribe("bad", "v", "words 100", "billing.renewal_at(clock_timestamp() - interval '2 hours', -1)").await;
    for sub in ["sub_1", "sub_2", "sub_3", "sub_4", "sub_5"] {
        rows.subscribe(sub, sub, "words 100", DUE).await;
    }
    rows
}

fn billing_sync(rows: &Rows, arguments: &[&str]) -> Output {
    run(arguments, &[("DATABASE_URL", rows.url())])
}

/// The subscriptions that were renewed.
async fn renewed(rows: &Rows) -> String {
    let ids =
        "SELECT coalesce(string_agg(DISTINCT s.stripe_subscription_id, ' ' ORDER BY s.stripe_subscription_id), '')
        FROM billing.limit_renewals AS r JOIN billing.subscriptions AS s ON s.id = r.subscription_id";
    rows.lines(ids).await.remove(0)
}

/// Waits until the query returns this line.
async fn until(rows: &Rows, query: &str, expected: &str) {
    for _ in 0..3000 {
        if rows.lines(query).await == [expected] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{query} never returns {expected}, but {:?}", rows.lines(query).await);
}

const SET_ASIDE: &str = "SELECT coalesce(string_agg(object_id || ': ' || last_error, ' '), '') FROM billing.jobs
    WHERE kind = 'renewal'";

/// A renewal that fails with a statement timeout.
const TOO_SLOW: (&str, &str, &str) = (
    "it takes too long",
    "CREATE FUNCTION public.too_slow() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'canceling statement due to statement timeout' USING ERRCODE = '57014'; END $$;
    CREATE TRIGGER too_slow BEFORE INSERT ON billing.limit_renewals
        FOR EACH ROW WHEN (NEW.subscription_id = md5('bad')::uuid) EXECUTE FUNCTION public.too_slow()",
    "DROP TRIGGER too_slow ON billing.limit_renewals",
);

/// Number of subscriptions with at most two periods available in each view, and number of periods that do not add up.
const SHOWN: &str = "SELECT concat_ws(' ',
    (SELECT count(*) FROM billing.workspace_limits WHERE available <= 200),
    (SELECT count(*) FROM billing.subscription_words WHERE available_words <= 200),
    (SELECT count(DISTINCT stripe_subscription_id) FROM billing.limit_statement WHERE line = 'left'),
    (SELECT count(*) FROM (SELECT FROM billing.limit_statement GROUP BY subscription_id, limit_key, period_start
        HAVING sum(amount) <> 0) AS unbalanced))";

#[tokio::test]
async fn views_work_for_others_and_the_failing_one_cannot_consume() {
    for (fault, make, _) in FAULTS {
        let rows = sold().await;
        rows.execute(make).await;
        assert_eq!(rows.lines(SHOWN).await, ["6 6 6 0"], "{fault}");
        // a changed subscription that is not due
        rows.subscribe("changed", "changed", "words 100", NEW).await;
        rows.includes("changed", "words", 90).await;
        assert_eq!(rows.lines(SHOWN).await, ["7 7 7 0"], "{fault}");
        let consume = |workspace: &str| format!("SELECT billing.consume(md5('{workspace}')::uuid, 'words', 1)::text");
        assert_eq!(rows.lines(&consume("sub_1")).await, ["199"], "{fault}");
        let conn = &mut rows.connect().await;
        for function in ["consume(v, 'words', 1)", "release(v, 'words', 1)"] {
            let refusal = call(conn, function).await.unwrap_err();
            assert_eq!(
                (refusal.code.as_str(), refusal.detail.as_deref()),
                ("LM010", Some("bad")),
                "{fault}: {function}"
            );
            assert!(!format!("{refusal:?}").contains("jane"), "{fault}: {refusal:?}");
        }
    }
    // nothing is available of an unknown balance, and that is not "nothing is left"
    let rows = sold().await;
    let (_, cannot_be_computed, _) = FAULTS[2];
    rows.execute(cannot_be_computed).await;
    let stored = "SELECT concat_ws(' ', included, spillover, used, available, is_computed,
        limit_renewal_date < clock_timestamp()) FROM billing.workspace_limits WHERE workspace_id = md5('v')::uuid";
    assert_eq!(rows.lines(stored).await, ["100 0 0 0 f t"]);
    let remaining = call(&mut rows.connect().await, "remaining(v, 'words')").await.unwrap_err();
    assert_eq!((remaining.code.as_str(), remaining.detail.as_deref()), ("LM010", Some("bad")));
}

/// The error of the infrastructure is not one of the limits: the product repeats its transaction.
#[tokio::test]
async fn infrastructure_errors_of_a_renewal_reach_the_product_unchanged() {
    for code in ["40001", "53200", "55P03"] {
        let rows = sold().await;
        rows.execute(&format!(
            "CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'the server fails' USING ERRCODE = '{code}'; END $$;
            CREATE TRIGGER fail BEFORE INSERT ON billing.limit_renewals FOR EACH ROW EXECUTE FUNCTION public.fail()"
        ))
        .await;
        let refusal = call(&mut rows.connect().await, "consume(v, 'words', 1)").await.unwrap_err();
        assert_eq!(refusal.code, code);
    }
}

#[tokio::test]
async fn the_scheduler_sets_a_subscription_aside_and_renews_the_others() {
    for (fault, make, remove) in FAULTS.into_iter().chain([TOO_SLOW]) {
        let rows = sold().await;
        rows.execute(make).await;
        let server = Server::start_on(rows.url(), "renewals", &[]).await;
        let done = "SELECT count(*)::text FROM billing.limit_renewals";
        until(&rows, done, "5").await;
        assert_eq!(renewed(&rows).await, "sub_1 sub_2 sub_3 sub_4 sub_5", "{fault}");
        let reason = rows.lines(SET_ASIDE).await.remove(0);
        let explained = "SELECT concat_ws(' ', stripe_subscription_id, amount, reason) FROM billing.limit_statement
            WHERE line = 'set_aside'";
        let error = reason.trim_start_matches("bad: ");
        assert_eq!(
            rows.lines(explained).await,
            [format!("bad 0 cannot be renewed, and is retried: {error}")],
            "{fault}"
        );
        assert!(reason.starts_with("bad: database error ") && !reason.contains("jane"), "{fault}: {reason}");
        // subscriptions that become due later are renewed too
        rows.subscribe("late", "late", "words 100", DUE).await;
        until(&rows, done, "6").await;
        let claimed = "SELECT cardinality(billing.claim_limits(clock_timestamp(), 100))::text";
        assert_eq!(rows.lines(claimed).await, ["0"], "{fault}: no batch contains `bad`");
        assert!((server.metric("billing_sync_jobs{kind=\"renewal\"}").await - 1.0).abs() < f64::EPSILON, "{fault}");
        // retried with increasing delay, and cleared by its first success
        rows.execute(remove).await;
        rows.execute("UPDATE billing.jobs SET run_at = clock_timestamp()").await;
        until(&rows, done, "7").await;
        until(&rows, SET_ASIDE, "").await;
        server.kill().await;
    }
}

#[tokio::test]
async fn renew_lists_what_is_set_aside_and_retries_it() {
    for (fault, make, remove) in FAULTS.into_iter().chain([TOO_SLOW]) {
        let rows = sold().await;
        rows.execute(make).await;
        let output = billing_sync(&rows, &["renew"]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(renewed(&rows).await, "sub_1 sub_2 sub_3 sub_4 sub_5", "{fault}: {errors}");
        assert!(errors.contains("bad is set aside: database error "), "{fault}: {errors}");
        assert_eq!(output.status.code(), Some(1), "{fault}: a script must see the failure");
        let doctor = billing_sync(&rows, &["doctor"]);
        let report = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(report.contains("set aside: 1 whose limits cannot be renewed"), "{fault}: {report}");

        rows.execute(remove).await;
        assert_eq!(code(&billing_sync(&rows, &["renew"])), 0, "{fault}");
        assert_eq!(renewed(&rows).await, "bad sub_1 sub_2 sub_3 sub_4 sub_5", "{fault}");
        until(&rows, SET_ASIDE, "").await;
    }
}

#[tokio::test]
async fn a_dry_run_lists_the_others() {
    let rows = sold().await;
    let (_, cannot_be_computed, _) = FAULTS[2];
    rows.execute(cannot_be_computed).await;
    let output = billing_sync(&rows, &["renew", "--dry-run"]);
    let (listed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for sub in ["sub_1", "sub_5"] {
        assert!(listed.contains(sub), "{listed}{errors}");
    }
    assert!(!listed.contains("bad"), "{listed}{errors}");
    assert!(
        errors.contains(
            "cannot compute the limits of bae60998-ffe4-923b-131e-3d6e4c19993e: database error 22012 (division by zero)"
        ),
        "{errors}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn only_the_failing_one_of_a_batch_is_set_aside() {
    for position in 0..=5 {
        let rows = sold().await;
        let (_, refused, _) = FAULTS[0];
        rows.execute(refused).await;
        let mut batch = vec!["sub_1", "sub_2", "sub_3", "sub_4", "sub_5"];
        batch.insert(position, "bad");
        let ids: Vec<String> = batch.iter().map(|sub| format!("md5('{sub}')::uuid")).collect();
        let ids = ids.join(", ");
        rows.execute(&format!("SELECT billing.renew_limits_isolated(ARRAY[{ids}], clock_timestamp())")).await;
        assert_eq!(renewed(&rows).await, "sub_1 sub_2 sub_3 sub_4 sub_5", "{position}");
        let aside = "SELECT string_agg(object_id, ' ') FROM billing.jobs WHERE kind = 'renewal'";
        assert_eq!(rows.lines(aside).await, ["bad"], "{position}");
    }
}

/// Writing a renewal of one of these takes longer than a batch may take, but less than a retry may take.
const SLOW: &str = "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(20); RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE INSERT ON billing.limit_renewals
        FOR EACH ROW WHEN (NEW.subscription_id IN (md5('slow_1')::uuid, md5('slow_2')::uuid)) EXECUTE FUNCTION public.slow()";

const RETRYING: &str = "SELECT count(*)::text FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'active' AND query LIKE '-- limits.retry%'";

#[tokio::test]
async fn slow_renewals_delay_neither_others_nor_shutdown() {
    let rows = Rows::start().await;
    for sub in ["slow_1", "slow_2"] {
        rows.subscribe(sub, sub, "words 100", "billing.renewal_at(clock_timestamp() - interval '2 hours', -1)").await;
    }
    for sub in ["sub_1", "sub_2", "sub_3", "sub_4", "sub_5"] {
        rows.subscribe(sub, sub, "words 100", DUE).await;
    }
    rows.execute(SLOW).await;
    let server = Server::start_on(rows.url(), "renewals", &[]).await;
    // each slow one takes 20 seconds in any transaction that contains it
    until(&rows, "SELECT count(*)::text FROM billing.limit_renewals", "5").await;
    assert_eq!(renewed(&rows).await, "sub_1 sub_2 sub_3 sub_4 sub_5");
    until(&rows, RETRYING, "1").await;
    rows.subscribe("late", "late", "words 100", DUE).await;
    until(&rows, "SELECT count(*)::text FROM billing.limit_renewals", "6").await;
    assert_eq!(rows.lines(RETRYING).await, ["1"], "the retry is still running");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ended().await, Some(0));
    let renewals = "SELECT count(*)::text FROM billing.limit_renewals";
    assert_eq!(rows.lines(renewals).await, ["6"], "the process did not wait for the retry");

    let server = Server::start_on(rows.url(), "renewals", &[]).await;
    rows.execute("UPDATE billing.jobs SET run_at = clock_timestamp()").await;
    until(&rows, "SELECT (count(*) > 6)::text FROM billing.limit_renewals", "true").await;
    server.kill().await;
}
