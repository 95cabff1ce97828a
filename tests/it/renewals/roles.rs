//! What `ops/roles.sql` lets its roles do, and that they can do nothing else. All relations, columns and functions are
//! asked of the catalogue: what a later migration adds is refused, or this fails.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::task::JoinSet;

use super::calls::call;
use super::rows::{NEW, Rows, process};

const FILE: &str = include_str!("../../../ops/roles.sql");

const READ: [&str; 23] = [
    "billing_contacts",
    "bonus_grants",
    "checkout_sessions",
    "coupons",
    "current_subscriptions",
    "limit_kinds",
    "limit_renewals",
    "limit_statement",
    "live_billing_contacts",
    "live_coupons",
    "live_subscriptions",
    "orphans",
    "plan_limits",
    "plans",
    "pricing_plans",
    "subscription_items",
    "subscription_limits",
    "subscription_words",
    "subscriptions",
    "workspace_billing",
    "workspace_bonus",
    "workspace_limits",
    "workspaces",
];

/// Tables that the product writes as it likes.
const OWN: [&str; 2] = ["limit_kinds", "workspaces"];

const CALLED_BY_VIEWS: [&str; 3] = [
    "current_limits(subscription_id uuid)",
    "limit_history(subscription_id uuid)",
    "subscription_rank(stripe_status text, payment_paused boolean)",
];

const CALLED: [&str; 4] = [
    "consume(workspace_id uuid, limit_key text, amount bigint, idempotency_key text)",
    "grant_bonus(workspace_id uuid, limit_key text, amount bigint, reason text)",
    "release(workspace_id uuid, limit_key text, amount bigint)",
    "remaining(workspace_id uuid, limit_key text)",
];

/// Somebody who logs in to a database with the roles, and has one of them.
struct Somebody {
    rows: Rows,
    owner: PgConnection,
    name: String,
    session: PgConnection,
}

impl Somebody {
    async fn with(role: Option<&str>) -> Self {
        let rows = Rows::start().await;
        let mut owner = rows.connect().await;
        run(&mut owner, FILE).await;
        let database: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&mut owner).await.unwrap();
        let name = format!("somebody_of_{database}");
        run(&mut owner, &format!("CREATE ROLE {name} LOGIN")).await;
        if let Some(role) = role {
            run(&mut owner, &format!("GRANT {role} TO {name}")).await;
        }
        // as whom the server knows us from then on, also where it would ask for a password at the door
        let mut session = rows.connect().await;
        run(&mut session, &format!("SET SESSION AUTHORIZATION {name}")).await;
        Self { rows, owner, name, session }
    }

    /// What the statement comes to: `ok`, or its SQLSTATE. Nothing of it stays.
    async fn tries(&mut self, sql: &str) -> String {
        let mut undone = self.session.begin().await.unwrap();
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *undone).await;
        undone.rollback().await.unwrap();
        match done {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.as_database_error().unwrap().code().unwrap().into_owned(),
        }
    }

    /// Ends the test: roles belong to the server and would stay.
    async fn finish(mut self) {
        self.session.close().await.unwrap();
        run(&mut self.owner, &format!("DROP ROLE {}", self.name)).await;
    }
}

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

