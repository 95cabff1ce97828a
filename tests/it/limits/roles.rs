//! The privileges that `ops/roles.sql` grants to its roles, and that there are no others. All relations, columns and
//! functions come from the system catalogue, so an addition by a later migration is refused, or this test fails.
//! `api::rights` shows that the workspace API needs those of its role.

use std::collections::BTreeSet;

use billing_sync::database::Connection;
use billing_sync::database::role::{Privilege, needed_by_api};
use sqlx::AssertSqlSafe;
use tokio::task::JoinSet;

use super::calls::call;
use super::rows::{NEW, Rows, process};

const FILE: &str = include_str!("../../../ops/roles.sql");

const READ: [&str; 27] = [
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
    "pricing_plan_categories",
    "pricing_plans",
    "row_origins",
    "subscription_items",
    "subscription_limits",
    "subscription_words",
    "subscriptions",
    "workspace_avatars",
    "workspace_billing",
    "workspace_bonus",
    "workspace_limits",
    "workspace_members",
    "workspaces",
];

/// Tables that the product writes freely.
const OWN: [&str; 6] =
    ["limit_kinds", "pricing_plan_categories", "row_origins", "workspace_avatars", "workspace_members", "workspaces"];

/// Functions that both read with: the views call all but the last.
const READ_BY: [&str; 4] =
    ["current_limits(uuid)", "limit_history(uuid)", "subscription_rank(text, boolean)", "workspace_state(uuid)"];

const CALLED: [&str; 4] = [
    "consume(uuid, text, bigint, text)",
    "grant_bonus(uuid, text, bigint, text)",
    "release(uuid, text, bigint)",
    "remaining(uuid, text)",
];

/// A login user of a database with the roles, with at most one of them.
struct User {
    rows: Rows,
    owner: Connection,
    name: String,
    session: Connection,
}

impl User {
    async fn with(role: Option<&str>) -> Self {
        let rows = Rows::start().await;
        let mut owner = rows.connect().await;
        run(&mut owner, FILE).await;
        let database: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&mut owner).await.unwrap();
        let name = format!("user_of_{database}");
        run(&mut owner, &format!("CREATE ROLE {name} LOGIN")).await;
        if let Some(role) = role {
            run(&mut owner, &format!("GRANT {role} TO {name}")).await;
        }
        // acts as this user without a login, because the server may require a password
        let mut session = rows.connect().await;
        run(&mut session, &format!("SET SESSION AUTHORIZATION {name}")).await;
        Self { rows, owner, name, session }
    }

    /// The result of a statement, which is rolled back: `ok`, or its SQLSTATE.
    async fn try_statement(&mut self, sql: &str) -> String {
        let mut undone = self.session.begin().await.unwrap();
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *undone).await;
        undone.rollback().await.unwrap();
        match done {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.as_database_error().unwrap().code().unwrap().into_owned(),
        }
    }

    /// Ends the test and drops the role, because roles belong to the server.
    async fn finish(mut self) {
        self.session.close().await.unwrap();
        run(&mut self.owner, &format!("DROP ROLE {}", self.name)).await;
    }
}

