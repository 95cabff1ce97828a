//! A database with a sale, a limit in use and an event, a fake Stripe, and a running `serve`; and how a command is run.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use billing_sync::base::clock;
use billing_sync::database::Connection;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions};

use super::cases::{self, Case};
use crate::cli::{binary, code, words};
use crate::support::app::SECRET;
use crate::support::cluster::{self, TestDatabase};
use crate::support::events::{START, customer, event};
use crate::support::fetching::Fetching;
use crate::support::postgres;
use crate::support::process::Server;
use crate::support::stripe::Epoch;

/// The workspace of the examples in the pages.
const WORKSPACE: &str = "550e8400-e29b-41d4-a716-446655440000";

/// Roles of the examples; those of `ops/roles.sql` keep their names.
const ROLES: [&str; 6] =
    ["billing_owner", "login_of_today", "the_login_of_serve", "the_old_login", "my_app", "my_operator"];

/// A role that a command creates.
const NEW_ROLE: &str = "the_next_login";

/// Length of the output that a failure shows.
const MOST_SHOWN: usize = 900;

/// Longest wait for another session.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

struct World {
    sync: Fetching,
    customer: String,
    subscription: String,
    /// A running process.
    server: Server,
    /// A database without our schema, and one for the backup.
    empty: TestDatabase,
    restored: TestDatabase,
    /// Files, and the programs under the names of the pages.
    dir: tempfile::TempDir,
    /// A session that holds a lock, and its process.
    holder: Connection,
    holder_pid: i32,
    /// The suffix of the roles.
    suffix: String,
}

impl World {
    async fn new() -> Self {
        let mut sync = Fetching::start().await;
        sync.app.leave_pending();
        let stripe = &sync.stripe;
        stripe.set_clock(clock::now().unix_timestamp() - 120);
        let customer_id = stripe.customer(json!({ "name": "Ada", "metadata": { "workspace_id": WORKSPACE } }));
        let product = stripe.product(json!({ "name": "Writing" }));
        let price = stripe.price(&product, 1000, json!({ "metadata": { "limit_words": "1000" } }));
        let subscription = stripe.subscribe(&customer_id, &price);
        stripe.tick(30);
        sync.deliver_all(Epoch::Endive).await;
        let later = stripe.now() - START;
        sync.app.deliver(&event("evt_runbook", "customer.created", later, &customer("cus_bo", "Bo"), None)).await;
        sync.settle().await;
        let consume = format!("SELECT billing.consume('{WORKSPACE}', 'words', 10)");
        sqlx::raw_sql(AssertSqlSafe(consume)).execute(&sync.app.pool).await.unwrap();

        let dir = tempfile::tempdir().unwrap();
        let (empty, restored) = (cluster::empty_database().await, cluster::empty_database().await);
        let suffix = sync.app.database.name.clone();
        let database = &sync.app.database;
        let mut holder = Connection::from(database.options.connect().await.unwrap());
        let holder_pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut holder).await.unwrap();
        let server = Server::start(database, "receiver", &[]).await;
        let world = Self {
            sync,
            customer: customer_id,
            subscription,
            server,
            empty,
            restored,
            dir,
            holder,
            holder_pid,
            suffix,
        };
        world.write_files();
        for role in ROLES {
            world.execute(&format!("CREATE ROLE {}", world.role(role))).await;
        }
        world
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn write_files(&self) {
        std::fs::write(self.path("database-url"), &self.sync.app.database.url).unwrap();
        let sent =
            event("evt_sent", "customer.created", self.sync.stripe.now() - START, &customer("cus_sent", "Cy"), None);
        std::fs::write(self.path("event.json"), sent.to_string()).unwrap();
        postgres::run(
            "pg_dump",
            &["--format=custom", "--file", &self.path("backup.dump"), &self.sync.app.database.url],
        );
        std::fs::create_dir(self.path("bin")).unwrap();
        let link = |program: &Path, name: &str| std::os::unix::fs::symlink(program, self.path("bin/") + name).unwrap();
        link(Path::new(env!("CARGO_BIN_EXE_billing-sync")), "billing-sync");
        for name in ["psql", "pg_restore"] {
            let program = postgres::program(name);
            if program.is_absolute() {
                link(&program, name);
            }
        }
    }

    fn role(&self, role: &str) -> String {
        format!("{role}_{}", self.suffix)
    }

