//! What an answer, a refusal and a missing row mean: the state of every workspace, the reasons of `consume`, `remaining`
//! and `release`, and the table of their codes in `docs/tables.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use billing_sync::api::problem::Code;
use billing_sync::database::Connection;
use uuid::Uuid;

use super::calls::{Answer, call, refused};
use super::rows::{NEW, Rows};

/// The row of a workspace in `workspaces`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnRow {
    Missing,
    Live,
    Crowded,
    Deleted,
}

/// The subscriptions that name a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sale {
    Nothing,
    Active,
    Unpaid,
    ActiveAndUnpaid,
}

/// The contacts that name a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Payers {
    Missing,
    One,
    Two,
    Deleted,
}

/// A workspace, by everything that can name it.
#[derive(Debug, Clone, Copy)]
struct Case {
    row: OwnRow,
    sale: Sale,
    payers: Payers,
}

impl Case {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for row in [OwnRow::Missing, OwnRow::Live, OwnRow::Crowded, OwnRow::Deleted] {
            for sale in [Sale::Nothing, Sale::Active, Sale::Unpaid, Sale::ActiveAndUnpaid] {
                let payers = [Payers::Missing, Payers::One, Payers::Two, Payers::Deleted];
                all.extend(payers.map(|payers| Self { row, sale, payers }));
            }
        }
        all
    }

    fn is_named(self) -> bool {
        match self.row {
            OwnRow::Missing => self.sale != Sale::Nothing || matches!(self.payers, Payers::One | Payers::Two),
            OwnRow::Live | OwnRow::Crowded => true,
            OwnRow::Deleted => false,
        }
    }

    fn inactive_reason(self) -> Option<&'static str> {
        match (self.row, self.sale) {
            (OwnRow::Deleted, _) => Some("workspace_deleted"),
            _ if !self.is_named() => Some("unknown_workspace"),
            (_, Sale::Nothing) => Some("no_subscription"),
            (_, Sale::Unpaid) => Some("unpaid"),
            (OwnRow::Crowded, _) => Some("too_many_members"),
            _ => None,
        }
    }

    async fn write(self, rows: &Rows, name: &str) {
        let (sold, unpaid) = (format!("{name}_1"), format!("{name}_2"));
        let sale: &[(&str, bool)] = match self.sale {
            Sale::Nothing => &[],
            Sale::Active => &[(&sold, true)],
            Sale::Unpaid => &[(&unpaid, false)],
            Sale::ActiveAndUnpaid => &[(&sold, true), (&unpaid, false)],
        };
        for &(sub, is_active) in sale {
            rows.subscribe(sub, name, "words 100, members 3", NEW).await;
            if !is_active {
                rows.becomes(sub, "unpaid").await;
            }
        }
        let row = match self.row {
            OwnRow::Missing => None,
            OwnRow::Live => Some("3, NULL"),
            OwnRow::Crowded => Some("4, NULL"),
            OwnRow::Deleted => Some("3, now()"),
        };
        if let Some(values) = row {
            let columns = "id, member_count, deleted_at";
            rows.execute(&format!("INSERT INTO billing.workspaces ({columns}) SELECT md5('{name}')::uuid, {values}"))
                .await;
        }
        let payers: &[&str] = match self.payers {
            Payers::Missing => &[],
            Payers::One => &["NULL"],
            Payers::Two => &["NULL", "NULL"],
            Payers::Deleted => &["now()"],
        };
        for (number, deleted_at) in payers.iter().enumerate() {
            rows.execute(&format!(
                "INSERT INTO billing.billing_contacts (id, account, stripe_customer_id, workspace_id, stripe_deleted_at)
                VALUES (gen_random_uuid(), '', 'cus_{name}_{number}', md5('{name}')::uuid, {deleted_at})"
            ))
            .await;
        }
    }
}

/// `active` and `inactive_reason` of each row that the query returns.
async fn states(rows: &Rows, query: &str) -> Vec<(bool, Option<String>)> {
    sqlx::query_as(sqlx::AssertSqlSafe(query.to_owned())).fetch_all(&rows.pool).await.unwrap()
}

