//! The schema after all migrations, as a snapshot for review, and the rules that the database enforces.

use billing_sync::domain::checkout_session::CheckoutSession;
use billing_sync::domain::contact::BillingContact;
use billing_sync::domain::coupon::Coupon;
use billing_sync::domain::plan::{PlanLimit, PricingPlan};
use billing_sync::domain::subscription::Subscription;
use billing_sync::store::Table;

use crate::support::app::TestApp;

/// Tables and columns of the schema, without partitions, which are like their parents.
const COLUMNS: &str = "
    SELECT format('%s.%s %s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                  CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END) AS text
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
    ORDER BY c.relname, a.attnum";

const FUNCTIONS: &str = "
    SELECT p.oid::regprocedure::text AS text
    FROM pg_proc p WHERE p.pronamespace = 'billing'::regnamespace ORDER BY 1";

const CONSTRAINTS: &str = "
    SELECT format('%s: %s', c.relname, pg_get_constraintdef(k.oid)) AS text
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    -- 18 lists NOT NULL among them, which the columns show already
    WHERE c.relnamespace = 'billing'::regnamespace AND NOT c.relispartition AND k.contype <> 'n' ORDER BY 1";

const INDEXES: &str = "
    SELECT i.indexdef AS text
    FROM pg_indexes i JOIN pg_class c ON c.relname = i.tablename AND c.relnamespace = 'billing'::regnamespace
    WHERE i.schemaname = 'billing' AND NOT c.relispartition ORDER BY i.indexname";

async fn read(app: &TestApp, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query).fetch_all(&app.pool).await.unwrap()
}

#[tokio::test]
async fn the_net_effect_of_all_migrations_is_reviewed() {
    let app = TestApp::start().await;
    let mut parts = Vec::new();
    for (title, query) in
        [("columns", COLUMNS), ("constraints", CONSTRAINTS), ("indexes", INDEXES), ("functions", FUNCTIONS)]
    {
        let lines: Vec<String> = read(&app, query).await;
        parts.push(format!("{title}\n  {}", lines.join("\n  ")));
    }
    insta::assert_snapshot!(parts.join("\n"));
    app.finish().await;
}

#[tokio::test]
async fn partitions_for_the_months_ahead_are_created_once() {
    let app = TestApp::start().await;
    let months = "SELECT count(*)::text FROM pg_class WHERE relnamespace = 'billing'::regnamespace AND relispartition
        AND relkind = 'r' AND relname ~ '^(events|outbox)_[0-9]{4}_[0-9]{2}$'";
    assert_eq!(app.text(months).await.as_deref(), Some("8"), "this month and three ahead, of both tables");
    assert_eq!(app.text("SELECT billing.create_partitions(3)::text").await.as_deref(), Some("0"));
    // months begin at midnight UTC, whatever the session's time zone is
    let mut conn = app.pool.acquire().await.unwrap();
    sqlx::raw_sql("SET TIME ZONE 'Pacific/Auckland'").execute(&mut conn).await.unwrap();
    let made: i32 = sqlx::query_scalar("SELECT billing.create_partitions(4)").fetch_one(&mut conn).await.unwrap();
    assert_eq!(made, 2);
    sqlx::raw_sql("SET TIME ZONE 'UTC'").execute(&mut conn).await.unwrap();
    let odd: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'billing'::regnamespace AND relispartition
            AND relname !~ 'default' AND relkind = 'r'
            AND pg_get_expr(relpartbound, oid) !~ '-01 00:00:00\\+00''\\) TO \\(''.*-01 00:00:00\\+00'",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(odd, 0);
    drop(conn);
    app.finish().await;
}

