//! Rows that cannot be computed or written are set aside, and the others of the same batch are written: one table of all
//! batches that work on many customers or objects. Renewals have theirs in `renewals/set_aside.rs`, single events in
//! `poison.rs`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::run;
use crate::support::app::{TestApp, enqueue};
use crate::support::events::{event, price, subscription, with};

/// The subscription of `cus_bad`, and the plan of `price_bad`, cannot be written any more.
const REFUSE: &str = "
    CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '23514'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON billing.subscriptions
        FOR EACH ROW WHEN (NEW.stripe_customer_id = 'cus_bad') EXECUTE FUNCTION public.refuse();
    CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON billing.pricing_plans
        FOR EACH ROW WHEN (NEW.stripe_price_id = 'price_bad') EXECUTE FUNCTION public.refuse()";

/// Every batch, and how it is asked to compute all rows again.
const BATCHES: [(&str, Option<&str>); 3] = [
    ("the holders of a price, in pages", Some("('reproject', '', 'price', 'price_basic')")),
    ("the plans of a product", Some("('reproject', '', 'product', 'prod_1')")),
    ("rebuild", None),
];

const SPOILED: &str = "UPDATE billing.subscriptions SET currency = 'xxx';
    UPDATE billing.pricing_plans SET currency = 'xxx'";

/// Customers and prices whose rows are spoiled still.
const LEFT: &str = "SELECT concat_ws(' ',
    (SELECT string_agg(stripe_customer_id, ' ' ORDER BY 1) FROM billing.subscriptions WHERE currency = 'xxx'),
    (SELECT string_agg(stripe_price_id, ' ' ORDER BY 1) FROM billing.pricing_plans WHERE currency = 'xxx'))";

const SET_ASIDE: &str = "SELECT coalesce(string_agg(object_id || ' ' || last_error, ', ' ORDER BY object_id), '')
    FROM billing.jobs WHERE kind = 'reproject' AND last_error IS NOT NULL";

async fn sold() -> TestApp {
    let mut app = TestApp::start().await;
    // what fails comes back when the test says so
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
    app.execute(SPOILED).await;
    app.execute(REFUSE).await;
    app
}

/// Works through all jobs, also those that wait.
async fn work(app: &TestApp) {
    for _ in 0..20 {
        app.execute("UPDATE billing.jobs SET run_at = clock_timestamp()").await;
        app.drain().await;
    }
}

#[tokio::test]
async fn in_every_batch_the_bad_rows_are_set_aside_and_the_others_are_written() {
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
        // a plan that changes leads to its subscriptions, so all but the first batch come to both
        let (expected, aside) = match batch {
            "the holders of a price, in pages" => ("cus_bad price_bad price_other", "cus_bad database error 23514"),
            _ => ("cus_bad price_bad", "cus_bad database error 23514, price_bad database error 23514"),
        };
        assert_eq!(left, expected, "{batch}");
        assert_eq!(app.text(SET_ASIDE).await.as_deref(), Some(aside), "{batch}");

        app.execute("DROP TRIGGER refuse ON billing.subscriptions; DROP TRIGGER refuse ON billing.pricing_plans").await;
        work(&app).await;
        assert_eq!(app.text(SET_ASIDE).await.as_deref(), Some(""), "{batch}: cleared when it works again");
        app.finish().await;
    }
}

/// One price of more customers than go into one page, the first of whom cannot be written.
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
    app.execute(SPOILED).await;
    app.execute(REFUSE).await;
    app
}

#[tokio::test]
async fn beside_a_plan_that_the_product_holds_the_pages_after_a_bad_row_are_written_too() {
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
    let aside = "cus_bad database error 23514, price_basic another session holds a row that is to be written";
    assert_eq!(app.text(SET_ASIDE).await.as_deref(), Some(aside));

    product.rollback().await.unwrap();
    app.execute("DROP TRIGGER refuse ON billing.subscriptions").await;
    work(&app).await;
    assert_eq!(app.text(LEFT).await.as_deref(), Some(""));
    assert_eq!(app.text(SET_ASIDE).await.as_deref(), Some(""));
    app.finish().await;
}
