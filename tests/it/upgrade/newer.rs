//! The database was migrated by a newer release, which has added to every table and view what migrations may add.

use std::net::SocketAddr;

use billing_sync::base::clock;
use billing_sync::database::Pool;
use nix::sys::signal::Signal;
use serde_json::json;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::api::harness::{PREFIX, request};
use crate::cli::{code, run, words};
use crate::support::app::SECRET;
use crate::support::client::Client;
use crate::support::cluster::{self, TestDatabase, number};
use crate::support::process::Server;
use crate::support::stripe::{Epoch, FakeStripe};

/// The statements of a newer release: for each table two columns, of which one is not null, and an index; for each view
/// a column at its end; a table of its own. Old statements do not name any of them.
const ADDITIONS: &str = "
    SELECT statement FROM (
        SELECT 1 AS step, relname, format('ALTER TABLE billing.%I ADD COLUMN newer_text text NOT NULL DEFAULT ''of a newer release'',
            ADD COLUMN newer_number bigint', relname) AS statement
        FROM pg_class WHERE relnamespace = 'billing'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
            AND relname <> 'schema_migrations'
        UNION ALL
        SELECT 2, relname, format('CREATE INDEX ON billing.%I (newer_number)', relname)
        FROM pg_class WHERE relnamespace = 'billing'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
        UNION ALL
        SELECT 3, relname, format('CREATE OR REPLACE VIEW billing.%I AS SELECT v.*, 1 AS newer_number FROM (%s) AS v', relname,
            rtrim(pg_get_viewdef(oid), ';'))
        FROM pg_class WHERE relnamespace = 'billing'::regnamespace AND relkind = 'v'
    ) AS additions
    WHERE step <> 2 OR relname <> 'schema_migrations'
    ORDER BY step, relname";

const RECORD: &str = "CREATE TABLE billing.of_a_newer_release (id bigint PRIMARY KEY);
    INSERT INTO billing.schema_migrations VALUES (9999, 'later', now(), true, '', 0)";

/// Migrates as a newer release would. Each statement is a transaction: all in one would hold the locks of all tables.
async fn migrate(pool: &Pool) {
    let statements: Vec<String> = sqlx::query_scalar(ADDITIONS).fetch_all(pool).await.unwrap();
    assert!(statements.len() > 60, "{}", statements.len());
    for statement in statements {
        let done = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(pool).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    sqlx::raw_sql(RECORD).execute(pool).await.unwrap();
}

/// The database of a product, and its account at Stripe.
struct Shop {
    database: TestDatabase,
    pool: Pool,
    stripe: FakeStripe,
    base: String,
}

/// A customer who has bought a plan with 1000 words.
struct Buyer {
    customer: String,
    subscription: String,
    workspace: Uuid,
}

impl Shop {
    async fn open() -> Self {
        let (database, pool) = cluster::database_with_pool().await;
        let stripe = FakeStripe::start().await;
        // renewals stop while clocks disagree
        stripe.set_clock(clock::now().unix_timestamp() - 60);
        let base = stripe.base();
        Self { database, pool, stripe, base }
    }

    fn environment(&self) -> Vec<(&str, &str)> {
        vec![
            ("DATABASE_URL", &self.database.url),
            ("STRIPE_WEBHOOK_SECRET", SECRET),
            ("STRIPE_SECRET_KEY", self.stripe.key()),
            ("STRIPE_API_BASE", &self.base),
            ("BILLING_SYNC_READ_MARGIN", "1s"),
            ("BILLING_SYNC_API_LISTEN", "127.0.0.1:0"),
        ]
    }

    async fn serve(&self, arguments: &[&str]) -> Server {
        let roles = "receiver,worker,renewals,reconcile,maintenance,api";
        Server::start_with(roles, arguments, &self.environment()).await
    }

    /// Sells, and delivers the events to this process.
    async fn sell(&self, server: &Server) -> Buyer {
        let (mark, workspace) = (self.stripe.mark(), Uuid::new_v4());
        let metadata = json!({ "workspace_id": workspace.to_string() });
        let customer = self.stripe.customer(json!({ "name": "Ada", "metadata": metadata }));
        let product = self.stripe.product(json!({ "name": "Writing" }));
        let price = self.stripe.price(&product, 1000, json!({ "metadata": { "limit_words": "1000" } }));
        let subscription = self.stripe.subscribe(&customer, &price);
        let write = "INSERT INTO billing.workspaces (id, name) VALUES ($1, 'A workspace of the product')";
        sqlx::query(write).bind(workspace).execute(&self.pool).await.unwrap();
        self.stripe.tick(5);
        for event in self.stripe.events_since(mark) {
            assert_eq!(server.deliver(&event.json(Epoch::Endive)).await, Some(200), "{}", event.event_type);
        }
        Buyer { customer, subscription, workspace }
    }

    /// Waits until the events of a sale are applied and its limits exist, and consumes.
    async fn consume(&self, buyer: &Buyer) {
        let limits = format!(
            "SELECT count(*) FROM billing.subscription_limits AS l JOIN billing.subscriptions AS s ON s.id = l.subscription_id
            WHERE l.limit_key = 'words' AND s.workspace_id = '{}'",
            buyer.workspace
        );
        until("the sale has its limits", async || number(&self.pool, &limits).await == 1).await;
        let consume = format!("SELECT billing.consume('{}', 'words', 10)", buyer.workspace);
        assert_eq!(number(&self.pool, &consume).await, 990);
        let left =
            "SELECT (SELECT count(*) FROM billing.outbox WHERE state <> 'done') + (SELECT count(*) FROM billing.jobs)";
        until("no event and no job is left", async || number(&self.pool, left).await == 0).await;
    }

    /// Runs a command, which must succeed.
    fn command(&self, arguments: &[&str]) -> String {
        let output = run(arguments, &self.environment());
        let text = format!("{} {}", words(&output.stdout), words(&output.stderr));
        assert_eq!(code(&output), 0, "{arguments:?}: {text}");
        text
    }

    /// The workspace of a buyer, from the API of a process.
    async fn ask_api(&self, server: &Server, buyer: &Buyer) -> String {
        let token = run(&["token", "create", "--scopes", "workspaces:admin"], &self.environment());
        let token = words(&token.stdout).split(' ').find(|word| word.starts_with("bs_")).unwrap().to_owned();
        let address: SocketAddr = server.serving()["api"].as_str().unwrap().split('/').nth(2).unwrap().parse().unwrap();
        let path = format!("{PREFIX}/v1/workspaces/{}", buyer.workspace);
        let authorization = format!("Bearer {token}");
        let mut client = Client::connect(address).await;
        client.send(&request("GET", &path, &[("Authorization", &authorization)], None)).await;
        let reply = client.reply().await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.text
    }
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    for _ in 0..3000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// The process ends on SIGTERM, and nothing that it did to the database has failed.
async fn end(server: Server) {
    server.signal(Signal::SIGTERM);
    let (code, log) = server.ended_with_log().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("database error") && !log.contains("cached plan"), "{log}");
    assert_eq!(log.matches("\"level\":\"ERROR\"").count(), 0, "{log}");
}

const NEWER: &str = "all migrations are applied, and newer ones by a newer release";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_continues_while_a_newer_release_migrates_and_an_old_one_starts_afterwards() {
    let shop = Shop::open().await;
    let running = shop.serve(&[]).await;
    // the statements of all its connections are prepared now
    let first = shop.sell(&running).await;
    shop.consume(&first).await;

    let (second, ()) = tokio::join!(shop.sell(&running), migrate(&shop.pool));
    let third = shop.sell(&running).await;
    for buyer in [&second, &third] {
        shop.consume(buyer).await;
        assert!(shop.ask_api(&running, buyer).await.contains(&buyer.customer));
    }
    let ready = running.ask("/readyz").await;
    assert_eq!((ready.status, ready.text.trim()), (200, format!("ready: {NEWER}").as_str()));
    end(running).await;

    // a rollback: the schema stays
    let rolled_back = shop.serve(&["--migrate"]).await;
    assert_eq!(rolled_back.ask("/readyz").await.status, 200);
    let fourth = shop.sell(&rolled_back).await;
    shop.consume(&fourth).await;
    assert!(shop.ask_api(&rolled_back, &fourth).await.contains(&fourth.customer));
    end(rolled_back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_works_on_the_schema_of_a_newer_release() {
    let shop = Shop::open().await;
    migrate(&shop.pool).await;
    let server = shop.serve(&[]).await;
    let buyer = shop.sell(&server).await;
    shop.consume(&buyer).await;
    end(server).await;

    let text = shop.command(&["migrate"]);
    assert!(
        text.contains("nothing to do") && text.contains(&format!("{NEWER} (9999): the schema stays as it is")),
        "{text}"
    );
    assert!(shop.command(&["doctor"]).contains(&format!("ok migrations {NEWER}")));
    let text = shop.command(&["rebuild"]);
    assert!(text.contains("0 rows changed") || text.contains("no row"), "{text}");
    shop.command(&["backfill"]);
    shop.command(&["renew"]);
    shop.command(&["reconcile"]);
    let text = shop.command(&["verify"]);
    assert!(text.contains("0 rows differ"), "{text}");
    let event = shop.stripe.events()[0].id.clone();
    for arguments in [
        &["status"][..],
        &["doctor", "--orphans"],
        &["explain", &buyer.subscription],
        &["explain", &buyer.workspace.to_string()],
        &["outbox", "list"],
        &["outbox", "show", &event, "--payload"],
        &["outbox", "prune"],
        &["token", "list"],
        &["writes", "list"],
        &["redact", &buyer.customer, "--yes"],
    ] {
        let text = shop.command(arguments);
        assert!(!text.contains("newer_text") && !text.contains("of a newer release"), "{arguments:?}: {text}");
    }
}
