//! Orphans: rows without their workspace, price or customer are listed and counted until the missing object arrives.

use billing_sync::database::Connection;
use billing_sync::metrics::database::{self, MOST_ORPHANS};
use prometheus::TextEncoder;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions};

use crate::support::app::TestApp;
use crate::support::events::{customer, event, price, subscription, update, with};
use crate::support::fetching::Fetching;
use crate::support::stripe::Epoch;

const WORKSPACE: &str = "00000000-0000-4000-8000-000000000001";

const LIST: &str = "SELECT concat_ws(' ', kind, coalesce(stripe_subscription_id, stripe_customer_id), missing_type,
    missing_id, read_state) FROM billing.orphans ORDER BY 1";

/// All orphans. Asserts that the metric counts the same ones.
async fn orphans(app: &TestApp) -> Vec<String> {
    let listed: Vec<String> = sqlx::query_scalar(LIST).fetch_all(&app.pool).await.unwrap();
    for counted in database::orphans(&mut app.pool.acquire().await.unwrap()).await.unwrap() {
        let of_kind = listed.iter().filter(|line| line.split(' ').next() == Some(&counted.kind)).count();
        assert_eq!(i64::try_from(of_kind).unwrap(), counted.count, "{listed:?}");
    }
    listed
}

/// The event with only the id of its item's price.
fn with_price_id_only(mut event: Value) -> Value {
    let item = &mut event["data"]["object"]["items"]["data"][0];
    item["price"] = item["price"]["id"].clone();
    item.as_object_mut().unwrap().remove("plan");
    event
}

fn with_workspace(object: &Value) -> Value {
    with(object, json!({ "metadata": { "workspace_id": WORKSPACE } }))
}

#[tokio::test]
async fn each_kind_disappears_when_the_missing_object_arrives() {
    let app = TestApp::start().await;
    assert_eq!(orphans(&app).await, Vec::<String>::new());
    let sold = event("evt_1", "customer.subscription.created", 0, &subscription("sub_1", "cus_1"), None);
    app.deliver_and_drain(&[with_price_id_only(sold)]).await;
    let of_price = "subscription_without_price sub_1 price price_basic not_queued";
    assert_eq!(
        orphans(&app).await,
        ["subscription_without_customer sub_1 customer cus_1 not_queued", of_price],
        "without a key no read is queued"
    );
    let ada = customer("cus_1", "Ada");
    app.deliver_and_drain(&[event("evt_2", "customer.created", 0, &ada, None)]).await;
    let of_workspace = "contact_without_workspace cus_1 workspace";
    assert_eq!(orphans(&app).await, [of_workspace, of_price]);
    app.deliver_and_drain(&[event("evt_3", "price.created", 0, &price("price_basic", 1900), None)]).await;
    assert_eq!(orphans(&app).await, [of_workspace]);
    app.deliver_and_drain(&[update("evt_4", "customer.updated", 5, &ada, &with_workspace(&ada))]).await;
    assert_eq!(orphans(&app).await, Vec::<String>::new());
    app.finish().await;
}

#[tokio::test]
async fn a_later_workspace_in_subscription_or_checkout_resolves_it() {
    let sold = subscription("sub_1", "cus_1");
    let session = json!({
        "id": "cs_1", "object": "checkout.session", "created": 1_767_225_600, "status": "complete", "metadata": {},
        "payment_status": "paid", "customer": "cus_1", "subscription": "sub_1", "client_reference_id": WORKSPACE,
    });
    for resolving in [
        update("evt_3", "customer.subscription.updated", 5, &sold, &with_workspace(&sold)),
        event("evt_3", "checkout.session.completed", 5, &session, None),
    ] {
        let app = TestApp::start().await;
        app.deliver_and_drain(&[
            event("evt_1", "customer.created", 0, &customer("cus_1", "Ada"), None),
            event("evt_2", "customer.subscription.created", 0, &sold, None),
        ])
        .await;
        assert_eq!(orphans(&app).await, ["contact_without_workspace cus_1 workspace"]);
        app.deliver_and_drain(std::slice::from_ref(&resolving)).await;
        assert_eq!(orphans(&app).await, Vec::<String>::new(), "{}", resolving["type"]);
        app.finish().await;
    }
}

