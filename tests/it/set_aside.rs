//! Rows that cannot be computed or written are set aside, and the other rows of the same batch are written. A table
//! lists all batches of many customers or objects. The tests of renewals are in `limits/set_aside.rs`, those of events
//! in `poison.rs`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::run;
use crate::support::app::{TestApp, enqueue};
use crate::support::events::{customer, event, price, subscription, with};

/// Makes writes of the subscription of `cus_bad` and of the plan of `price_bad` fail.
const REFUSE: &str = "
    CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '23514'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON billing.subscriptions
        FOR EACH ROW WHEN (NEW.stripe_customer_id = 'cus_bad') EXECUTE FUNCTION public.refuse();
    CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON billing.pricing_plans
        FOR EACH ROW WHEN (NEW.stripe_price_id = 'price_bad') EXECUTE FUNCTION public.refuse()";

/// The error that the trigger causes, as stored.
const REFUSED: &str = "database error 23514 (check violation): function public.refuse line 1";

/// Every kind of batch, and the job that starts it.
const BATCHES: [(&str, Option<&str>); 3] = [
    ("the holders of a price, in pages", Some("('reproject', '', 'price', 'price_basic')")),
    ("the plans of a product", Some("('reproject', '', 'product', 'prod_1')")),
    ("rebuild", None),
];

const MAKE_WRONG: &str = "UPDATE billing.subscriptions SET currency = 'xxx';
    UPDATE billing.pricing_plans SET currency = 'xxx'";

/// Customers and prices whose rows are still wrong.
const LEFT: &str = "SELECT concat_ws(' ',
    (SELECT string_agg(stripe_customer_id, ' ' ORDER BY 1) FROM billing.subscriptions WHERE currency = 'xxx'),
    (SELECT string_agg(stripe_price_id, ' ' ORDER BY 1) FROM billing.pricing_plans WHERE currency = 'xxx'))";

const SET_ASIDE: &str = "SELECT coalesce(string_agg(object_id || ' ' || last_error, ', ' ORDER BY object_id), '')
    FROM billing.jobs WHERE kind = 'reproject' AND last_error IS NOT NULL";

async fn sold() -> TestApp {
    let mut app = TestApp::start().await;
    // failed jobs are retried only when the test makes them due
    let hour = Duration::from_hours(1);
    (app.context.config.retry_initial, app.context.config.retry_max) = (hour, hour);
    let mut events = Vec::new();
    for (number, id) in ["1", "2", "bad", "3", "4"].iter().enumerate() {
        let sold = subscription(&format!("sub_{id}"), &format!("cus_{id}"));
        events.push(event(&format!("evt_{number}"), "customer.subscription.created", 0, &sold, None));
    }
    for (number, id) in ["price_bad", "price_basic", "price_other"].iter().enumerate() {
        events.push(event(&format!("evt_p{number}"), "price.created", 1, &with(&price(id, 1900), json!({})), None));
    }
    app.deliver_and_drain(&events).await;
    app.execute(MAKE_WRONG).await;
    app.execute(REFUSE).await;
    app
}

/// Runs all jobs, also delayed ones.
async fn work(app: &TestApp) {
    for _ in 0..20 {
        app.execute("UPDATE billing.jobs SET run_at = clock_timestamp()").await;
        app.drain().await;
    }
}