#[tokio::test]
async fn check_constraints_enforce_the_states_of_an_event() {
    let app = TestApp::start().await;
    for (wrong, constraint) in [
        ("state = 'done', finished_at = now()", "outbox_done_has_an_outcome"),
        ("outcome = 'applied'", "outbox_done_has_an_outcome"),
        ("state = 'dead', last_error = 'x', attempts = 1, isolated = true", "outbox_finished_unless_pending"),
        ("state = 'dead', finished_at = now()", "outbox_dead_has_an_error"),
        ("state = 'done', finished_at = now(), outcome = 'ignored'", "outbox_inaction_has_a_reason"),
        ("attempts = 1", "outbox_attempts_are_isolated"),
    ] {
        let columns: Vec<(&str, &str)> = wrong.split(", ").map(|one| one.split_once(" = ").unwrap()).collect();
        let names: Vec<&str> = columns.iter().map(|column| column.0).collect();
        let values: Vec<&str> = columns.iter().map(|column| column.1).collect();
        let sql = format!(
            "INSERT INTO billing.outbox (event_id, created, type, format, {}) VALUES ('evt_1', now(), 'x', 'snapshot', {})",
            names.join(", "),
            values.join(", ")
        );
        let error = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&app.pool).await.unwrap_err();
        let found = error.as_database_error().and_then(|error| error.constraint().map(str::to_owned));
        assert_eq!(found.as_deref(), Some(constraint), "{wrong}");
    }
    app.finish().await;
}

#[tokio::test]
async fn every_table_column_and_view_has_a_comment() {
    let app = TestApp::start().await;
    let silent = "
        SELECT c.relname || coalesce('.' || a.attname, '')
        FROM pg_class c
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum >= 1 AND NOT a.attisdropped
        WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
            AND (obj_description(c.oid, 'pg_class') IS NULL
                OR a.attnum IS NOT NULL AND col_description(c.oid, a.attnum) IS NULL)
        ORDER BY 1";
    assert_eq!(read(&app, silent).await, Vec::<String>::new());
    app.finish().await;
}

/// Names of the fields of a row type, read from its source. They are serialized under the same names.
fn fields<'a>(source: &'a str, row: &str) -> Vec<&'a str> {
    let (_, body) = source.split_once(&format!("pub struct {row} {{")).unwrap();
    let body = body.split_once("\n}").unwrap().0;
    let mut fields: Vec<&str> =
        body.lines().filter_map(|line| Some(line.trim().strip_prefix("pub ")?.split_once(':')?.0)).collect();
    fields.sort_unstable();
    fields
}

/// Asserts that the columns written by a table's statement are the fields of its rows and exist.
async fn assert_statement_fits<T: Table>(app: &TestApp, fields: Vec<&str>) {
    let (_, columns) = T::SAVE.split_once(&format!("INSERT INTO billing.{} AS t (", T::NAME)).unwrap();
    let mut columns: Vec<&str> = columns.split_once(')').unwrap().0.split(", ").collect();
    columns.sort_unstable();
    assert_eq!(columns, fields, "{}", T::NAME);
    let there = "SELECT attname::text FROM pg_attribute
        WHERE attrelid = ('billing.' || $1)::regclass AND attnum > 0 AND NOT attisdropped";
    let there: Vec<String> = sqlx::query_scalar(there).bind(T::NAME).fetch_all(&app.pool).await.unwrap();
    for column in columns {
        assert!(there.iter().any(|name| name == column), "{}.{column} does not exist", T::NAME);
    }
}

#[tokio::test]
async fn row_fields_match_the_columns_of_statement_and_table() {
    let app = TestApp::start().await;
    let plan = include_str!("../../src/domain/plan.rs");
    assert_statement_fits::<PricingPlan>(&app, fields(plan, "PricingPlan")).await;
    assert_statement_fits::<PlanLimit>(&app, fields(plan, "PlanLimit")).await;
    let contact = fields(include_str!("../../src/domain/contact.rs"), "BillingContact");
    assert_statement_fits::<BillingContact>(&app, contact).await;
    let subscription = fields(include_str!("../../src/domain/subscription.rs"), "Subscription");
    assert_statement_fits::<Subscription>(&app, subscription).await;
    assert_statement_fits::<Coupon>(&app, fields(include_str!("../../src/domain/coupon.rs"), "Coupon")).await;
    let session = fields(include_str!("../../src/domain/checkout_session.rs"), "CheckoutSession");
    assert_statement_fits::<CheckoutSession>(&app, session).await;
    app.finish().await;
}
