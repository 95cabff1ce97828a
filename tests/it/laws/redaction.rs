//! The law of redaction: without the personal data of all customers, every other column of every row stays the same,
//! also after everything is read from Stripe again.

use std::collections::BTreeSet;

use billing_sync::base::waits::Waits;
use billing_sync::domain::object::ObjectKey;
use billing_sync::rebuild::run::Rebuild;
use billing_sync::redaction;
use proptest::strategy::ValueTree;
use serde_json::Value;

use super::{Fetching, compare_rows, tree};

/// Histories; each takes about a second.
const HISTORIES: u64 = 6;

impl Fetching {
    async fn redact_all(&self) {
        let mut conn = self.app.pool.acquire().await.unwrap();
        let query = "SELECT account, object_id FROM billing.stripe_objects WHERE object_type = 'customer'";
        let customers: Vec<(String, String)> = sqlx::query_as(query).fetch_all(&mut conn).await.unwrap();
        for (account, id) in customers {
            let customer = ObjectKey::new(&account, "customer", &id);
            redaction::mark(&mut conn, &customer).await.unwrap();
            let objects = redaction::objects(&mut conn, &customer).await.unwrap();
            let rebuild = Rebuild::new(self.app.context.clone(), false, Waits::default());
            let page = rebuild.objects(objects.iter().cloned().collect()).await;
            assert!(page.is_ok_and(|page| page.failed.is_empty()), "{id}");
            redaction::archive(&mut conn, &customer, &objects).await.unwrap();
        }
    }

    /// The rows, without their personal columns.
    async fn impersonal(&self) -> Vec<String> {
        let personal: Vec<String> =
            sqlx::query_scalar("SELECT unnest(billing.personal_columns())").fetch_all(&self.app.pool).await.unwrap();
        let without = |line: String| {
            let (table, row) = line.split_once(' ').unwrap();
            let mut row: Value = serde_json::from_str(row).unwrap();
            row.as_object_mut().unwrap().retain(|column, _| !personal.contains(column));
            format!("{table} {row}")
        };
        let mut rows: Vec<String> = self.outcome().await.into_iter().map(without).collect();
        rows.sort();
        rows
    }

    /// Names, addresses and mail addresses of the customers at Stripe.
    fn persons(&self) -> BTreeSet<String> {
        let texts = |object: &Value| {
            let of = [&object["name"], &object["email"], &object["address"]["line1"]];
            of.into_iter()
                .filter_map(Value::as_str)
                .filter(|text| text.len() > 3)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        self.stripe.truth().values().filter(|one| one["object"] == "customer").flat_map(texts).collect()
    }

    async fn assert_no_person_is_stored(&self, number: u64) {
        for text in self.persons() {
            let query = "SELECT count(*) FROM (
                    SELECT to_jsonb(t)::text FROM billing.billing_contacts AS t
                    UNION ALL SELECT convert_from(content, 'UTF8') FROM billing.stripe_objects
                    UNION ALL SELECT changes::text FROM billing.row_changes
                    UNION ALL SELECT convert_from(payload, 'UTF8') FROM billing.events
                ) AS stored (text) WHERE position($1 IN text) > 0";
            let found: i64 = sqlx::query_scalar(query).bind(&text).fetch_one(&self.app.pool).await.unwrap();
            assert_eq!(found, 0, "history {number}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_personal_data_every_other_column_is_the_same() {
    let mut fetching = Fetching::without_accounts().await;
    let mut persons = 0;
    for number in 0..HISTORIES {
        let life = tree(number).current();
        fetching.run_live(&life).await.unwrap();
        let before = fetching.impersonal().await;
        persons += fetching.persons().len();
        fetching.redact_all().await;
        compare_rows(&format!("history {number}, redacted"), &fetching.impersonal().await, &before).unwrap();
        fetching.assert_no_person_is_stored(number).await;
        fetching.read_all(&life).await.unwrap();
        compare_rows(&format!("history {number}, read again"), &fetching.impersonal().await, &before).unwrap();
        fetching.assert_no_person_is_stored(number).await;
        sqlx::query("TRUNCATE billing.redacted_customers").execute(&fetching.app.pool).await.unwrap();
    }
    assert!(persons >= 6, "only {persons} names and addresses are in the histories");
    fetching.app.finish().await;
}