    async fn execute(&self, sql: &str) {
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.sync.app.pool).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The command with the values of this world for those of the page.
    fn filled(&self, printed: &str) -> String {
        let is_redaction = printed.contains("redact");
        let customer = if is_redaction { "cus_bo" } else { &self.customer };
        let url = format!("http://{}/webhooks/stripe", self.server.webhooks());
        let (file, dir) = (self.path("event.json"), self.path(""));
        let pid = self.holder_pid.to_string();
        let mut command = printed.to_owned();
        for (placeholder, value) in [
            ("evt_…", "evt_runbook"),
            ("cus_…", customer),
            ("sub_…", &self.subscription),
            ("explain ID", &format!("explain {}", self.subscription)),
            ("--reason TEXT", "--reason 'a test'"),
            ("FILE…", &file),
            ("--to URL", &format!("--to {url}")),
            ("--endpoint-url URL", "--endpoint-url https://billing.example.com/webhooks/stripe"),
            ("4711", &pid),
            ("sudo ", ""),
            ("/etc/billing-sync/", &dir),
            ("/usr/local/share/man/man1", &self.path("man")),
            ("/usr/share/bash-completion/completions/", &dir),
            ("backup.dump", &self.path("backup.dump")),
        ] {
            command = command.replace(placeholder, value);
        }
        for role in ROLES.into_iter().chain([NEW_ROLE]) {
            command = command.replace(role, &self.role(role));
        }
        // a script confirms with it, because it has no terminal
        let needs_yes = command.contains("outbox retry --")
            || command.contains("outbox discard")
            || is_redaction
            || is_fix(&command);
        if needs_yes { command + " --yes" } else { command }
    }

    /// Runs a command as the page prints it: SQL with psql, everything else with a shell.
    fn run(&self, printed: &str) -> Output {
        let filled = self.filled(printed);
        let url = match printed.split_once(' ').unwrap_or_default().0 {
            "pg_restore" => &self.restored.url,
            _ if printed.starts_with("CREATE SCHEMA") => &self.empty.url,
            _ => &self.sync.app.database.url,
        };
        let mut shell = Command::new("/bin/sh");
        shell.current_dir(env!("CARGO_MANIFEST_DIR")).env_clear().stdin(Stdio::null());
        shell.env("PATH", format!("{}:{}", self.path("bin"), cluster::search_path()));
        shell.env("STRIPE_WEBHOOK_SECRET", SECRET).env("STRIPE_SECRET_KEY", self.sync.stripe.key());
        shell.env("STRIPE_API_BASE", self.sync.stripe.base()).env("BILLING_SYNC_READ_MARGIN", "1s");
        shell.env("BILLING_SYNC_OPS_LISTEN", self.server.ops().to_string());
        if is_fix(printed) {
            shell.env("STRIPE_WRITE_KEY", self.sync.stripe.write_key());
        }
        if !printed.contains("DATABASE_URL_FILE") {
            shell.env("DATABASE_URL", url);
        }
        let is_program = filled.starts_with(char::is_lowercase);
        if is_program {
            shell.args(["-c", &filled]);
        } else {
            shell.args(["-c", "psql --no-psqlrc --set ON_ERROR_STOP=1 --command \"$0\" \"$DATABASE_URL\"", &filled]);
        }
        shell.output().unwrap()
    }