/// Everything in the schema that can be read, written or called, as what it is called here and a statement that tries it.
async fn attempts(owner: &mut PgConnection) -> Vec<(String, String)> {
    let attempts = "
        WITH relation AS (
            -- 28 is INSERT, UPDATE and DELETE: tables, and views that pass these on
            SELECT c.oid, c.relname AS name, c.relkind AS kind, pg_relation_is_updatable(c.oid, false) = 28 AS writable
            FROM pg_class AS c WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p', 'v')
        )
        SELECT 'SELECT ' || name, format('SELECT FROM billing.%I LIMIT 1', name) FROM relation
        UNION ALL
        SELECT 'INSERT ' || name, format('INSERT INTO billing.%I DEFAULT VALUES', name) FROM relation WHERE writable
        UNION ALL
        SELECT 'DELETE ' || name, format('DELETE FROM billing.%I', name) FROM relation WHERE writable
        UNION ALL
        SELECT 'TRUNCATE ' || name, format('TRUNCATE billing.%I', name) FROM relation WHERE kind <> 'v'
        UNION ALL
        SELECT format('UPDATE %s.%s', name, a.attname), format('UPDATE billing.%I SET %I = DEFAULT', name, a.attname)
        FROM relation JOIN pg_attribute AS a ON a.attrelid = oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE writable AND pg_column_is_updatable(oid, a.attnum, false)
        UNION ALL
        SELECT 'NEXT ' || c.relname, format('SELECT nextval(''billing.%I'')', c.relname)
        FROM pg_class AS c WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind = 'S'
        UNION ALL
        SELECT format('CALL %s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)),
            format('SELECT billing.%I(%s)', p.proname, (
                SELECT string_agg(format('NULL::%s', format_type(of_type, NULL)), ', ' ORDER BY place)
                FROM unnest(p.proargtypes) WITH ORDINALITY AS argument (of_type, place)))
        FROM pg_proc AS p WHERE p.pronamespace = 'billing'::regnamespace
        UNION ALL
        SELECT 'CREATE in the schema', 'CREATE TABLE billing.mine ()'";
    let attempts: Vec<(String, String)> = sqlx::query_as(attempts).fetch_all(owner).await.unwrap();
    assert!(attempts.len() > 400, "only {} were found: this check has lost its way", attempts.len());
    attempts
}

/// The columns, and the columns of the tables, whose comments say that they are the product's.
async fn own_columns(owner: &mut PgConnection) -> Vec<String> {
    let own = "
        SELECT format('UPDATE %s.%s', c.relname, a.attname)
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind = 'r'
            AND 'Yours' IN (left(obj_description(c.oid, 'pg_class'), 5), left(col_description(c.oid, a.attnum), 5))";
    let own: Vec<String> = sqlx::query_scalar(own).fetch_all(owner).await.unwrap();
    assert!(own.len() > 15, "{own:?}");
    own
}

/// Tries everything, and expects that exactly this is let through and all else is refused for want of a privilege.
async fn may_do_only(somebody: &mut Somebody, allowed: BTreeSet<String>) {
    let mut done = BTreeSet::new();
    for (what, sql) in attempts(&mut somebody.owner).await {
        match somebody.tries(&sql).await.as_str() {
            "42501" => {}
            // let through, whatever it says to arguments that are null
            _ => assert!(done.insert(what.clone()), "{what} was tried twice"),
        }
    }
    let more: Vec<&String> = done.difference(&allowed).collect();
    let less: Vec<&String> = allowed.difference(&done).collect();
    assert!(more.is_empty() && less.is_empty(), "can do and should not: {more:#?}; cannot do and should: {less:#?}");
}

fn all<'a>(verb: &str, names: impl IntoIterator<Item = &'a &'a str>) -> BTreeSet<String> {
    names.into_iter().map(|name| format!("{verb} {name}")).collect()
}

fn reading() -> BTreeSet<String> {
    let mut reading = all("SELECT", &READ);
    reading.extend(all("CALL", &CALLED_BY_VIEWS));
    reading
}

#[tokio::test]
async fn the_product_may_read_call_and_write_what_is_its_own_and_nothing_else() {
    let mut product = Somebody::with(Some("billing_product")).await;
    let mut allowed = reading();
    allowed.extend(all("CALL", &CALLED));
    allowed.extend(all("INSERT", &OWN));
    allowed.extend(all("DELETE", &OWN));
    allowed.extend(own_columns(&mut product.owner).await);
    may_do_only(&mut product, allowed).await;
    product.finish().await;
}

#[tokio::test]
async fn what_the_product_may_do_works_from_end_to_end() {
    let mut product = Somebody::with(Some("billing_product")).await;
    // which kind a limit is must be known before its first balance
    run(&mut product.session, "INSERT INTO billing.limit_kinds VALUES ('seats', 'capacity')").await;
    product.rows.subscribe("sub", "w", "words 100, seats 3", NEW).await;
    run(
        &mut product.owner,
        "INSERT INTO billing.billing_contacts (id, account, stripe_customer_id) VALUES (md5('cus_1')::uuid, '', 'cus_1');
        INSERT INTO billing.coupons (id, account, stripe_coupon_id) VALUES (md5('co_1')::uuid, '', 'co_1')",
    )
    .await;
    let session = &mut product.session;
    for write in [
        "INSERT INTO billing.workspaces (id, name) VALUES (md5('w')::uuid, 'Ada')",
        "UPDATE billing.workspaces SET member_count = 2 WHERE name = 'Ada'",
        "UPDATE billing.pricing_plans SET display_name = 'Writing', tier = 1, is_default = true, category_id = 'a',
            translation_key = 'b', trial_days = 14, stripe_billing_portal_enabled = true WHERE stripe_price_id = 'price_sub'",
        "UPDATE billing.coupons SET pricing_plan_id = md5('plan sub')::uuid, translation_key = 'c' WHERE stripe_coupon_id = 'co_1'",
        "UPDATE billing.limit_kinds SET kind = 'renewing' WHERE limit_key = 'members'",
        "DELETE FROM billing.limit_kinds WHERE limit_key = 'members'",
    ] {
        assert_eq!(sqlx::query(write).execute(&mut *session).await.unwrap().rows_affected(), 1, "{write}");
    }
    assert_eq!(call(session, "grant_bonus(w, 'words', 10, 'bought')").await, Ok(Some(10)));
    assert_eq!(call(session, "consume(w, 'words', 105, 'key')").await, Ok(Some(5)));
    assert_eq!(call(session, "consume(w, 'seats', 2)").await, Ok(Some(1)));
    assert_eq!(call(session, "release(w, 'seats', 1)").await, Ok(Some(2)));
    assert_eq!(call(session, "remaining(w, 'words')").await, Ok(Some(5)));
    for (view, count) in [
        ("current_subscriptions", 1),
        ("live_billing_contacts", 1),
        ("live_subscriptions", 1),
        ("plans", 1),
        ("subscription_words", 1),
        ("workspace_billing", 1),
        ("workspace_limits", 2),
    ] {
        let all = format!("SELECT * FROM billing.{view}");
        assert_eq!(sqlx::query(AssertSqlSafe(all)).fetch_all(&mut *session).await.unwrap().len(), count, "{view}");
    }
    let granted_by = product.rows.lines("SELECT granted_by FROM billing.bonus_grants").await;
    assert_eq!(granted_by, [product.name.clone()]);
    run(&mut product.session, "DELETE FROM billing.workspaces").await;
    product.finish().await;
}