async fn run(connection: &mut Connection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

/// Everything in the schema that can be read, written or called: a name, and a statement that tries it. Reading,
/// inserting and updating is tried for each column, because a privilege may be that of a column.
async fn attempts(owner: &mut Connection) -> Vec<(String, String)> {
    let attempts = "
        WITH relation AS (
            -- 28 is INSERT, UPDATE and DELETE: tables, and views that pass these on
            SELECT c.oid, c.relname AS name, c.relkind AS kind, pg_relation_is_updatable(c.oid, false) = 28 AS writable
            FROM pg_class AS c WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p', 'v')
        ), part AS (
            SELECT name, a.attname, writable AND pg_column_is_updatable(oid, a.attnum, false) AS writable
            FROM relation JOIN pg_attribute AS a ON a.attrelid = oid AND a.attnum > 0 AND NOT a.attisdropped
        )
        SELECT format('SELECT %s.%s', name, attname), format('SELECT %I FROM billing.%I LIMIT 1', attname, name)
        FROM part
        UNION ALL
        SELECT format('INSERT %s.%s', name, attname),
            format('INSERT INTO billing.%I (%I) VALUES (DEFAULT)', name, attname)
        FROM part WHERE writable
        UNION ALL
        SELECT format('UPDATE %s.%s', name, attname), format('UPDATE billing.%I SET %I = DEFAULT', name, attname)
        FROM part WHERE writable
        UNION ALL
        SELECT 'DELETE ' || name, format('DELETE FROM billing.%I', name) FROM relation WHERE writable
        UNION ALL
        SELECT 'TRUNCATE ' || name, format('TRUNCATE billing.%I', name) FROM relation WHERE kind <> 'v'
        UNION ALL
        SELECT 'NEXT ' || c.relname, format('SELECT nextval(''billing.%I'')', c.relname)
        FROM pg_class AS c WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind = 'S'
        UNION ALL
        SELECT format('CALL %s(%s)', p.proname, oidvectortypes(p.proargtypes)),
            format('SELECT billing.%I(%s)', p.proname, (
                SELECT string_agg(format('NULL::%s', format_type(of_type, NULL)), ', ' ORDER BY number)
                FROM unnest(p.proargtypes) WITH ORDINALITY AS argument (of_type, number)))
        FROM pg_proc AS p WHERE p.pronamespace = 'billing'::regnamespace
        UNION ALL
        SELECT 'CREATE in the schema', 'CREATE TABLE billing.mine ()'";
    let attempts: Vec<(String, String)> = sqlx::query_as(attempts).fetch_all(owner).await.unwrap();
    assert!(attempts.len() > 1000, "only {} attempts were found: the queries are wrong", attempts.len());
    attempts
}

/// Columns that belong to the product, according to their comment or the comment of their table.
async fn own_columns(owner: &mut Connection) -> Vec<String> {
    let own = "
        SELECT format('UPDATE %s.%s', c.relname, a.attname)
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind = 'r'
            AND 'Yours' IN (left(obj_description(c.oid, 'pg_class'), 5), left(col_description(c.oid, a.attnum), 5))";
    let own: Vec<String> = sqlx::query_scalar(own).fetch_all(owner).await.unwrap();
    assert!(own.len() > 15, "{own:?}");
    own
}

/// Tries everything, and expects that only the allowed attempts are not refused for a missing privilege. `SELECT plans`
/// allows it for all columns of `plans`.
async fn may_do_only(user: &mut User, allowed: BTreeSet<String>) {
    let attempts = attempts(&mut user.owner).await;
    let mut expected = BTreeSet::new();
    for one in &allowed {
        let is_meant =
            |name: &str| name.strip_prefix(one.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let meant: Vec<String> = attempts.iter().map(|(name, _)| name.clone()).filter(|name| is_meant(name)).collect();
        assert!(!meant.is_empty(), "{one} does not exist");
        expected.extend(meant);
    }
    let mut done = BTreeSet::new();
    for (what, sql) in attempts {
        match user.try_statement(&sql).await.as_str() {
            "42501" => {}
            // allowed; the null arguments may cause another error
            _ => assert!(done.insert(what.clone()), "{what} was tried twice"),
        }
    }
    let more: Vec<&String> = done.difference(&expected).collect();
    let less: Vec<&String> = expected.difference(&done).collect();
    assert!(
        more.is_empty() && less.is_empty(),
        "allowed but should not be: {more:#?}; refused but should not be: {less:#?}"
    );
}

fn all<'a>(verb: &str, names: impl IntoIterator<Item = &'a &'a str>) -> BTreeSet<String> {
    names.into_iter().map(|name| format!("{verb} {name}")).collect()
}

fn reading() -> BTreeSet<String> {
    let mut reading = all("SELECT", &READ);
    reading.extend(all("CALL", &READ_BY));
    reading
}

#[tokio::test]
async fn the_product_role_can_do_what_is_documented_and_no_more() {
    let mut product = User::with(Some("billing_product")).await;
    let mut allowed = reading();
    allowed.extend(all("CALL", &CALLED));
    allowed.extend(all("INSERT", &OWN));
    allowed.extend(all("DELETE", &OWN));
    allowed.extend(own_columns(&mut product.owner).await);
    may_do_only(&mut product, allowed).await;
    product.finish().await;
}

#[tokio::test]
async fn the_product_role_works_end_to_end() {
    let mut product = User::with(Some("billing_product")).await;
    // the kind of a limit must be set before its first balance
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
        "INSERT INTO billing.workspace_members (workspace_id, user_id, role)
            VALUES (md5('w')::uuid, gen_random_uuid(), 'owner')",
        "INSERT INTO billing.workspace_avatars (workspace_id, signed_url) VALUES (md5('w')::uuid, 'https://a.example')",
        "INSERT INTO billing.pricing_plan_categories (id) VALUES ('a')",
        "INSERT INTO billing.row_origins (row_id) VALUES (md5('sub')::uuid)",
        "UPDATE billing.pricing_plans SET display_name = 'Writing', tier = 1, is_default = true, category_id = 'a',
            translation_key = 'b', trial_days = 14, stripe_billing_portal_enabled = true, imported_from_legacy_id = 7
            WHERE stripe_price_id = 'price_sub'",
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
async fn the_reader_role_can_read_and_nothing_else() {
    let mut reader = User::with(Some("billing_reader")).await;
    may_do_only(&mut reader, reading()).await;
    reader.finish().await;
}

/// What the API needs, as names of attempts.
fn needed() -> BTreeSet<String> {
    let attempt = |privilege: Privilege| {
        let verb = match privilege.kind {
            "SEQUENCE" => "NEXT",
            "FUNCTION" => "CALL",
            _ => privilege.action,
        };
        let column = privilege.column.map(|column| format!(".{column}")).unwrap_or_default();
        format!("{verb} {}{column}", privilege.object)
    };
    // without the right to use the schema, every other attempt would be refused
    needed_by_api().into_iter().filter(|privilege| privilege.kind != "SCHEMA").map(attempt).collect()
}

#[tokio::test]
async fn the_api_role_can_do_what_the_api_needs_and_no_more() {
    let mut api = User::with(Some("billing_api")).await;
    may_do_only(&mut api, needed()).await;
    api.finish().await;
}

#[tokio::test]
async fn without_a_role_nothing_is_allowed() {
    let mut user = User::with(None).await;
    may_do_only(&mut user, BTreeSet::new()).await;
    user.finish().await;
}

#[tokio::test]
async fn a_second_run_revokes_additional_grants() {
    let mut product = User::with(Some("billing_product")).await;
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
    let additional = [
        "DELETE FROM billing.subscriptions",
        "UPDATE billing.billing_contacts SET email = ''",
        "SELECT nextval('billing.limit_recalculations_id_seq')",
        "CREATE TABLE billing.mine ()",
        "SELECT billing.create_partitions(0)",
        "SELECT FROM billing.of_a_later_release",
        "SELECT billing.of_a_later_release()",
    ];
    for sql in additional {
        assert_eq!(product.try_statement(sql).await, "ok", "{sql}");
    }
    run(&mut product.owner, FILE).await;
    for sql in additional {
        assert_eq!(product.try_statement(sql).await, "42501", "{sql}");
    }
    assert_eq!(product.try_statement("SELECT FROM billing.workspace_limits").await, "ok");
    product.finish().await;
}

/// Uses new role names, because roles belong to the server, and other tests leave theirs there.
#[tokio::test]
async fn the_file_can_run_concurrently_in_all_databases() {
    let databases = [Rows::start().await, Rows::start().await];
    let mut first = databases[0].connect().await;
    let id = process(&mut first).await;
    let roles = ["reader", "product", "api"];
    let names = roles.map(|role| format!("{role}_of_{id}"));
    let replaced = |file: String, (role, name): (&str, &String)| file.replace(&format!("billing_{role}"), name);
    let file = roles.into_iter().zip(&names).fold(FILE.to_owned(), replaced);
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