/// The code and the detail of a refusal; the answer if it is none.
fn reason(answer: Answer) -> Result<Option<i64>, (String, Option<String>)> {
    answer.map_err(|refusal| (refusal.code, refusal.detail))
}

/// The law: every id has exactly one state; it is active exactly if it has no reason; the view agrees; and `consume` and
/// `remaining` refuse an inactive one with that reason.
#[tokio::test]
async fn every_workspace_has_one_state_and_all_answers_agree_with_it() {
    let rows = Rows::start().await;
    let cases = Case::all();
    for (number, case) in cases.iter().enumerate() {
        case.write(&rows, &format!("ws_{number}")).await;
    }
    let named = cases.iter().filter(|case| case.is_named()).count();
    assert_eq!(rows.lines("SELECT count(*)::text FROM billing.workspace_billing").await, [named.to_string()]);
    let contradictions = "SELECT workspace_id::text FROM billing.workspace_billing
        WHERE (inactive_reason IS NULL) IS DISTINCT FROM active OR (current_subscription_id IS NULL AND active)
        UNION ALL SELECT id::text FROM billing.current_subscriptions WHERE (inactive_reason IS NULL) IS DISTINCT FROM active";
    assert_eq!(rows.lines(contradictions).await, Vec::<String>::new());
    let conn = &mut rows.connect().await;
    for (number, case) in cases.iter().enumerate() {
        let id = format!("md5('ws_{number}')::uuid");
        let expected = (case.inactive_reason().is_none(), case.inactive_reason().map(str::to_owned));
        let of_function = format!("SELECT active, inactive_reason FROM billing.workspace_state({id})");
        assert_eq!(states(&rows, &of_function).await, std::slice::from_ref(&expected), "{case:?}");
        let of_view =
            format!("SELECT active, inactive_reason FROM billing.workspace_billing WHERE workspace_id = {id}");
        let in_view = if case.is_named() { vec![expected] } else { Vec::new() };
        assert_eq!(states(&rows, &of_view).await, in_view, "{case:?}");
        let differing = format!(
            "SELECT s.*::text FROM billing.workspace_state({id}) AS s JOIN billing.workspace_billing AS b ON b.workspace_id = {id}
            WHERE (s.current_subscription_id, s.billing_contact_id, s.pricing_plan_id)
                IS DISTINCT FROM (b.current_subscription_id, b.billing_contact_id, b.pricing_plan_id)"
        );
        assert_eq!(rows.lines(&differing).await, Vec::<String>::new(), "{case:?}");

        let refusal = case.inactive_reason().map(|reason| {
            let code = if case.sale == Sale::Nothing { "LM003" } else { "LM002" };
            Err((code.to_owned(), Some(reason.to_owned())))
        });
        let remains = reason(call(conn, &format!("remaining({id}, 'words')")).await);
        assert_eq!(remains, refusal.clone().unwrap_or(Ok(Some(100))), "{case:?}");
        let consumed = reason(call(conn, &format!("consume({id}, 'words', 100)")).await);
        assert_eq!(consumed, refusal.clone().unwrap_or(Ok(Some(0))), "{case:?}");
        let remains = reason(call(conn, &format!("remaining({id}, 'words')")).await);
        assert_eq!(remains, refusal.unwrap_or(Ok(Some(0))), "0 only means that nothing is left: {case:?}");
        let shown = format!(
            "SELECT concat_ws(' ', active, available, is_computed) FROM billing.workspace_limits
            WHERE limit_key = 'words' AND workspace_id = {id}"
        );
        let expected = match (case.sale, case.inactive_reason()) {
            (Sale::Nothing, _) => Vec::new(),
            (_, None) => vec!["t 0 t"],
            (_, Some(_)) => vec!["f 0 t"],
        };
        assert_eq!(rows.lines(&shown).await, expected, "{case:?}");
        // members can leave whatever the state is
        let released = reason(call(conn, &format!("release({id}, 'members', 1)")).await);
        let expected = if case.sale == Sale::Nothing { "LM003" } else { "22023" };
        assert_eq!(released.unwrap_err().0, expected, "no member has joined: {case:?}");
    }
    for _ in 0..20 {
        let state = format!("SELECT active, inactive_reason FROM billing.workspace_state('{}')", Uuid::new_v4());
        assert_eq!(states(&rows, &state).await, [(false, Some("unknown_workspace".to_owned()))]);
    }
    let null = sqlx::raw_sql("SELECT * FROM billing.workspace_state(NULL)").execute(&rows.pool).await.unwrap_err();
    assert_eq!(null.as_database_error().unwrap().code().as_deref(), Some("22023"));
}