#[tokio::test]
async fn a_reader_may_read_and_nothing_else() {
    let mut reader = Somebody::with(Some("billing_reader")).await;
    may_do_only(&mut reader, reading()).await;
    reader.finish().await;
}

#[tokio::test]
async fn who_has_neither_role_may_do_nothing() {
    let mut nobody = Somebody::with(None).await;
    may_do_only(&mut nobody, BTreeSet::new()).await;
    nobody.finish().await;
}

#[tokio::test]
async fn what_was_granted_besides_is_taken_back_when_the_file_runs_again() {
    let mut product = Somebody::with(Some("billing_product")).await;
    run(
        &mut product.owner,
        "CREATE TABLE billing.of_a_later_release (id integer);
        CREATE FUNCTION billing.of_a_later_release() RETURNS integer LANGUAGE sql RETURN 1;
        GRANT ALL ON ALL TABLES IN SCHEMA billing TO billing_product;
        GRANT UPDATE (email) ON billing.billing_contacts TO billing_product;
        GRANT ALL ON ALL SEQUENCES IN SCHEMA billing TO billing_product;
        GRANT CREATE ON SCHEMA billing TO billing_product;
        GRANT EXECUTE ON FUNCTION billing.create_partitions(integer), billing.create_partitions(text, integer),
            billing.missing_months(text, integer) TO billing_product",
    )
    .await;
    let besides = [
        "DELETE FROM billing.subscriptions",
        "UPDATE billing.billing_contacts SET email = ''",
        "SELECT nextval('billing.limit_changes_id_seq')",
        "CREATE TABLE billing.mine ()",
        "SELECT billing.create_partitions(0)",
        "SELECT FROM billing.of_a_later_release",
        "SELECT billing.of_a_later_release()",
    ];
    for sql in besides {
        assert_eq!(product.tries(sql).await, "ok", "{sql}");
    }
    run(&mut product.owner, FILE).await;
    for sql in besides {
        assert_eq!(product.tries(sql).await, "42501", "{sql}");
    }
    assert_eq!(product.tries("SELECT FROM billing.workspace_limits").await, "ok");
    product.finish().await;
}

/// With roles that nobody has made before: roles belong to the server, on which tests leave theirs.
#[tokio::test]
async fn it_may_run_at_once_in_one_database_and_in_others_of_the_server() {
    let databases = [Rows::start().await, Rows::start().await];
    let mut first = databases[0].connect().await;
    let of = process(&mut first).await;
    let names = [format!("reader_of_{of}"), format!("product_of_{of}")];
    let file = FILE.replace("billing_reader", &names[0]).replace("billing_product", &names[1]);
    run(&mut first, file.strip_suffix("COMMIT;\n").unwrap()).await;
    let mut waiting = JoinSet::new();
    for rows in &databases {
        let (mut conn, file) = (rows.connect().await, file.clone());
        let waits = process(&mut conn).await;
        waiting.spawn(async move { run(&mut conn, &file).await });
        rows.until_blocked(waits).await;
    }
    run(&mut first, "COMMIT").await;
    waiting.join_all().await;
    for rows in &databases {
        let granted = format!("SELECT has_table_privilege('{}', 'billing.workspaces', 'UPDATE')::text", names[1]);
        assert_eq!(rows.lines(&granted).await, ["true"]);
        rows.execute(&format!("DROP OWNED BY {}", names.join(", "))).await;
    }
    run(&mut first, &format!("DROP ROLE {}", names.join(", "))).await;
}