    /// Runs a case, and returns what it does not show or do.
    async fn check(&mut self, case: &Case) -> Vec<String> {
        self.execute(case.before).await;
        let (exit, text) = match case.printed {
            "billing-sync serve" | "billing-sync serve --roles api" => self.serve(case.printed).await,
            "billing-sync tail" => self.tail(),
            printed if printed.contains("pg_blocking_pids") => self.with_a_lock(printed).await,
            printed => {
                let output = self.run(printed);
                (code(&output), words(&output.stdout) + " " + &words(&output.stderr))
            }
        };
        let text = text + &self.written(case.printed);
        let mut faults = Vec::new();
        if exit != 0 {
            faults.push(format!("exit code {exit}"));
        }
        if !shows(&text, case.shows) {
            faults.push(format!("does not show {:?}", case.shows));
        }
        // the server ends a terminated session a moment later
        let began = Instant::now();
        while !self.holds(case.holds).await {
            if began.elapsed() > LONGEST_WAIT {
                faults.push(format!("not so: {}", case.holds));
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let shown: String = text.chars().take(MOST_SHOWN).collect();
        faults.into_iter().map(|fault| format!("{}: {fault}: {shown}", case.printed)).collect()
    }

    async fn holds(&self, condition: &str) -> bool {
        let sql = format!("SELECT {}", condition.replace("4711", &self.holder_pid.to_string()));
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.sync.app.pool).await.unwrap_or(false)
    }

    /// The file that a command writes, and what is in the restored database.
    fn written(&self, printed: &str) -> String {
        let file = match printed {
            printed if printed.contains("tee") => self.path("billing-sync"),
            printed if printed.contains("man --dir") => self.path("man/billing-sync.1"),
            printed if printed.starts_with("pg_restore") => {
                let rows = "SELECT 'restored' WHERE EXISTS (SELECT FROM billing.billing_contacts WHERE name = 'Ada')";
                return postgres::run("psql", &["--no-psqlrc", "--tuples-only", "--command", rows, &self.restored.url]);
            }
            _ => return String::new(),
        };
        std::fs::read_to_string(file).unwrap()
    }

    /// Starts `serve`, which is ready, and stops it as a supervisor does.
    async fn serve(&self, printed: &str) -> (i32, String) {
        let base = self.sync.stripe.base();
        let roles = printed
            .strip_prefix("billing-sync serve --roles ")
            .unwrap_or("receiver,worker,renewals,reconcile,maintenance");
        let environment = [("STRIPE_API_BASE", base.as_str()), ("BILLING_SYNC_API_LISTEN", "127.0.0.1:0")];
        let server = Server::start(&self.sync.app.database, roles, &environment).await;
        assert_eq!(server.ask("/readyz").await.status, 200, "{printed}");
        server.signal(Signal::SIGTERM);
        let (code, log) = server.ended_with_log().await;
        (code.unwrap(), log)
    }

    /// Starts `tail`, waits for its first line, and stops it as Ctrl-C does.
    fn tail(&self) -> (i32, String) {
        let environment = [("DATABASE_URL", self.sync.app.database.url.as_str())];
        let mut child = binary(&["tail"], &environment).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        let mut text = String::new();
        while !text.contains("customer.created") {
            text += &lines.next().expect("it shows the last events").unwrap();
        }
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
        (child.wait().unwrap().code().unwrap(), text)
    }

    /// Runs a query while one session waits for another.
    async fn with_a_lock(&mut self, printed: &str) -> (i32, String) {
        let lock = "LOCK TABLE billing.limit_kinds";
        sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {lock}"))).execute(&mut self.holder).await.unwrap();
        let options = self.sync.app.database.options.clone();
        let waiting = tokio::spawn(async move {
            let mut waiter = Connection::from(options.connect().await.unwrap());
            let _ = sqlx::raw_sql("BEGIN; LOCK TABLE billing.limit_kinds").execute(&mut waiter).await;
        });
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'billing.limit_kinds'::regclass";
        let began = Instant::now();
        while cluster::number(&self.sync.app.pool, waits).await == 0 {
            assert!(began.elapsed() < LONGEST_WAIT, "no session waits for the lock");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let output = self.run(printed);
        let text = words(&output.stdout) + " " + &words(&output.stderr);
        let pid = self.holder_pid;
        assert!(text.contains(&format!("{{{pid}}}")) && text.contains("(2 rows)"), "{text}");
        waiting.abort();
        (code(&output), text)
    }

    async fn finish(self) {
        // the_old_login is gone
        let left = ROLES.into_iter().filter(|role| *role != "the_old_login").chain([NEW_ROLE]);
        let names = left.map(|role| self.role(role)).collect::<Vec<_>>().join(", ");
        self.server.kill().await;
        let mut empty = Connection::from(self.empty.options.connect().await.unwrap());
        let drop = format!("DROP OWNED BY {names} CASCADE; DROP ROLE {names}");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut empty).await.unwrap();
        self.sync.app.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_a_runbook_does_what_the_page_promises() {
    let mut world = World::new().await;
    let mut faults = Vec::new();
    for case in cases::all() {
        faults.extend(world.check(&case).await);
    }
    world.finish().await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Whether a text contains these words, not as a part of longer ones. A final `…` stands for the rest of a word.
fn shows(text: &str, words: &str) -> bool {
    let (words, is_beginning) = words.strip_suffix('…').map_or((words, false), |words| (words, true));
    let is_end = |end: Option<char>| end.is_none_or(|end| !end.is_alphanumeric());
    text.match_indices(words).any(|(at, _)| {
        is_end(text[..at].chars().next_back()) && (is_beginning || is_end(text[at + words.len()..].chars().next()))
    })
}

#[test]
fn words_are_not_found_in_longer_ones() {
    for (text, words, expected) in [
        ("10 rows", "0 rows", false),
        ("0 rows differ", "0 rows", true),
        ("pg_terminate_backend (1 row)", "t", false),
        ("pg_terminate_backend t (1 row)", "t", true),
        ("10 rows, 0 rows", "0 rows", true),
        ("the token is bs_1_x", "bs_…", true),
        ("the token is xbs_1_x", "bs_…", false),
    ] {
        assert_eq!(shows(text, words), expected, "{words:?} in {text:?}");
    }
}

/// Whether a command changes the webhook endpoint at Stripe.
fn is_fix(command: &str) -> bool {
    command.contains("doctor --fix")
}
