//! Recovery after the loss of the database: a dump is restored into another one, which then continues where Stripe is.

use billing_sync::database::Pool;
use serde_json::json;
use sqlx::postgres::PgPoolOptions;

use crate::cli::{code, run, words};
use crate::support::cluster::{self, TestDatabase, number};
use crate::support::fetching::Fetching;
use crate::support::postgres;
use crate::support::stripe::Epoch;

impl Fetching {
    fn run_on(&self, database: &TestDatabase, arguments: &[&str]) -> String {
        let base = self.stripe.base();
        let environment = [
            ("DATABASE_URL", database.url.as_str()),
            ("STRIPE_SECRET_KEY", self.stripe.key()),
            ("STRIPE_API_BASE", &base),
            ("BILLING_SYNC_READ_MARGIN", "1s"),
        ];
        let output = run(arguments, &environment);
        let text = format!("{} {}", words(&output.stdout), words(&output.stderr));
        assert_eq!(code(&output), 0, "{arguments:?}: {text}");
        text
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_dump_continues_where_stripe_is() {
    let mut lost = Fetching::start().await;
    let sale = lost.sell();
    lost.deliver_all(Epoch::Endive).await;
    lost.settle().await;
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().join("billing.dump");
    let dump = dump.to_str().unwrap();
    postgres::run("pg_dump", &["--format=custom", "--file", dump, &lost.app.database.url]);

    // what happens after the dump is lost with the database: an event was applied, another one was not even delivered
    lost.stripe.tick(600);
    let mark = lost.stripe.mark();
    let later = lost.sell();
    lost.app.deliver_all(&lost.stripe.events_since(mark), Epoch::Endive).await;
    let mark = lost.stripe.mark();
    lost.stripe.customer(json!({ "name": "Bo" }));
    lost.stripe.tick(600);
    let undelivered = lost.stripe.events_since(mark);
    lost.app.enqueue(undelivered.iter().map(|event| event.json(Epoch::Endive)).collect::<Vec<_>>().iter()).await;
    lost.settle().await;
    let rows = lost.app.rows().await;

    let restored = cluster::empty_database().await;
    postgres::run("pg_restore", &["--exit-on-error", "--no-owner", "--dbname", &restored.url, dump]);
    lost.app.pool =
        Pool::from(PgPoolOptions::new().max_connections(12).connect_with(restored.options.clone()).await.unwrap());
    lost.app.context.pool = lost.app.pool.clone();
    lost.restart();
    let of = |id: &str| format!("SELECT count(*) FROM billing.subscriptions WHERE stripe_subscription_id = '{id}'");
    assert_eq!(number(&lost.app.pool, &of(&sale.subscription)).await, 1, "the dump has no rows");
    assert_eq!(number(&lost.app.pool, &of(&later.subscription)).await, 0, "the later sale is lost");

    lost.run_on(&restored, &["migrate"]);
    let text = lost.run_on(&restored, &["reconcile"]);
    assert!(text.contains("missing and are stored now"), "{text}");
    lost.settle().await;
    assert_eq!(lost.app.rows().await, rows, "after the events");
    lost.run_on(&restored, &["backfill"]);
    lost.settle().await;
    assert_eq!(lost.app.rows().await, rows, "after the backfill");
    let text = lost.run_on(&restored, &["verify"]);
    assert!(text.contains("0 rows differ"), "{text}");
    lost.finish().await;
}