#[tokio::test]
async fn with_a_key_the_missing_object_is_fetched() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    sync.stripe.update(&sale.customer, json!({ "metadata": { "workspace_id": WORKSPACE } }));
    sync.pass_the_margin();
    let sold = sync.stripe.events().into_iter().find(|event| event.event_type == "customer.subscription.created");
    sync.app.deliver_and_drain(&[with_price_id_only(sold.unwrap().json(Epoch::Endive))]).await;
    assert_eq!(
        orphans(&sync.app).await,
        [
            format!("subscription_without_customer {} customer {} queued", sale.subscription, sale.customer),
            format!("subscription_without_price {} price {} queued", sale.subscription, sale.price)
        ]
    );
    sync.settle().await;
    assert_eq!(orphans(&sync.app).await, Vec::<String>::new());
    sync.finish().await;
}

#[tokio::test]
async fn orphans_unknown_to_stripe_stay_until_an_event_resolves_them() {
    let sync = Fetching::start().await;
    // an event that Stripe knows verifies that the key belongs to our account
    sync.sell();
    sync.emit(0, Epoch::Endive, &["product.created"]).await;
    let now = sync.stripe.now() - crate::support::events::START;
    let sold = event("evt_1", "customer.subscription.created", now, &subscription("sub_unknown", "cus_unknown"), None);
    sync.app.deliver(&with_price_id_only(sold)).await;
    sync.pass_the_margin();
    sync.settle().await;
    assert_eq!(
        orphans(&sync.app).await,
        [
            "subscription_without_customer sub_unknown customer cus_unknown not_found",
            "subscription_without_price sub_unknown price price_basic not_found"
        ]
    );
    let later = now + 100;
    sync.app
        .deliver_and_drain(&[
            event("evt_2", "customer.created", later, &with_workspace(&customer("cus_unknown", "Ada")), None),
            event("evt_3", "price.created", later, &price("price_basic", 1900), None),
        ])
        .await;
    assert_eq!(orphans(&sync.app).await, Vec::<String>::new());
    sync.app.execute("DELETE FROM billing.jobs").await;
    sync.finish().await;
}

#[tokio::test]
async fn subscription_of_a_deleted_unseen_customer_is_fetched_ended() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    let sold = sync.stripe.events();
    sync.stripe.tick(60);
    sync.stripe.delete(&sale.customer);
    sync.pass_the_margin();
    // neither the customer's creation or deletion nor the end of the subscription is delivered
    let mut delivered: Vec<_> =
        sold.iter().map(|event| (event.event_type.as_str(), event.json(Epoch::Endive))).collect();
    delivered.retain(|(event_type, _)| *event_type == "customer.subscription.created");
    for (_, event) in &delivered {
        sync.app.deliver(event).await;
    }
    sync.settle().await;
    assert_eq!(orphans(&sync.app).await, Vec::<String>::new());
    let status = "SELECT stripe_status FROM billing.subscriptions";
    assert_eq!(sync.app.text(status).await.as_deref(), Some("canceled"));
    sync.finish().await;
}