/// The answers of the three functions about the limit of one workspace.
async fn reasons(conn: &mut Connection, limit: &str) -> [Result<Option<i64>, (String, Option<String>)>; 3] {
    let consume = reason(call(conn, &format!("consume(w, '{limit}', 1)")).await);
    let remaining = reason(call(conn, &format!("remaining(w, '{limit}')")).await);
    [consume, remaining, reason(call(conn, &format!("release(w, '{limit}', 1)")).await)]
}

/// Adds an item with this price to the subscription `sub`, as an event about it does.
async fn add_item(rows: &Rows, price: &str) {
    rows.execute(&format!(
        "INSERT INTO billing.subscription_timeline (account, subscription_id, stated_at, effective_from, source, status,
            payment_paused, price_ids, quantities, start_date)
        SELECT '', 'sub', at, at, gen_random_uuid(), 'active', false, t.price_ids || '{price}'::text, t.quantities || 1::bigint,
            t.start_date
        FROM clock_timestamp() AS at, (SELECT * FROM billing.subscription_timeline WHERE subscription_id = 'sub'
            ORDER BY stated_at DESC LIMIT 1) AS t"
    ))
    .await;
}

/// Writes the plan of a price with one limit, an amount or an invalid value.
async fn price(rows: &Rows, price: &str, limit: &str, included: Option<i64>) {
    let (included, invalid) = match included {
        Some(included) => (included.to_string(), "NULL".to_owned()),
        None => ("NULL".to_owned(), format!("'price {price}: limit_{limit} = \"lots\"'")),
    };
    rows.execute(&format!(
        "INSERT INTO billing.pricing_plans (id, account, stripe_price_id) VALUES (md5('{price}')::uuid, '', '{price}')
        ON CONFLICT DO NOTHING;
        INSERT INTO billing.plan_limits (id, pricing_plan_id, limit_key, included, unlimited, invalid_value)
        SELECT gen_random_uuid(), id, '{limit}', {included}, false, {invalid} FROM billing.pricing_plans
        WHERE stripe_price_id = '{price}'
        ON CONFLICT (pricing_plan_id, limit_key) DO UPDATE SET included = excluded.included,
            invalid_value = excluded.invalid_value"
    ))
    .await;
}

/// Forgets the balances and creates them again: what the worker does if it reads everything at once.
async fn create_limits_anew(rows: &Rows) {
    rows.execute(
        "TRUNCATE billing.subscription_limits, billing.limit_renewals, billing.limit_recalculations;
        SELECT billing.create_limits(ARRAY[md5('sub')::uuid])",
    )
    .await;
}

