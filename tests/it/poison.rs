//! A poison event blocks no other event, whether the database refuses it, the mapping panics, or the worker dies.

use std::time::Duration;

use billing_sync::outbox::admin::{self, Filter};
use billing_sync::outbox::attempt::{self, Next, NextAttempt};
use billing_sync::outbox::claim;
use billing_sync::projection::graph::Graph;
use billing_sync::projection::{self, CustomerRows, Rules};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::support::app::TestApp;
use crate::support::events::{customer, event, subscription, with};

/// Makes the table refuse customers named `cus_poison`.
const REFUSE_POISON: &str = "
    CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'refused: %', NEW.email USING ERRCODE = '23514'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON billing.billing_contacts
        FOR EACH ROW WHEN (NEW.stripe_customer_id = 'cus_poison') EXECUTE FUNCTION public.refuse()";

impl TestApp {
    /// Drains until no event is pending, including retries.
    async fn drain_to_the_end(&self) {
        for _ in 0..400 {
            self.drain().await;
            let pending = "SELECT count(*)::text FROM billing.outbox WHERE state = 'pending'";
            if self.text(pending).await.as_deref() == Some("0") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("events are pending for ever");
    }

    async fn deliver_customers(&self, ids: &[&str]) {
        for (number, id) in ids.iter().enumerate() {
            self.deliver(&event(&format!("evt_{number}"), "customer.created", 0, &customer(id, "Ada"), None)).await;
        }
    }
}

#[tokio::test]
async fn a_poison_event_is_dead_and_its_neighbours_are_processed() {
    let app = TestApp::start().await;
    app.execute(REFUSE_POISON).await;
    app.deliver_customers(&["cus_1", "cus_poison", "cus_2"]).await;
    app.drain_to_the_end().await;
    assert_eq!(app.fate("evt_0").await, "done applied -");
    assert_eq!(app.fate("evt_2").await, "done applied -");
    assert_eq!(app.fate("evt_1").await, "dead - -");
    let dead = "SELECT attempts || ' ' || last_error FROM billing.outbox WHERE event_id = 'evt_1'";
    let error = "3 database error 23514 (check violation): function public.refuse line 1";
    assert_eq!(app.text(dead).await.as_deref(), Some(error), "without the email address");
    assert!((app.metric("billing_sync_attempts_failed_total{result=\"dead\"}") - 1.0).abs() < f64::EPSILON);

    // after a fix the operator retries the event
    app.execute("DROP TRIGGER refuse ON billing.billing_contacts").await;
    let mut conn = app.pool.acquire().await.unwrap();
    let dead = Filter { state: Some("dead"), ..Filter::default() };
    let dead = admin::select(&mut conn, &dead, None).await.unwrap();
    assert_eq!(admin::retry(&mut conn, dead.iter().map(|event| &event.key)).await.unwrap(), 1);
    drop(conn);
    app.drain().await;
    assert_eq!(app.fate("evt_1").await, "done applied -");
    app.finish().await;
}

/// What refuses a contact, and how the dead event names the cause.
const CAUSES: [(&str, &str); 6] = [
    (
        "ALTER TABLE billing.billing_contacts ADD CONSTRAINT no_ada CHECK (name <> 'Ada') NOT VALID",
        "23514 (check violation): table billing_contacts, constraint no_ada",
    ),
    (
        "CREATE UNIQUE INDEX one_ada ON billing.billing_contacts (name)",
        "23505 (unique violation): table billing_contacts, constraint one_ada",
    ),
    (
        "CREATE FUNCTION public.fault() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no contact for %', NEW.email; END $$",
        "P0001 (raise exception): function public.fault line 1",
    ),
    (
        "CREATE FUNCTION public.fault() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.name := NULL; INSERT INTO public.names VALUES (NEW.name); RETURN NEW; END $$;
        CREATE TABLE public.names (name text NOT NULL)",
        "23502 (not null violation): table names, column name, function public.fault line 1",
    ),
    (
        "CREATE FUNCTION public.fault() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM NEW.email::integer; RETURN NEW; END $$",
        "22P02 (invalid text representation): function public.fault line 1",
    ),
    (
        "CREATE FUNCTION public.fault() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM notify_product(NEW.email); RETURN NEW; END $$",
        "42883 (undefined function): function public.fault line 1",
    ),
];

#[tokio::test]
async fn a_dead_event_names_its_cause_without_values() {
    for (fault, cause) in CAUSES {
        let app = TestApp::start().await;
        app.deliver(&event("evt_first", "customer.created", 0, &customer("cus_1", "Ada"), None)).await;
        app.drain().await;
        app.execute(fault).await;
        if fault.contains("FUNCTION public.fault") {
            app.execute(
                "CREATE TRIGGER fault BEFORE INSERT ON billing.billing_contacts
                    FOR EACH ROW EXECUTE FUNCTION public.fault()",
            )
            .await;
        }
        app.deliver(&event("evt_bad", "customer.created", 0, &customer("cus_2", "Ada"), None)).await;
        app.drain_to_the_end().await;
        let dead = "SELECT last_error FROM billing.outbox WHERE event_id = 'evt_bad' AND state = 'dead'";
        assert_eq!(app.text(dead).await.as_deref(), Some(format!("database error {cause}").as_str()));
        app.finish().await;
    }
}

/// The contact of `cus_slow` takes longer to write than a statement of a batch may.
const SLOW: &str = "
    CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(7); RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE INSERT ON billing.billing_contacts
        FOR EACH ROW WHEN (NEW.stripe_customer_id = 'cus_slow') EXECUTE FUNCTION public.slow()";

#[tokio::test]
async fn a_slow_event_is_processed_and_does_not_delay_its_neighbours() {
    let app = TestApp::start().await;
    app.execute(SLOW).await;
    app.deliver_customers(&["cus_slow", "cus_1", "cus_2"]).await;
    app.drain_to_the_end().await;
    let order = "SELECT string_agg(event_id || ' ' || attempts, ', ' ORDER BY finished_at) FROM billing.outbox";
    assert_eq!(app.text(order).await.as_deref(), Some("evt_1 1, evt_2 1, evt_0 2"));
    app.finish().await;
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the worker calls the mapping so")]
fn panics_on_poison(customer_id: &str, graph: &Graph, rules: &Rules) -> CustomerRows {
    for (key, _) in graph.of_customer(customer_id, "subscription") {
        assert!(key.object_id != "sub_poison", "no such thing as {}", key.object_id);
    }
    projection::customer(customer_id, graph, rules)
}

#[tokio::test]
async fn a_panic_in_the_mapping_fails_only_its_own_event() {
    let mut app = TestApp::start().await;
    app.context.project_customer = panics_on_poison;
    for (id, sub) in [("evt_0", "sub_1"), ("evt_1", "sub_poison"), ("evt_2", "sub_2")] {
        app.deliver(&event(id, "customer.subscription.created", 0, &subscription(sub, "cus_1"), None)).await;
    }
    app.drain_to_the_end().await;
    assert_eq!(app.fate("evt_0").await, "done applied unknown_customer");
    assert_eq!(app.fate("evt_2").await, "done applied unknown_customer");
    assert_eq!(app.fate("evt_1").await, "dead - -");
    let error = app.text("SELECT last_error FROM billing.outbox WHERE event_id = 'evt_1'").await.unwrap();
    assert!(error.starts_with("the mapping panicked") && !error.contains("sub_poison"), "{error}");
    app.finish().await;
}

#[tokio::test]
async fn an_object_without_a_valid_row_is_dead_and_names_the_field() {
    let app = TestApp::start().await;
    let broken = with(&subscription("sub_1", "cus_1"), json!({ "status": 7 }));
    app.deliver(&event("evt_0", "customer.subscription.created", 0, &broken, None)).await;
    app.deliver(&event("evt_1", "customer.created", 0, &customer("cus_1", "Ada"), None)).await;
    app.drain().await;
    assert_eq!(app.fate("evt_0").await, "dead - -");
    assert_eq!(app.fate("evt_1").await, "done applied -");
    let error = app.text("SELECT attempts || ' ' || last_error FROM billing.outbox WHERE event_id = 'evt_0'").await;
    assert_eq!(error.as_deref(), Some("1 subscription.status is missing or cannot be read"));
    app.finish().await;
}

#[tokio::test]
async fn a_lost_connection_does_not_count_as_an_attempt() {
    let app = TestApp::start().await;
    // the first three attempts lose their connection while writing
    app.execute(
        "CREATE SEQUENCE public.tries;
        CREATE FUNCTION public.hang_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('public.tries') <= 3 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER hang_up BEFORE INSERT ON billing.billing_contacts
            FOR EACH ROW EXECUTE FUNCTION public.hang_up()",
    )
    .await;
    app.deliver_customers(&["cus_1"]).await;
    app.execute("UPDATE billing.outbox SET isolated = true").await;
    let mut worker = app.worker();
    let never = tokio_util::sync::CancellationToken::new();
    for _ in 0..3 {
        worker.drain(&never).await.unwrap_err();
        app.execute("UPDATE billing.outbox SET run_at = clock_timestamp()").await;
    }
    worker.drain(&never).await.unwrap();
    assert_eq!(app.fate("evt_0").await, "done applied -");
    assert_eq!(app.text("SELECT attempts::text FROM billing.outbox").await.as_deref(), Some("1"));
    app.finish().await;
}

#[tokio::test]
async fn the_batch_of_a_dead_worker_is_retried_individually() {
    let app = TestApp::start().await;
    app.deliver_customers(&["cus_1", "cus_2"]).await;
    let mut tx = app.pool.begin().await.unwrap();
    let claimed = claim::batch(&mut tx, 100, OffsetDateTime::UNIX_EPOCH).await.unwrap();
    let keys: Vec<_> = claimed.into_iter().map(|event| event.key).collect();
    let mut other = app.pool.acquire().await.unwrap();
    claim::note_batch(&mut other, Uuid::nil(), &keys).await.unwrap();
    assert_eq!(claim::recover_batches(&mut other).await.unwrap(), 0, "its worker is alive");
    tx.rollback().await.unwrap();
    assert_eq!(claim::recover_batches(&mut other).await.unwrap(), 2, "its worker has died");
    assert_eq!(app.text("SELECT count(*)::text FROM billing.worker_batches").await.as_deref(), Some("0"));
    drop(other);
    app.drain().await;
    let isolated = "SELECT string_agg(attempts || ' ' || isolated, ',') FROM billing.outbox";
    assert_eq!(app.text(isolated).await.as_deref(), Some("1 true,1 true"));
    app.finish().await;
}

#[tokio::test]
async fn a_first_isolated_attempt_does_not_wait_for_retries_of_others() {
    let app = TestApp::start().await;
    app.execute(REFUSE_POISON).await;
    app.deliver_customers(&["cus_poison", "cus_poison", "cus_poison", "cus_1"]).await;
    // the others have failed, and their next attempt was due earlier
    app.execute(
        "UPDATE billing.outbox SET isolated = true, attempts = CASE WHEN event_id = 'evt_3' THEN 0 ELSE 2 END,
            run_at = run_at - CASE WHEN event_id = 'evt_3' THEN interval '0' ELSE interval '1 hour' END",
    )
    .await;
    app.drain_to_the_end().await;
    let first = "SELECT event_id || ' ' || state FROM billing.outbox ORDER BY finished_at LIMIT 1";
    assert_eq!(app.text(first).await.as_deref(), Some("evt_3 done"));
    app.finish().await;
}

/// `BILLING_SYNC_MAX_ATTEMPTS` is lowered while an event fails.
#[tokio::test]
async fn an_event_without_attempts_left_is_dead_with_its_own_error() {
    let app = TestApp::start().await;
    app.deliver_customers(&["cus_1"]).await;
    app.execute("UPDATE billing.outbox SET isolated = true, attempts = 5, last_error = 'a cause'").await;
    app.drain().await;
    assert_eq!(app.fate("evt_0").await, "dead - -");
    assert_eq!(app.text("SELECT last_error FROM billing.outbox").await.as_deref(), Some("a cause"));
    app.finish().await;
}

#[tokio::test]
async fn an_event_that_always_kills_its_worker_runs_out_of_attempts() {
    let app = TestApp::start().await;
    app.deliver_customers(&["cus_1"]).await;
    app.execute("UPDATE billing.outbox SET isolated = true").await;
    let mut conn = app.pool.acquire().await.unwrap();
    for number in 1..=3 {
        // the attempt is counted and committed; then the process dies, and the count remains
        let begun = attempt::begin(&mut conn, Next::Any, Duration::ZERO, 3).await.unwrap();
        assert!(matches!(begun, Some(NextAttempt::Attempt(attempt)) if attempt.number == number));
    }
    drop(conn);
    app.drain().await;
    assert_eq!(app.fate("evt_0").await, "dead - -");
    let error = app.text("SELECT attempts || ' ' || last_error FROM billing.outbox").await;
    assert_eq!(error.as_deref(), Some("3 the worker stopped during this attempt"));
    app.finish().await;
}

#[tokio::test]
async fn a_running_attempt_is_not_taken_twice() {
    let mut app = TestApp::start().await;
    app.leave_pending();
    app.deliver_customers(&["cus_1"]).await;
    app.execute("UPDATE billing.outbox SET isolated = true").await;
    let mut conn = app.pool.acquire().await.unwrap();
    let begun = attempt::begin(&mut conn, Next::Any, Duration::from_mins(1), 3).await.unwrap();
    let Some(NextAttempt::Attempt(attempt)) = begun else { panic!("no attempt") };
    drop(conn);
    app.drain().await;
    assert_eq!(app.fate("evt_0").await, "pending - -", "leased");
    let mut tx = app.pool.begin().await.unwrap();
    assert!(attempt::claim(&mut tx, &attempt).await.unwrap().is_some());
    let mut other = app.pool.begin().await.unwrap();
    assert!(attempt::claim(&mut other, &attempt).await.unwrap().is_none(), "locked");
    drop((tx, other));
    app.finish().await;
}

#[tokio::test]
async fn a_locked_row_delays_only_its_own_events_without_an_attempt() {
    let app = TestApp::start().await;
    app.deliver_and_drain(&[event("evt_a", "customer.created", 0, &customer("cus_1", "Ada"), None)]).await;
    let mut holder = app.pool.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM billing.billing_contacts FOR UPDATE").execute(&mut *holder).await.unwrap();
    app.deliver(&event("evt_b", "customer.updated", 5, &customer("cus_1", "Eve"), None)).await;
    app.deliver(&event("evt_c", "customer.created", 0, &customer("cus_2", "Zoe"), None)).await;
    app.drain().await;
    assert_eq!(app.fate("evt_c").await, "done applied -");
    assert_eq!(app.fate("evt_b").await, "pending - -");
    assert_eq!(
        app.text("SELECT attempts::text FROM billing.outbox WHERE event_id = 'evt_b'").await.as_deref(),
        Some("0")
    );
    holder.rollback().await.unwrap();
    app.drain_to_the_end().await;
    assert_eq!(app.fate("evt_b").await, "done applied -");
    app.finish().await;
}

#[tokio::test]
async fn an_event_without_a_payload_is_dead_and_blocks_no_other() {
    let mut app = TestApp::start().await;
    app.context.config.batch_size = 1;
    app.deliver_customers(&["cus_1", "cus_2"]).await;
    app.execute("DELETE FROM billing.events WHERE event_id = 'evt_0'").await;
    app.drain().await;
    assert_eq!(app.fate("evt_0").await, "dead - -");
    assert_eq!(app.fate("evt_1").await, "done applied -");
    app.finish().await;
}

#[tokio::test]
async fn a_batch_is_bounded_in_bytes_too() {
    let app = TestApp::start().await;
    let big = with(&customer("cus_1", "Ada"), json!({ "description": "x".repeat(900_000) }));
    for number in 0..20 {
        app.deliver(&event(&format!("evt_{number:02}"), "customer.updated", number, &big, None)).await;
    }
    let mut tx = app.pool.begin().await.unwrap();
    let claimed = claim::batch(&mut tx, 100, OffsetDateTime::UNIX_EPOCH).await.unwrap();
    assert!((5..10).contains(&claimed.len()), "{} events of 0.9 MB", claimed.len());
    drop(tx);
    app.drain().await;
    app.finish().await;
}