/// Inserts a contact; its ids contain `number`.
pub(crate) async fn contact(conn: &mut Connection, number: u32, changes: &str) {
    let sql = format!(
        "INSERT INTO billing.billing_contacts (id, account, stripe_customer_id, name, email)
        VALUES (lpad('{number}', 32, '0')::uuid, '', 'cus_{number}', 'Ada Lovelace', 'ada@example.com');
        UPDATE billing.billing_contacts SET {changes} WHERE stripe_customer_id = 'cus_{number}'"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.unwrap();
}

/// Inserts an active subscription of contact `of` with a plan and without a workspace.
pub(crate) async fn subscribe(conn: &mut Connection, number: u32, of: u32, changes: &str) {
    let sql = format!(
        "INSERT INTO billing.subscriptions (id, account, stripe_subscription_id, stripe_customer_id, billing_contact_id,
            stripe_status, active, payment_paused, is_trial, is_grace_period, active_discounts, active_discount_ends,
            stripe_price_id, pricing_plan_id)
        VALUES (lpad('9{number:03}', 32, '0')::uuid, '', 'sub_{number}', 'cus_{of}', lpad('{of}', 32, '0')::uuid, 'active',
            true, false, false, false, '{{}}', '{{}}', 'price_1', lpad('a', 32, '0')::uuid);
        UPDATE billing.subscriptions SET {changes} WHERE stripe_subscription_id = 'sub_{number}'"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.unwrap();
}

const CANCELED: &str = "stripe_status = 'canceled', active = false, inactive_reason = 'canceled'";
const EXPIRED: &str = "stripe_status = 'incomplete_expired', active = false, inactive_reason = 'incomplete_expired'";
const ENDED: &str = "active = false, inactive_reason = 'ended'";
const UNPAID: &str = "stripe_status = 'unpaid', active = false, inactive_reason = 'unpaid'";
const NO_PLAN: &str = "pricing_plan_id = NULL";
const ANY_WORKSPACE: &str = "workspace_id = gen_random_uuid()";

#[tokio::test]
async fn deleted_contacts_and_ended_subscriptions_are_no_orphans() {
    let app = TestApp::start().await;
    let conn = &mut Connection::from(app.database.options.connect().await.unwrap());
    let mut number = 0;
    for ended in [CANCELED, EXPIRED, ENDED] {
        number += 1;
        contact(conn, number, "name = NULL").await;
        subscribe(conn, number, number, &format!("{ended}, {NO_PLAN}")).await;
        subscribe(conn, number + 100, number + 100, ended).await;
    }
    contact(conn, 10, "stripe_deleted_at = now()").await;
    subscribe(conn, 10, 10, "active = true").await;
    contact(conn, 11, "name = NULL").await;
    contact(conn, 12, ANY_WORKSPACE).await;
    // the metadata of this subscription contains an invalid id, and the customer's workspace is not used instead
    subscribe(conn, 12, 12, "active = true").await;
    contact(conn, 13, "name = NULL").await;
    subscribe(conn, 13, 13, "active = true").await;
    subscribe(conn, 14, 13, ANY_WORKSPACE).await;
    assert_eq!(orphans(&app).await, Vec::<String>::new());
    // the workspace of an ended subscription does not count
    sqlx::raw_sql(AssertSqlSafe(format!(
        "UPDATE billing.subscriptions SET {CANCELED} WHERE stripe_subscription_id = 'sub_14'"
    )))
    .execute(&mut *conn)
    .await
    .unwrap();
    assert_eq!(orphans(&app).await, ["contact_without_workspace cus_13 workspace"]);
    // an unpaid subscription may still be paid
    subscribe(conn, 20, 11, &format!("{UNPAID}, {NO_PLAN}")).await;
    subscribe(conn, 21, 21, &format!("{UNPAID}, {NO_PLAN}, stripe_price_id = NULL")).await;
    assert_eq!(
        orphans(&app).await,
        [
            "contact_without_workspace cus_11 workspace",
            "contact_without_workspace cus_13 workspace",
            "subscription_without_customer sub_21 customer cus_21 not_queued",
            "subscription_without_price sub_20 price price_1 not_queued",
            "subscription_without_price sub_21 price",
        ]
    );
    app.finish().await;
}

#[tokio::test]
async fn a_contact_with_several_subscriptions_is_one_orphan() {
    let app = TestApp::start().await;
    let conn = &mut Connection::from(app.database.options.connect().await.unwrap());
    contact(conn, 1, "name = NULL").await;
    for number in 1..4 {
        subscribe(conn, number, 1, "active = true").await;
    }
    assert_eq!(orphans(&app).await, ["contact_without_workspace cus_1 workspace"]);
    app.finish().await;
}

#[tokio::test]
async fn missing_contacts_do_not_depend_on_the_order_of_arrival() {
    let app = TestApp::start().await;
    let unknown =
        "SELECT coalesce(string_agg(ltrim(replace(billing_contact_id::text, '-', ''), '0'), ' ' ORDER BY 1), '')
        FROM billing.missing_contacts";
    let conn = &mut Connection::from(app.database.options.connect().await.unwrap());
    contact(conn, 1, "name = NULL").await;
    subscribe(conn, 1, 1, "active = true").await;
    subscribe(conn, 2, 2, "active = true").await;
    subscribe(conn, 3, 2, CANCELED).await;
    subscribe(conn, 4, 3, "active = true").await;
    assert_eq!(app.text(unknown).await.as_deref(), Some("2 3"), "each once, ended subscriptions too");
    contact(conn, 2, "name = 'Bea'").await;
    assert_eq!(app.text(unknown).await.as_deref(), Some("3"));
    let again = "INSERT INTO billing.subscriptions SELECT * FROM billing.subscriptions ON CONFLICT (id) DO UPDATE SET updated_at = now()";
    sqlx::query(again).execute(&mut *conn).await.unwrap();
    let again = "INSERT INTO billing.billing_contacts SELECT * FROM billing.billing_contacts ON CONFLICT (id) DO UPDATE SET name = 'B'";
    sqlx::query(again).execute(&mut *conn).await.unwrap();
    assert_eq!(app.text(unknown).await.as_deref(), Some("3"));
    app.finish().await;
}

/// The gauges as /metrics shows them.
async fn gauges(app: &TestApp) -> Vec<String> {
    let text = TextEncoder::new().encode_to_string(&database::gather(&app.pool).await).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("billing_sync_"));
    lines.filter(|line| line.starts_with("orphans") || line.starts_with("database_up")).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_gauge_has_every_kind_or_is_absent_if_counting_is_slow() {
    let app = TestApp::start().await;
    let zero = [
        "database_up 1",
        "orphans{kind=\"contact_without_workspace\"} 0",
        "orphans{kind=\"subscription_without_customer\"} 0",
        "orphans{kind=\"subscription_without_price\"} 0",
    ];
    assert_eq!(gauges(&app).await, zero);
    let mut holder = app.pool.begin().await.unwrap();
    subscribe(&mut holder, 1, 1, NO_PLAN).await;
    subscribe(&mut holder, 2, 1, NO_PLAN).await;
    sqlx::query("LOCK TABLE billing.missing_contacts").execute(&mut *holder).await.unwrap();
    assert_eq!(gauges(&app).await, ["database_up 1"], "the other gauges are there");
    holder.commit().await.unwrap();
    let counted = gauges(&app).await;
    assert_eq!(counted[1..], [zero[1], &zero[2].replace('0', "2"), &zero[3].replace('0', "2")]);
    app.finish().await;
}

#[tokio::test]
async fn counting_uses_partial_indexes_and_stops_at_its_limit() {
    let app = TestApp::start().await;
    app.execute(
        "INSERT INTO billing.billing_contacts (id, account, stripe_customer_id, workspace_id)
        SELECT lpad(n::text, 32, '0')::uuid, '', 'cus_' || n, gen_random_uuid() FROM generate_series(1, 20000) AS n;
        INSERT INTO billing.subscriptions (id, account, stripe_subscription_id, stripe_customer_id, billing_contact_id,
            workspace_id, stripe_status, active, payment_paused, is_trial, is_grace_period, active_discounts,
            active_discount_ends, pricing_plan_id)
        SELECT lpad(n::text, 32, '0')::uuid, '', 'sub_' || n, 'cus_' || n, lpad(n::text, 32, '0')::uuid, gen_random_uuid(),
            'active', true, false, false, false, '{}', '{}', gen_random_uuid() FROM generate_series(1, 20000) AS n;
        ANALYZE billing.billing_contacts, billing.subscriptions",
    )
    .await;
    assert_no_table_is_read_whole(&app).await;
    assert_eq!(orphans(&app).await, Vec::<String>::new());
    app.execute(
        "UPDATE billing.billing_contacts SET workspace_id = NULL;
        UPDATE billing.subscriptions SET workspace_id = NULL;
        UPDATE billing.subscriptions SET pricing_plan_id = NULL WHERE stripe_subscription_id = 'sub_7';
        ANALYZE billing.billing_contacts, billing.subscriptions",
    )
    .await;
    assert_no_table_is_read_whole(&app).await;
    let counted = database::orphans(&mut app.pool.acquire().await.unwrap()).await.unwrap();
    assert_eq!(counted.iter().map(|of_kind| of_kind.count).collect::<Vec<_>>(), [MOST_ORPHANS, 0, 1]);
    app.finish().await;
}

/// Checks the query plans of `metrics.orphans` for each kind.
async fn assert_no_table_is_read_whole(app: &TestApp) {
    let sql = format!(
        "EXPLAIN SELECT kind, (SELECT count(*) FROM (SELECT FROM billing.orphans AS o WHERE o.kind = asked.kind
            LIMIT {MOST_ORPHANS}) AS counted) FROM unnest('{{a,b,c}}'::text[]) AS asked (kind)"
    );
    let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&app.pool).await.unwrap();
    let plan = plan.join("\n");
    for table in ["subscriptions", "billing_contacts", "stripe_objects", "jobs"] {
        assert!(!plan.contains(&format!("Seq Scan on {table}")), "{plan}");
    }
    for index in ["subscriptions_unplaced", "subscriptions_unpriced"] {
        assert!(plan.contains(index), "{plan}");
    }
}