#[tokio::test]
async fn a_value_that_cannot_be_read_is_named() {
    let rows = Rows::with("words 100").await;
    let conn = &mut rows.connect().await;
    price(&rows, "price_sub", "seats", None).await;
    create_limits_anew(&rows).await;
    let unreadable = Err(("LM009".to_owned(), Some(r#"price price_sub: limit_seats = "lots""#.to_owned())));
    assert_eq!(reasons(conn, "seats").await, [unreadable.clone(), unreadable.clone(), unreadable]);
    assert_eq!(call(conn, "consume(w, 'words', 1)").await, Ok(Some(99)), "the other limits work");
    let full = call(conn, "remaining(w, 'seats')").await.unwrap_err();
    assert!(full.message.contains("cannot be read: price price_sub: limit_seats = \"lots\""), "{}", full.message);
    assert_eq!(
        full.hint.as_deref(),
        Some("Set the value in the metadata in Stripe to a whole number, or to unlimited.")
    );
    // a row that an older release wrote
    rows.execute("UPDATE billing.plan_limits SET invalid_value = NULL").await;
    let older = reason(call(conn, "remaining(w, 'seats')").await);
    assert_eq!(older, Err(("LM009".to_owned(), Some("price price_sub: limit_seats".to_owned()))));
    // corrected in Stripe
    price(&rows, "price_sub", "seats", Some(5)).await;
    rows.execute("SELECT billing.create_limits(ARRAY[md5('sub')::uuid])").await;
    assert_eq!(call(conn, "remaining(w, 'seats')").await, Ok(Some(5)));
}

/// An amount that was never known is not 0: "used up" would be wrong.
#[tokio::test]
async fn a_sum_that_was_never_known_is_not_used_up() {
    let rows = Rows::with("words 100").await;
    let conn = &mut rows.connect().await;
    // both items from the start, and the price of one of them is not known
    rows.execute(
        "UPDATE billing.subscription_timeline SET price_ids = '{price_sub,price_addon}', quantities = '{1,1}'",
    )
    .await;
    create_limits_anew(&rows).await;
    let unknown = Err(("LM008".to_owned(), None));
    assert_eq!(reasons(conn, "words").await, [unknown.clone(), unknown.clone(), unknown.clone()]);
    assert_eq!(reasons(conn, "images").await, [unknown.clone(), unknown.clone(), unknown]);
    // the price arrives with a value that cannot be read
    price(&rows, "price_addon", "words", None).await;
    create_limits_anew(&rows).await;
    let unreadable = Err(("LM009".to_owned(), Some(r#"price price_addon: limit_words = "lots""#.to_owned())));
    assert_eq!(reasons(conn, "words").await, [unreadable.clone(), unreadable.clone(), unreadable]);
    assert_eq!(refused(conn, "consume(w, 'images', 1)").await, "LM004");
    assert_eq!(rows.lines("SELECT limit_key FROM billing.workspace_limits").await, Vec::<String>::new());
    // and with one that can
    price(&rows, "price_addon", "words", Some(20)).await;
    rows.execute("SELECT billing.create_limits(ARRAY[md5('sub')::uuid])").await;
    assert_eq!(call(conn, "remaining(w, 'words')").await, Ok(Some(120)));
}

/// The amount does not depend on whether the balance was created before or after the change.
#[tokio::test]
async fn the_last_known_amount_stays_whenever_the_balance_is_created() {
    for is_readable_price in [true, false] {
        for is_created_before in [true, false] {
            let rows = Rows::with("words 100").await;
            let conn = &mut rows.connect().await;
            if !is_readable_price {
                price(&rows, "price_addon", "words", None).await;
            }
            add_item(&rows, "price_addon").await;
            if is_created_before {
                rows.execute("INSERT INTO billing.limit_recalculations (subscription_id, since) VALUES (md5('sub')::uuid, now())")
                    .await;
            } else {
                create_limits_anew(&rows).await;
            }
            let case = format!("readable {is_readable_price}, before {is_created_before}");
            assert_eq!(call(conn, "remaining(w, 'words')").await, Ok(Some(100)), "{case}");
            assert_eq!(call(conn, "consume(w, 'words', 1)").await, Ok(Some(99)), "{case}");
        }
    }
}

/// The worker creates a balance a little later if the product has locked `limit_kinds`.
#[tokio::test]
async fn a_balance_that_is_not_created_yet_is_not_a_missing_limit() {
    let rows = Rows::with("words 100").await;
    let conn = &mut rows.connect().await;
    rows.execute("TRUNCATE billing.subscription_limits").await;
    let later = Err(("LM008".to_owned(), None));
    assert_eq!(reasons(conn, "words").await, [later.clone(), later.clone(), later]);
    assert_eq!(refused(conn, "remaining(w, 'images')").await, "LM004");
    // an ended subscription gets none any more
    rows.becomes("sub", "canceled").await;
    assert_eq!(refused(conn, "release(w, 'words', 1)").await, "LM004");
}

/// The codes in single quotes in the source of a function. LM000 is raised and caught within `consume`.
fn raised(source: &str) -> BTreeSet<String> {
    let quoted = source.split('\'').filter(|text| is_code(text) && *text != "LM000");
    quoted.map(str::to_owned).collect()
}

fn is_code(text: &str) -> bool {
    text.strip_prefix("LM").is_some_and(|digits| digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The functions of the schema that a source calls.
fn called(source: &str) -> BTreeSet<String> {
    let calls = source.split("billing.").skip(1).filter_map(|rest| rest.split_once('(')).map(|(name, _)| name);
    let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    calls.filter(is_name).map(str::to_owned).collect()
}

/// The codes that a function raises, itself or by a function that it calls.
fn raised_by(function: &str, sources: &BTreeMap<String, String>) -> BTreeSet<String> {
    let (mut found, mut seen, mut open) = (BTreeSet::new(), BTreeSet::new(), vec![function.to_owned()]);
    while let Some(name) = open.pop() {
        if let Some(source) = sources.get(&name).filter(|_| seen.insert(name.clone())) {
            found.extend(raised(source));
            open.extend(called(source));
        }
    }
    found
}

/// The table of codes: code, functions, meaning, DETAIL, what to do, whether a repetition helps, problem of the API.
/// A dash stands for an empty cell.
fn documented() -> Vec<Vec<String>> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tables.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `LM"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[tokio::test]
async fn the_table_of_codes_and_the_comments_agree_with_the_functions() {
    let rows = Rows::start().await;
    let functions: Vec<(String, String, Option<String>)> = sqlx::query_as(
        "SELECT p.proname::text, string_agg(p.prosrc, ' '), string_agg(obj_description(p.oid, 'pg_proc'), ' ')
        FROM pg_proc AS p WHERE p.pronamespace = 'billing'::regnamespace AND p.prosrc IS NOT NULL GROUP BY p.proname",
    )
    .fetch_all(&rows.pool)
    .await
    .unwrap();
    let sources: BTreeMap<String, String> =
        functions.iter().map(|(name, source, _)| (name.clone(), source.clone())).collect();
    let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for function in ["consume", "remaining", "release", "grant_bonus"] {
        let codes = raised_by(function, &sources);
        assert!(codes.contains(if function == "grant_bonus" { "LM007" } else { "LM003" }), "{function}: {codes:?}");
        let (_, _, comment) = functions.iter().find(|(name, ..)| name == function).unwrap();
        let words = comment.as_deref().unwrap_or_default().split(|one: char| !one.is_ascii_alphanumeric());
        let named: BTreeSet<String> = words.filter(|word| is_code(word)).map(str::to_owned).collect();
        assert_eq!(named, codes, "the comment of {function}");
        for code in codes {
            expected.entry(code).or_default().insert(function.to_owned());
        }
    }
    let anywhere: BTreeSet<String> = sources.values().flat_map(|source| raised(source)).collect();
    assert_eq!(
        expected.keys().cloned().collect::<BTreeSet<_>>(),
        anywhere,
        "a code that no function of the product raises"
    );
    let table = documented();
    for row in &table {
        assert_eq!(row.len(), 7, "{row:?}");
        let problem = row[6].trim_matches('`');
        assert!(row[6] == "–" || Code::ALL.iter().any(|code| code.as_str() == problem), "{row:?}");
    }
    let found: BTreeMap<String, BTreeSet<String>> = table
        .iter()
        .map(|row| (row[0].replace('`', ""), row[1].split(", ").map(|name| name.replace('`', "")).collect()))
        .collect();
    assert_eq!(found, expected, "docs/tables.md");
}
