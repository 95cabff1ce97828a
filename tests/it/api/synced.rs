//! The workspace API on tables that the sync fills: a fake Stripe, its webhooks, and the reads that they need.
//!
//! The views depend on the current time, so the story of the fake begins at a known time before it.

use std::sync::Arc;

use billing_sync::base::clock;
use billing_sync::worker::fetch::Fetcher;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use time::format_description::well_known::Rfc3339;
use time::{Duration, Month, OffsetDateTime};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::harness::{ApiClient, ApiTest};
use crate::support::fetching::{MARGIN, Sale, client};
use crate::support::stripe::{Epoch, FakeStripe};

/// More rounds than the longest chain of reads.
const MOST_ROUNDS: usize = 30;

/// The API, and the fake Stripe whose events it shows.
pub(crate) struct Synced {
    pub(crate) api: ApiTest,
    pub(crate) stripe: FakeStripe,
    /// When the story of the fake began: more than one month and less than two months ago, on a day of every month.
    pub(crate) began: OffsetDateTime,
}

impl Synced {
    pub(crate) async fn start() -> Self {
        let mut api = ApiTest::start().await;
        let app = &mut api.app;
        app.context = app.context.clone().with_fetches(MARGIN);
        // failed jobs and events wait until they are made due; otherwise a drain would never end
        (app.context.config.retry_initial, app.context.config.retry_max) = (MARGIN, MARGIN);
        let (stripe, began) = (FakeStripe::start().await, began());
        stripe.set_clock(began.unix_timestamp());
        Self { api, stripe, began }
    }

    /// A customer of a workspace with a subscription to a new price for 19.90 euros a month. `limits`: the metadata of
    /// the price.
    pub(crate) fn sell(&self, workspace: Uuid, limits: &Value) -> Sale {
        let stripe = &self.stripe;
        let customer = stripe.customer(json!({ "name": "Ada", "metadata": { "workspace_id": workspace } }));
        let product = stripe.product(json!({ "name": "Writing" }));
        let price = stripe.price(&product, 1990, json!({ "metadata": limits }));
        let subscription = stripe.subscribe(&customer, &price);
        Sale { customer, product, price, subscription }
    }

    /// Delivers all events of the fake, and works until no event and no read is left.
    pub(crate) async fn sync(&self) {
        // a read must be later than the events, by more than its margin
        self.stripe.tick(60);
        let app = &self.api.app;
        app.deliver_all(&self.stripe.events(), Epoch::Endive).await;
        let fetcher = Fetcher::new(app.context.clone(), Arc::new(client(app, &self.stripe)), 4);
        let never = CancellationToken::new();
        for _ in 0..MOST_ROUNDS {
            app.drain().await;
            fetcher.drain(&never).await.unwrap();
            let left = "SELECT nullif((SELECT count(*) FROM billing.jobs)
                + (SELECT count(*) FROM billing.outbox WHERE state <> 'done'), 0)::text";
            if app.text(left).await.is_none() {
                return;
            }
            app.execute(
                "UPDATE billing.jobs SET run_at = clock_timestamp() WHERE run_at > clock_timestamp();
                UPDATE billing.outbox SET run_at = clock_timestamp()
                WHERE state = 'pending' AND run_at > clock_timestamp()",
            )
            .await;
        }
        panic!("the work does not end");
    }

    /// The current subscription that a workspace shows.
    pub(crate) async fn subscription(&self, client: &ApiClient, workspace: Uuid) -> Value {
        let found = client.get(&format!("/v1/workspaces/{workspace}")).await.json(200);
        found["_embedded"]["currentSubscription"].clone()
    }

    pub(crate) async fn finish(self) {
        self.api.finish().await;
    }
}

impl ApiTest {
    /// The text that a query returns.
    pub(crate) async fn text(&self, sql: &str) -> String {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.app.pool).await.unwrap()
    }

    /// A time in a column of the row with this id, as the API writes it.
    pub(crate) async fn time(&self, table: &str, column: &str, id: Uuid) -> Value {
        let format = r#"YYYY-MM-DD"T"HH24:MI:SS"Z""#;
        let sql =
            format!("SELECT to_char({column} AT TIME ZONE 'UTC', '{format}') FROM billing.{table} WHERE id = '{id}'");
        json!(self.text(&sql).await)
    }
}

/// A time as the API writes it.
pub(crate) fn written(at: OffsetDateTime) -> Value {
    json!(at.format(&Rfc3339).unwrap())
}

/// This many months later, for a day that every month has.
pub(crate) fn months_later(at: OffsetDateTime, months: u8) -> OffsetDateTime {
    (0..months).fold(at, |at, _| {
        let next = at.month().next();
        let year = at.year() + i32::from(next == Month::January);
        at.replace_year(year).unwrap().replace_month(next).unwrap()
    })
}

/// 40 to 43 days ago, in whole seconds.
fn began() -> OffsetDateTime {
    let at = OffsetDateTime::from_unix_timestamp(clock::now().unix_timestamp()).unwrap() - Duration::days(40);
    at - Duration::days(i64::from(at.day().saturating_sub(28)))
}
