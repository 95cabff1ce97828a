//! `writes`: the listed changes at Stripe, their details, and the effects of `resolve`.

use billing_sync::database::Connection;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{code, migrated, run, words};

/// The user who requested the changes.
const USER: &str = "user:00000000-0000-0000-0000-0000000000ad";

/// A line of a customer that was begun some minutes ago, with the idempotency key of its client.
async fn line(conn: &mut Connection, number: u128, state: &str, customer: &str, minutes: i32) -> String {
    let id = Uuid::from_u128(number);
    let sql = "INSERT INTO billing.api_writes (id, principal, operation, account, target, workspace_id, object_type,
            object_id, path, form, state, attempts, last_error, stripe_request_id, stripe_status, begun_at, first_sent_at,
            retry_at, finished_at)
        SELECT $1, $5, 'customer.update', '', 'customer/' || $3, $6, 'customer', $3, '/customers/' || $3,
            'name=Ada+Lovelace&email=ada%40example.com', $2, 3, 'the connection was closed', 'req_1', 500, at,
            CASE WHEN $2 <> 'begun' THEN at END, at,
            CASE WHEN $2 NOT IN ('begun', 'sent') THEN clock_timestamp() END
        FROM (SELECT clock_timestamp() - make_interval(mins => $4)) AS t (at)";
    let line = sqlx::query(sql).bind(id).bind(state).bind(customer).bind(minutes).bind(USER).bind(Uuid::from_u128(9));
    line.execute(&mut *conn).await.unwrap();
    let sql = "INSERT INTO billing.api_requests (principal, idempotency_key, fingerprint, write_id)
        VALUES ($1, 'key-' || $2, sha256('x'), $3)";
    sqlx::query(sql).bind(USER).bind(customer).bind(id).execute(conn).await.unwrap();
    id.to_string()
}

async fn text(conn: &mut Connection, sql: &'static str) -> Option<String> {
    sqlx::query_scalar(sql).fetch_one(conn).await.unwrap()
}

#[tokio::test]
async fn an_empty_ledger_is_reported() {
    let (database, _conn) = migrated().await;
    let output = run(&["writes", "list", "--state", "unknown"], &[("DATABASE_URL", &database.url)]);
    assert_eq!((code(&output), words(&output.stdout).as_str()), (0, "There are no unknown changes at Stripe."));
}