#[tokio::test]
async fn every_batch_sets_bad_rows_aside_and_writes_the_others() {
    for (batch, job) in BATCHES {
        let app = sold().await;
        if let Some(job) = job {
            let insert = format!("INSERT INTO billing.jobs (kind, account, object_type, object_id) VALUES {job}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(insert)).execute(&app.pool).await.unwrap();
        } else {
            run(&["rebuild"], &[("DATABASE_URL", app.database.url.as_str())]);
        }
        work(&app).await;
        let left = app.text(LEFT).await.unwrap();
        // a changed plan requests its subscriptions, so all batches but the first reach both
        let (expected, aside) = match batch {
            "the holders of a price, in pages" => ("cus_bad price_bad price_other", format!("cus_bad {REFUSED}")),
            _ => ("cus_bad price_bad", format!("cus_bad {REFUSED}, price_bad {REFUSED}")),
        };
        assert_eq!(left, expected, "{batch}");
        assert_eq!(app.text(SET_ASIDE).await, Some(aside), "{batch}");

        app.execute("DROP TRIGGER refuse ON billing.subscriptions; DROP TRIGGER refuse ON billing.pricing_plans").await;
        work(&app).await;
        assert_eq!(app.text(SET_ASIDE).await.as_deref(), Some(""), "{batch}: cleared after a success");
        app.finish().await;
    }
}

/// A price with more customers than one page holds. The row of the first customer cannot be written.
async fn sold_to_many() -> TestApp {
    let mut app = TestApp::start().await;
    let hour = Duration::from_hours(1);
    (app.context.config.retry_initial, app.context.config.retry_max) = (hour, hour);
    let sold = (0..105).map(|number| {
        let customer = if number == 0 { "cus_bad".to_owned() } else { format!("cus_c{number:03}") };
        let sold = subscription(&format!("sub_{number}"), &customer);
        event(&format!("evt_{number}"), "customer.subscription.created", 0, &sold, None)
    });
    let mut events: Vec<Value> = sold.collect();
    events.push(event("evt_price", "price.created", 1, &price("price_basic", 1900), None));
    enqueue(&app.pool, events.iter()).await;
    app.drain().await;
    app.execute(MAKE_WRONG).await;
    app.execute(REFUSE).await;
    app
}

#[tokio::test]
async fn pages_after_a_bad_row_are_written_beside_a_locked_plan() {
    let app = sold_to_many().await;
    let mut product = app.pool.begin().await.unwrap();
    sqlx::raw_sql("SELECT FROM billing.pricing_plans FOR UPDATE").execute(&mut *product).await.unwrap();
    app.execute(
        "INSERT INTO billing.jobs (kind, account, object_type, object_id) VALUES
            ('reproject', '', 'price', 'price_basic')",
    )
    .await;
    work(&app).await;
    assert_eq!(app.text(LEFT).await.as_deref(), Some("cus_bad price_basic"));
    let aside = format!("cus_bad {REFUSED}, price_basic another session holds a row that is to be written");
    assert_eq!(app.text(SET_ASIDE).await, Some(aside));

    product.rollback().await.unwrap();
    app.execute("DROP TRIGGER refuse ON billing.subscriptions").await;
    work(&app).await;
    assert_eq!(app.text(LEFT).await.as_deref(), Some(""));
    assert_eq!(app.text(SET_ASIDE).await.as_deref(), Some(""));
    app.finish().await;
}

/// The types of object that have rows: `rebuild` can set aside any of them.
const ROWS: [(&str, &str, &str, &str); 4] = [
    ("customer", "cus_1", "billing_contacts", "name"),
    ("price", "price_1", "pricing_plans", "currency"),
    ("coupon", "off_1", "coupons", "currency"),
    ("checkout.session", "cs_1", "checkout_sessions", "status"),
];

#[tokio::test]
async fn a_reproject_job_of_every_type_recomputes_its_row() {
    let app = TestApp::start().await;
    let coupon = json!({
        "id": "off_1", "object": "coupon", "amount_off": 500, "currency": "eur", "duration": "once", "valid": true,
        "livemode": false, "created": 1_767_225_600, "times_redeemed": 0, "metadata": {},
    });
    let session = json!({
        "id": "cs_1", "object": "checkout.session", "customer": "cus_1", "subscription": "sub_1", "mode": "subscription",
        "status": "complete", "payment_status": "paid", "livemode": false, "created": 1_767_225_600, "metadata": {},
    });
    let events = [
        event("evt_1", "customer.created", 0, &customer("cus_1", "Ada"), None),
        event("evt_2", "price.created", 0, &price("price_1", 1900), None),
        event("evt_3", "coupon.created", 0, &coupon, None),
        event("evt_4", "checkout.session.completed", 0, &session, None),
    ];
    app.deliver_and_drain(&events).await;
    for (object_type, id, table, column) in ROWS {
        let value = async || {
            let query = sqlx::AssertSqlSafe(format!("SELECT {column} FROM billing.{table}"));
            sqlx::query_scalar::<_, Option<String>>(query).fetch_one(&app.pool).await.unwrap()
        };
        let right = value().await;
        assert!(right.is_some(), "{object_type}");
        let make_wrong = format!(
            "UPDATE billing.{table} SET {column} = 'wrong';
            INSERT INTO billing.jobs (kind, account, object_type, object_id) VALUES ('reproject', '', '{object_type}', '{id}')"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(make_wrong)).execute(&app.pool).await.unwrap();
        app.drain().await;
        assert_eq!(value().await, right, "{object_type}");
    }
    app.finish().await;
}
