//! Order does not matter: for any order of arrival, the rows are those of the true order.

mod life;

use billing_sync::database::Pool;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::life::{last_events, life};
use crate::support::app::TestApp;
use crate::support::events::{customer, event, price, subscription, thin, update, with};

const UPDATED: &str = "customer.subscription.updated";

fn paused(object: &Value) -> Value {
    with(object, json!({ "pause_collection": { "behavior": "void", "resumes_at": null } }))
}

/// The rows after these events, delivered and processed one by one.
async fn rows_after(events: &[Value]) -> Vec<String> {
    let app = TestApp::start().await;
    for event in events {
        app.deliver_and_drain(std::slice::from_ref(event)).await;
    }
    let rows = app.rows().await;
    app.finish().await;
    rows
}

#[tokio::test]
async fn two_updates_within_one_second_end_the_same_in_both_orders() {
    let active = subscription("sub_1", "cus_1");
    let canceling = with(&active, json!({ "cancel_at_period_end": true }));
    let paused = paused(&canceling);
    let first = update("evt_z", UPDATED, 5, &active, &canceling);
    let second = update("evt_a", UPDATED, 5, &canceling, &paused);
    let in_order = rows_after(&[first.clone(), second.clone()]).await;
    let swapped = rows_after(&[second, first]).await;
    assert_eq!(in_order, swapped);
    assert!(in_order.iter().any(|row| row.contains(r#""payment_paused": true"#)), "{in_order:#?}");
}

#[tokio::test]
async fn a_pause_and_resume_within_one_second_change_nothing() {
    let active = subscription("sub_1", "cus_1");
    let paused = paused(&active);
    let created = event("evt_0", "customer.subscription.created", 0, &active, None);
    // ids sort opposite to the true order, so that a choice by id would fail
    let pause = update("evt_2", UPDATED, 9, &active, &paused);
    let resume = update("evt_1", UPDATED, 9, &paused, &active);
    for order in [[&created, &pause, &resume], [&resume, &pause, &created], [&pause, &created, &resume]] {
        let rows = rows_after(&order.map(Clone::clone)).await;
        assert!(rows.iter().any(|row| row.contains(r#""payment_paused": false"#)), "{rows:#?}");
    }
}

/// A debit failed, and a second one is pending: only the late event reports the first, and its object already has a
/// newer state.
#[tokio::test]
async fn a_late_failure_counts_beside_a_newer_state_of_its_intent() {
    let app = TestApp::start().await;
    let invoice = json!({ "id": "in_1", "object": "invoice", "customer": "cus_1", "subscription": "sub_1",
        "payment_intent": "pi_1", "status": "open" });
    let intent = json!({ "id": "pi_1", "object": "payment_intent", "customer": "cus_1", "invoice": "in_1",
        "status": "processing", "latest_charge": "ch_2", "last_payment_error": null });
    let failed = with(
        &intent,
        json!({ "status": "requires_payment_method", "latest_charge": "ch_1",
        "last_payment_error": { "charge": "ch_1", "payment_method": { "type": "sepa_debit" } } }),
    );
    app.deliver_and_drain(&[
        event("evt_1", "customer.subscription.created", 0, &subscription("sub_1", "cus_1"), None),
        event("evt_2", "invoice.finalized", 1, &invoice, None),
        event("evt_4", "payment_intent.processing", 20, &intent, None),
    ])
    .await;
    let flag = "SELECT sepa_payment_failed::text FROM billing.subscriptions";
    assert_eq!(app.text(flag).await.as_deref(), Some("false"));
    app.deliver_and_drain(&[event("evt_3", "payment_intent.payment_failed", 10, &failed, None)]).await;
    assert_eq!(app.fate("evt_3").await, "done superseded -");
    assert_eq!(app.text(flag).await.as_deref(), Some("true"));
    app.finish().await;
}

#[tokio::test]
async fn a_late_update_does_not_undo_a_deletion() {
    let app = TestApp::start().await;
    let ada = customer("cus_1", "Ada");
    let renamed = with(&ada, json!({ "name": "Ada L." }));
    let gone = with(&subscription("sub_1", "cus_1"), json!({ "status": "canceled", "ended_at": 1_767_226_000 }));
    app.deliver_and_drain(&[
        event("evt_1", "customer.deleted", 10, &renamed, None),
        event("evt_2", "customer.subscription.deleted", 10, &gone, None),
    ])
    .await;
    app.deliver_and_drain(&[
        update("evt_3", "customer.updated", 5, &ada, &renamed),
        event("evt_4", "customer.created", 0, &ada, None),
        event("evt_5", "customer.subscription.created", 0, &subscription("sub_1", "cus_1"), None),
    ])
    .await;
    let contact = "SELECT name || ' ' || (stripe_deleted_at = '2026-01-01T00:00:10Z') FROM billing.billing_contacts";
    assert_eq!(app.text(contact).await.as_deref(), Some("Ada L. true"));
    let status = "SELECT stripe_status || ' ' || active FROM billing.subscriptions";
    assert_eq!(app.text(status).await.as_deref(), Some("canceled false"));
    assert_eq!(app.fate("evt_3").await, "done superseded -");
    app.finish().await;
}

#[tokio::test]
async fn older_content_fills_in_under_a_deletion_stub() {
    let app = TestApp::start().await;
    let stub = json!({ "id": "cus_1", "object": "customer", "deleted": true });
    app.deliver_and_drain(&[event("evt_1", "customer.deleted", 10, &stub, None)]).await;
    assert_eq!(app.rows().await, Vec::<String>::new(), "only the deletion is known");
    assert_eq!(app.fate("evt_1").await, "done applied -");
    app.deliver_and_drain(&[event("evt_0", "customer.created", 0, &customer("cus_1", "Ada"), None)]).await;
    let contact = "SELECT name || ' ' || (stripe_deleted_at IS NOT NULL) FROM billing.billing_contacts";
    assert_eq!(app.text(contact).await.as_deref(), Some("Ada true"));
    app.finish().await;
}

#[tokio::test]
async fn an_ambiguous_order_is_counted_and_decided_alike() {
    let one = with(&subscription("sub_1", "cus_1"), json!({ "cancel_at_period_end": true }));
    let two = paused(&subscription("sub_1", "cus_1"));
    // without previous attributes the order is ambiguous
    let first = event("evt_1", UPDATED, 5, &one, None);
    let second = event("evt_2", UPDATED, 5, &two, None);
    assert_eq!(rows_after(&[first.clone(), second.clone()]).await, rows_after(&[second.clone(), first.clone()]).await);
    let app = TestApp::start().await;
    app.deliver_and_drain(&[first, second]).await;
    assert!(app.metric("billing_sync_order_ambiguous_total") > 0.0);
    app.finish().await;
}

#[tokio::test]
async fn an_older_event_is_not_ambiguous() {
    let app = TestApp::start().await;
    let active = subscription("sub_1", "cus_1");
    app.deliver_and_drain(&[update("evt_2", UPDATED, 9, &active, &paused(&active))]).await;
    app.deliver_and_drain(&[event("evt_1", "customer.subscription.created", 3, &active, None)]).await;
    assert_eq!(app.fate("evt_1").await, "done superseded -");
    assert!(app.metric("billing_sync_order_ambiguous_total").abs() < f64::EPSILON);
    app.finish().await;
}

#[tokio::test]
async fn the_newest_price_in_a_subscription_makes_the_plan() {
    let old = subscription("sub_1", "cus_1");
    let mut new = old.clone();
    new["items"]["data"][0]["price"] = price("price_basic", 2900);
    let first = event("evt_1", "customer.subscription.created", 0, &old, None);
    let second = update("evt_2", UPDATED, 60, &old, &new);
    let in_order = rows_after(&[first.clone(), second.clone()]).await;
    assert_eq!(in_order, rows_after(&[second, first]).await);
    assert!(in_order.iter().any(|row| row.contains(r#""unit_amount_decimal": 2900"#)), "{in_order:#?}");
}

#[tokio::test]
async fn a_late_customer_gives_its_workspace_to_the_subscription() {
    let workspace = "550e8400-e29b-41d4-a716-446655440000";
    let subscribed = event("evt_1", "customer.subscription.created", 5, &subscription("sub_1", "cus_1"), None);
    let ada = with(&customer("cus_1", "Ada"), json!({ "metadata": { "workspaceId": workspace } }));
    let created = event("evt_0", "customer.created", 0, &ada, None);
    let in_order = rows_after(&[created.clone(), subscribed.clone()]).await;
    assert_eq!(in_order, rows_after(&[subscribed, created]).await);
    assert!(in_order.iter().any(|row| row.starts_with("subscription") && row.contains(workspace)));
}

#[tokio::test]
async fn a_thin_event_yields_to_its_snapshot_or_needs_a_fetch() {
    let app = TestApp::start().await;
    let created = event("evt_1", "customer.created", 0, &customer("cus_1", "Ada"), None);
    let counterpart = thin("evt_t1", "v1.customer.created", "2026-01-01T00:00:00.250Z", "customer", "cus_1");
    let single = thin("evt_t2", "v1.customer.updated", "2026-01-01T00:00:07Z", "customer", "cus_1");
    app.deliver_and_drain(&[created, counterpart, single]).await;
    assert_eq!(app.fate("evt_t1").await, "done superseded superseded_by_snapshot");
    assert_eq!(app.fate("evt_t2").await, "done ignored needs_fetch");
    app.finish().await;
}

impl TestApp {
    /// The rows and the timeline after these events, in batches of this size as they arrive.
    async fn rows_in_batches(&mut self, events: &[&Value], batch_size: usize) -> (Vec<String>, Vec<String>) {
        self.forget_everything().await;
        self.context.config.batch_size = batch_size;
        for some in events.chunks(batch_size) {
            self.enqueue(some.iter().copied()).await;
            self.worker().drain(&CancellationToken::new()).await.unwrap();
        }
        (self.rows().await, self.timeline().await)
    }
}

/// The same 60 histories every time; in `make soak` a configured number of new ones. A failed history is printed
/// completely.
fn runner() -> (TestRunner, u32) {
    #[expect(clippy::disallowed_methods, reason = "tests have no configuration but the environment")]
    let lives = std::env::var("SOAK_HISTORIES").ok().and_then(|lives| lives.parse().ok());
    lives.map_or_else(|| (TestRunner::deterministic(), 60), |lives| (TestRunner::default(), lives))
}

/// The main law: any permutation, with duplicates, in batches of any size, gives the rows of the last states; if an
/// order is ambiguous, the rows are the same every time.
#[tokio::test]
async fn any_order_of_arrival_ends_in_the_rows_of_the_true_order() {
    let mut app = TestApp::start().await;
    let (mut runner, lives) = runner();
    let (mut clear, mut ambiguous) = (0, 0);
    for _ in 0..lives {
        let life = life().new_tree(&mut runner).unwrap().current();
        let true_order: Vec<&Value> = life.events.iter().collect();
        let arrival: Vec<&Value> = life.arrival.iter().map(|index| &life.events[*index]).collect();
        let before = app.metric("billing_sync_order_ambiguous_total");
        let expected = app.rows_in_batches(&true_order, 100).await;
        let is_ambiguous = app.metric("billing_sync_order_ambiguous_total") > before;
        assert_eq!(app.rows_in_batches(&arrival, life.batch_size).await, expected, "{life:#?}");
        if is_ambiguous {
            ambiguous += 1;
            continue;
        }
        clear += 1;
        let last = last_events(&life.events);
        assert_eq!(app.rows_in_batches(&last.iter().collect::<Vec<_>>(), 1).await.0, expected.0, "{life:#?}");
    }
    assert!(clear > 4 * ambiguous, "{clear} clear, {ambiguous} ambiguous: the law checks too little");
    app.finish().await;
}

/// Four concurrent workers process batches with the same objects in opposite order: no deadlock, no event left, and the
/// rows of the true order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_in_opposite_order_do_not_deadlock() {
    let mut app = TestApp::start().await;
    app.context.config.batch_size = 7;
    let customers: Vec<String> = (0..12).map(|number| format!("cus_{number:02}")).collect();
    let mut events = Vec::new();
    for round in 0..8_i64 {
        let mut these = customers.clone();
        if round % 2 == 1 {
            these.reverse();
        }
        for (index, id) in these.iter().enumerate() {
            let object =
                with(&subscription(&format!("sub_{id}"), id), json!({ "metadata": { "round": round.to_string() } }));
            events.push(event(&format!("evt_{round}_{index:02}"), UPDATED, round, &object, None));
        }
    }
    app.enqueue(events.iter()).await;
    let never = CancellationToken::new();
    let drains = (0..4).map(|_| {
        let (mut worker, never) = (app.worker(), never.clone());
        tokio::spawn(async move { worker.drain(&never).await })
    });
    for drain in drains.collect::<Vec<_>>() {
        drain.await.unwrap().unwrap();
    }
    app.drain().await;
    let newest = "SELECT string_agg(DISTINCT convert_from(content, 'UTF8')::json #>> '{metadata,round}', ',')
        FROM billing.stripe_objects WHERE object_type = 'subscription'";
    assert_eq!(app.text(newest).await.as_deref(), Some("7"));
    assert!(app.metric("billing_sync_attempts_failed_total{result=\"transient\"}").abs() < f64::EPSILON);
    app.finish().await;
}

/// After a lock is granted, a statement must see the commit of its last holder, so every transaction sets the isolation
/// level; timeouts end every wait and every idle transaction.
#[tokio::test]
async fn worker_transactions_are_always_read_committed() {
    let app = TestApp::start().await;
    app.execute(
        "CREATE TABLE public.seen (isolation text, lock_limit text, idle_limit text);
        CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.seen SELECT current_setting('transaction_isolation'), current_setting('lock_timeout'),
                current_setting('idle_in_transaction_session_timeout');
            RETURN NEW;
        END $$;
        CREATE TRIGGER see BEFORE INSERT ON billing.billing_contacts FOR EACH ROW EXECUTE FUNCTION public.see();
        DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable',
            current_database()); END $$",
    )
    .await;
    // new connections have the new default
    let mut context = app.context.clone();
    context.pool = Pool::from(sqlx::PgPool::connect_with(app.pool.address().options).await.unwrap());
    app.deliver(&event("evt_1", "customer.created", 0, &customer("cus_1", "Ada"), None)).await;
    billing_sync::worker::Worker::new(context).drain(&CancellationToken::new()).await.unwrap();
    let seen = app.text("SELECT isolation || ' ' || lock_limit || ' ' || idle_limit FROM public.seen").await;
    assert_eq!(seen.as_deref(), Some("read committed 2s 1min"));
    app.finish().await;
}

/// Stripe never moves a subscription to another customer; if it happened, the row would still be correct.
#[tokio::test]
async fn a_moved_subscription_waits_for_the_old_customers_lock() {
    let app = TestApp::start().await;
    let old = subscription("sub_1", "cus_a");
    app.deliver_and_drain(&[event("evt_1", "customer.subscription.created", 0, &old, None)]).await;
    let mut other_worker = app.pool.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM billing.locks WHERE key = '/customer/cus_a' FOR UPDATE")
        .execute(&mut *other_worker)
        .await
        .unwrap();
    let moved = with(&old, json!({ "customer": "cus_b" }));
    app.deliver(&update("evt_2", UPDATED, 9, &old, &moved)).await;
    app.drain().await;
    assert_eq!(app.fate("evt_2").await, "pending - -", "it waits for the lock of the old customer");
    other_worker.rollback().await.unwrap();
    app.execute("UPDATE billing.outbox SET run_at = clock_timestamp()").await;
    app.drain().await;
    let customer = app.text("SELECT stripe_customer_id FROM billing.subscriptions").await;
    assert_eq!(customer.as_deref(), Some("cus_b"));
    app.finish().await;
}

/// A snapshot that was not merged does not replace a thin event, and neither does a snapshot of another change.
#[tokio::test]
async fn a_thin_event_beside_an_unmerged_snapshot_is_read() {
    let app = TestApp::start().await;
    let object = subscription("sub_1", "cus_1");
    let at = "2026-01-01T00:00:05.250Z";
    let informational = event("evt_1", "customer.subscription.trial_will_end", 5, &object, None);
    let foreign = with(&event("evt_2", UPDATED, 5, &object, None), json!({ "livemode": true }));
    let created = event("evt_3", "customer.subscription.created", 5, &object, None);
    let updated = thin("evt_t1", "v1.customer.subscription.updated", at, "subscription", "sub_1");
    app.deliver_and_drain(&[informational, foreign, created, updated]).await;
    assert_eq!(app.fate("evt_t1").await, "done ignored needs_fetch", "no snapshot belongs to this change");
    // the snapshot was merged by an earlier batch, or by the same one; `item_added` has a snapshot of another type
    let again = thin("evt_t2", "v1.customer.subscription.created", at, "subscription", "sub_1");
    let finer = thin("evt_t3", "v1.customer.subscription.item_added", at, "subscription", "sub_1");
    let late = thin("evt_t4", "v1.customer.subscription.updated", at, "subscription", "sub_1");
    let snapshot = event("evt_4", UPDATED, 5, &object, None);
    app.deliver_and_drain(&[again, finer]).await;
    app.deliver_and_drain(&[late, snapshot]).await;
    for (id, expected) in [
        ("evt_t2", "done superseded superseded_by_snapshot"),
        ("evt_t3", "done superseded superseded_by_snapshot"),
        ("evt_t4", "done superseded superseded_by_snapshot"),
    ] {
        assert_eq!(app.fate(id).await, expected, "{id}");
    }
    app.finish().await;
}

/// A creation and an update of one second, with incomplete `previous_attributes`, in one or two API versions: the
/// update is the last in any order, and nothing is ambiguous.
#[tokio::test]
async fn a_creation_never_follows_an_update_of_its_second() {
    let before = with(&subscription("sub_1", "cus_1"), json!({ "status": "incomplete" }));
    let after = with(&before, json!({ "status": "active", "cancel_at_period_end": true, "pending_setup_intent": "x" }));
    let created = event("evt_9", "customer.subscription.created", 5, &before, None);
    let updated = event("evt_1", UPDATED, 5, &after, Some(json!({ "status": "incomplete" })));
    let old = with(&created, json!({ "api_version": "2020-08-27" }));
    for order in [[&created, &updated], [&updated, &created], [&old, &updated], [&updated, &old]] {
        let app = TestApp::start().await;
        app.deliver_and_drain(&order.map(Clone::clone)).await;
        assert_eq!(app.text("SELECT stripe_status FROM billing.subscriptions").await.as_deref(), Some("active"));
        assert!(app.metric("billing_sync_order_ambiguous_total") < 1.0);
        app.finish().await;
    }
}