#[tokio::test]
async fn list_shows_the_requested_changes_without_their_forms() {
    let (database, mut conn) = migrated().await;
    let begun = line(&mut conn, 1, "begun", "cus_1", 1).await;
    let sent = line(&mut conn, 2, "sent", "cus_2", 2).await;
    let unknown = line(&mut conn, 3, "unknown", "cus_3", 3).await;
    let environment = [("DATABASE_URL", database.url.as_str())];
    let list = |arguments: &[&str]| {
        let output = run(&[&["writes", "list"], arguments].concat(), &environment);
        assert_eq!(code(&output), 0, "{}", words(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let all = list(&[]);
    let places: Vec<usize> = [&begun, &sent, &unknown].map(|id| all.find(id.as_str()).unwrap()).to_vec();
    assert!(places.is_sorted(), "newest first: {all}");
    for part in ["customer/cus_1", USER, "customer.update", "3 attempts", "the connection was closed"] {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert!(all.lines().all(|line| line.chars().count() <= 80), "{all}");
    let first = list(&["--limit", "1"]);
    assert!(first.contains(&begun) && first.contains("there are 2 more (--limit)"), "{first}");
    let open = list(&["--state", "open"]);
    assert!(open.contains(&begun) && open.contains(&sent) && !open.contains(&unknown), "{open}");
    let of_customer = list(&["--customer", "cus_3", "--workspace", &Uuid::from_u128(9).to_string(), "--json"]);
    let row: Value = serde_json::from_str(&of_customer).unwrap();
    assert_eq!((&row["id"], &row["state"], &row["attempts"]), (&json!(unknown), &json!("unknown"), &json!(3)));
    assert!(row.get("form").is_none() && !(all + &of_customer).contains("Ada"), "{row}");
    assert_eq!(list(&["--workspace", &Uuid::from_u128(8).to_string(), "--json"]), "");
}

#[tokio::test]
async fn show_prints_values_of_the_form_only_on_request() {
    let (database, mut conn) = migrated().await;
    let id = line(&mut conn, 1, "unknown", "cus_1", 3000).await;
    let next = line(&mut conn, 2, "sent", "cus_2", 1).await;
    sqlx::query("UPDATE billing.api_writes SET previous_id = $1, state = 'begun', first_sent_at = NULL WHERE id = $2")
        .bind(Uuid::from_u128(1))
        .bind(Uuid::from_u128(2))
        .execute(&mut conn)
        .await
        .unwrap();
    let environment = [("DATABASE_URL", database.url.as_str())];
    let show = |arguments: &[&str]| {
        let output = run(&[&["writes", "show"], arguments].concat(), &environment);
        assert_eq!(code(&output), 0, "{}", words(&output.stderr));
        words(&output.stdout)
    };
    let plain = show(&[&id]);
    for part in [
        format!("stripe_key billing-sync-{id}-1"),
        format!("next {next}"),
        "stripe_request_id req_1 stripe_status 500".to_owned(),
        "client_key key-cus_1, not answered yet".to_owned(),
        "more than 24 hours ago: Stripe no longer has the key".to_owned(),
        "form name, email (--reveal shows the values)".to_owned(),
        format!("billing-sync writes resolve {id} \\ --as done"),
    ] {
        assert!(plain.contains(&part), "{part}: {plain}");
    }
    let revealed = show(&[&id, "--reveal"]);
    assert!(revealed.contains("name = Ada Lovelace email = ada@example.com"), "{revealed}");
    let json_of = |arguments: &[&str]| serde_json::from_str::<Value>(&show(arguments)).unwrap();
    let row = json_of(&[&id, "--json"]);
    assert_eq!((&row["form_fields"], &row["next_ids"]), (&json!(["name", "email"]), &json!([next])));
    assert!(row.get("form").is_none() && !(plain + &row.to_string()).contains("ada@"), "{row}");
    assert_eq!(json_of(&[&id, "--json", "--reveal"])["form"][0], json!(["name", "Ada Lovelace"]));
    assert!(show(&[&next]).contains(&format!("previous_id {id}")));
    let unknown = run(&["writes", "show", "00000000-0000-0000-0000-0000000000ff"], &environment);
    assert_eq!(code(&unknown), 1);
    assert!(words(&unknown.stderr).contains("`billing-sync writes list` shows the ids"), "{}", words(&unknown.stderr));
    assert_eq!(code(&run(&["writes", "show", "cus_1"], &environment)), 2);
}

#[tokio::test]
async fn resolve_records_the_decision_and_frees_the_key_of_a_refused_request() {
    let (database, mut conn) = migrated().await;
    let (refused, done) =
        (line(&mut conn, 1, "unknown", "cus_1", 3000).await, line(&mut conn, 2, "sent", "cus_2", 90).await);
    let environment = [("DATABASE_URL", database.url.as_str())];
    let resolve = |id: &str, outcome: &str| {
        let output = run(&["writes", "resolve", id, "--as", outcome, "--reason", "seen in the log"], &environment);
        assert_eq!(code(&output), 0, "{}", words(&output.stderr));
        words(&output.stdout)
    };
    let answer = resolve(&refused, "refused");
    assert!(answer.contains("the client may repeat its request with the same Idempotency-Key"), "{answer}");
    assert_eq!(resolve(&done, "done"), format!("{done} is done"));
    let rows = "SELECT string_agg(concat_ws(' ', state, resolved_by, finished_at IS NOT NULL), ', ' ORDER BY id)
        FROM billing.api_writes";
    let expected = "refused seen in the log t, done seen in the log t";
    assert_eq!(text(&mut conn, rows).await.as_deref(), Some(expected));
    let keys = "SELECT string_agg(idempotency_key, ', ') FROM billing.api_requests";
    assert_eq!(text(&mut conn, keys).await.as_deref(), Some("key-cus_2"));
    let shown = words(&run(&["writes", "show", &done], &environment).stdout);
    assert!(shown.contains("resolved_by seen in the log"), "{shown}");
    assert!(shown.contains("An operator found that Stripe made the change."), "{shown}");
}

#[tokio::test]
async fn resolve_completes_or_removes_the_row_of_a_checkout_link() {
    let (database, mut conn) = migrated().await;
    let (refused, done) =
        (line(&mut conn, 1, "unknown", "cus_1", 3000).await, line(&mut conn, 2, "unknown", "cus_2", 3000).await);
    for sql in [
        "UPDATE billing.api_writes SET object_id = NULL, object_type = 'payment_link', operation = 'payment_link.create'",
        "INSERT INTO billing.checkout_links (id, account, request, created_by)
            SELECT id, account, '{}', principal FROM billing.api_writes",
    ] {
        sqlx::query(sql).execute(&mut conn).await.unwrap();
    }
    let environment = [("DATABASE_URL", database.url.as_str())];
    for arguments in [&[&refused, "--as", "refused"][..], &[&done, "--as", "done", "--object", "plink_1"]] {
        let output = run(&[&["writes", "resolve", "--reason", "seen"], arguments].concat(), &environment);
        assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    }
    let rows =
        "SELECT string_agg(concat_ws(' ', id, stripe_payment_link_id, is_enabled), ', ') FROM billing.checkout_links";
    assert_eq!(text(&mut conn, rows).await, Some(format!("{done} plink_1 t")));
}

#[tokio::test]
async fn a_change_that_a_process_completes_is_not_resolved() {
    let (database, mut conn) = migrated().await;
    let (leased, recent) =
        (line(&mut conn, 1, "sent", "cus_1", 90).await, line(&mut conn, 2, "sent", "cus_2", 50).await);
    let (done, created) =
        (line(&mut conn, 3, "done", "cus_3", 90).await, line(&mut conn, 4, "unknown", "cus_4", 90).await);
    for sql in [
        "UPDATE billing.api_writes SET leased_until = clock_timestamp() + interval '1 min' WHERE target = 'customer/cus_1'",
        "UPDATE billing.api_writes SET object_id = NULL, operation = 'customer.create' WHERE target = 'customer/cus_4'",
    ] {
        sqlx::query(sql).execute(&mut conn).await.unwrap();
    }
    let before = text(&mut conn, "SELECT string_agg(w::text, ' ' ORDER BY id) FROM billing.api_writes AS w").await;
    let environment = [("DATABASE_URL", database.url.as_str())];
    let refusal = |id: &str, arguments: &[&str]| {
        let output = run(&[&["writes", "resolve", id, "--reason", "x"], arguments].concat(), &environment);
        (code(&output), words(&output.stderr))
    };
    for (id, arguments, expected) in [
        (&leased, &["--as", "done"][..], "is sent, and a process is sending it, at most until"),
        (&recent, &["--as", "refused"], "can be resolved after an hour without an attempt"),
        (&done, &["--as", "refused"], "is done, not unknown; it was not changed"),
        (&created, &["--as", "done"], "creates a customer: add --object with its id at Stripe"),
        (&created, &["--as", "refused", "--object", "cus_4"], "omit --object"),
        (&Uuid::from_u128(99).to_string(), &["--as", "done"], "there is no change"),
    ] {
        let (status, errors) = refusal(id, arguments);
        assert!(status == 1 && errors.contains(expected), "{arguments:?}: {errors}");
    }
    assert_eq!(refusal(&created, &[]).0, 2, "without --as");
    let after = text(&mut conn, "SELECT string_agg(w::text, ' ' ORDER BY id) FROM billing.api_writes AS w").await;
    assert_eq!(after, before);
    let arguments = ["writes", "resolve", &created, "--as", "done", "--reason", "x", "--object", "cus_9"];
    assert_eq!(code(&run(&arguments, &environment)), 0);
    let object = "SELECT state || object_id FROM billing.api_writes WHERE target = 'customer/cus_4'";
    assert_eq!(text(&mut conn, object).await.as_deref(), Some("donecus_9"));
}
