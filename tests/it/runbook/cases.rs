//! The commands of the runbooks in the order in which the test runs them, with what makes each of them meaningful and what
//! shows that it worked.

/// A printed command, which must succeed.
pub(super) struct Case {
    /// As the page prints it, in one line.
    pub(super) printed: &'static str,
    /// SQL that is executed before.
    pub(super) before: &'static str,
    /// Whole words of what the command prints; a final `…` stands for the rest of the last word.
    pub(super) shows: &'static str,
    /// A condition in SQL that holds afterwards, at the latest after some seconds.
    pub(super) holds: &'static str,
}

impl Case {
    const fn new(printed: &'static str, shows: &'static str) -> Self {
        Self { printed, before: "", shows, holds: "true" }
    }

    const fn after(mut self, before: &'static str) -> Self {
        self.before = before;
        self
    }

    const fn holds(mut self, condition: &'static str) -> Self {
        self.holds = condition;
        self
    }
}

/// An event has failed for ever.
const DEAD: &str =
    "UPDATE billing.outbox SET state = 'dead', outcome = NULL, reason = NULL, isolated = true, attempts = 3,
    last_error = 'the trigger no_ada refused it', finished_at = clock_timestamp() WHERE event_id = 'evt_runbook'";

/// An event has failed, and waits for its next attempt.
const FAILED: &str =
    "UPDATE billing.outbox SET state = 'pending', outcome = NULL, reason = NULL, isolated = true, attempts = 3,
    last_error = 'the trigger no_ada refused it', finished_at = NULL, run_at = clock_timestamp() + interval '1 hour'
    WHERE event_id = 'evt_runbook'";

const IS_PENDING: &str = "EXISTS (SELECT FROM billing.outbox WHERE event_id = 'evt_runbook' AND state = 'pending' AND run_at <= clock_timestamp())";

const IS_DISCARDED: &str =
    "EXISTS (SELECT FROM billing.outbox WHERE event_id = 'evt_runbook' AND reason = 'discarded')";

/// A change at Stripe of unknown outcome.
const UNKNOWN: &str = "DELETE FROM billing.api_writes;
    INSERT INTO billing.api_writes (id, principal, operation, account, target, object_type, object_id, path, form, state,
        attempts, last_error, first_sent_at, finished_at)
    VALUES ('00000000-0000-0000-0000-000000000001', 'token:1', 'customer.update', '', 'customer/cus_1', 'customer', 'cus_1',
        '/customers/cus_1', NULL, 'unknown', 3, 'the connection was closed', clock_timestamp(), clock_timestamp())";

/// A line in another state.
const OPEN: &str = "UPDATE billing.api_writes SET state = 'sent', form = 'name=x', finished_at = NULL";
const REFUSED: &str = "UPDATE billing.api_writes SET state = 'refused', finished_at = clock_timestamp()";

const FAILING_JOB: &str = "INSERT INTO billing.jobs (kind, account, object_type, object_id, attempts, last_error, run_at)
    VALUES ('reproject', '', 'price', 'price_of_no_product', 3, 'another session holds a row', clock_timestamp() + interval '1 hour')";

const SET_ASIDE: &str = "INSERT INTO billing.jobs (kind, account, object_type, object_id, attempts, last_error, run_at)
    SELECT 'renewal', '', 'subscription', stripe_subscription_id, 3, 'bigint out of range', clock_timestamp() + interval '1 hour'
    FROM billing.subscriptions";

const NO_JOBS: &str = "DELETE FROM billing.jobs";

const NO_SEARCH: &str = "DROP INDEX billing.workspaces_search; DROP EXTENSION pg_trgm";

const SPLIT: &str = "SELECT billing.begin_split('outbox', ARRAY['2030-01-01'::timestamp])";

pub(super) fn all() -> Vec<Case> {
    let case = Case::new;
    vec![
        // programs and files
        case("billing-sync completions bash", "complete -F _billing__sync"),
        case("billing-sync completions zsh", "#compdef billing-sync"),
        case("billing-sync completions fish", "complete -c billing-sync"),
        case(
            "billing-sync completions bash | sudo tee /usr/share/bash-completion/completions/billing-sync >/dev/null",
            "complete -F _billing__sync",
        ),
        case("sudo billing-sync man --dir /usr/local/share/man/man1", ".TH billing-sync"),
        case("sudo env DATABASE_URL_FILE=/etc/billing-sync/database-url billing-sync status", "receiver"),
        // roles
        case("CREATE SCHEMA billing AUTHORIZATION billing_owner", "CREATE SCHEMA"),
        case("GRANT billing_owner TO login_of_today", "GRANT ROLE"),
        case("psql --set ON_ERROR_STOP=1 --file ops/roles.sql \"$DATABASE_URL\"", "GRANT")
            .holds("has_table_privilege('billing_api', 'billing.workspaces', 'SELECT')"),
        case("psql --command 'GRANT billing_product TO my_app' \"$DATABASE_URL\"", "GRANT ROLE"),
        case("psql --command 'GRANT billing_api TO the_login_of_serve' \"$DATABASE_URL\"", "GRANT ROLE"),
        case("psql --command 'GRANT pg_read_all_data TO my_operator' \"$DATABASE_URL\"", "GRANT ROLE"),
        case("CREATE ROLE the_next_login LOGIN PASSWORD 'a new password';", "CREATE ROLE"),
        case("GRANT billing_owner TO the_next_login;", "GRANT ROLE"),
        case(
            "SELECT usename, count(*) FROM pg_stat_activity WHERE datname = current_database() GROUP BY usename;",
            "usename",
        ),
        case("DROP ROLE the_old_login;", "DROP ROLE"),
        // processes
        case("billing-sync serve", "\"message\":\"stopped\""),
        case("billing-sync serve --roles api", "\"message\":\"stopped\""),
        case("billing-sync health", "ready: all migrations are applied"),
        case("billing-sync send FILE… --to URL", "200").holds("EXISTS (SELECT FROM billing.outbox WHERE event_id = 'evt_sent')"),
        case("billing-sync tail", "customer.created"),
        // what is seen
        case("billing-sync migrate", "nothing to do"),
        case("billing-sync doctor", "ok migrations all migrations are applied"),
        case("billing-sync doctor --orphans", "orphans"),
        case("billing-sync doctor --fix --endpoint-url URL", "STRIPE_WEBHOOK_SECRET"),
        case("billing-sync doctor --fix", "ok endpoints"),
        case("billing-sync status", "receiver"),
        case("billing-sync explain ID", "active since"),
        case("billing-sync explain sub_…", "active since"),
        case("billing-sync explain evt_…", "customer.created"),
        case("billing-sync explain 550e8400-e29b-41d4-a716-446655440000", "words"),
        case("billing-sync explain ID --svg", "<svg"),
        case("billing-sync explain 550e8400-e29b-41d4-a716-446655440000 --limit words", "used -10"),
        case(
            "SELECT * FROM billing.limit_statement WHERE workspace_id = '550e8400-e29b-41d4-a716-446655440000' \
             ORDER BY limit_key, stripe_subscription_id, period_start, place;",
            "words",
        ),
        case("SELECT kind, object_type, object_id, attempts, last_error FROM billing.jobs WHERE last_error IS NOT NULL", "price_of_no_product")
            .after(FAILING_JOB),
        case("SELECT object_id, last_error FROM billing.jobs WHERE kind = 'renewal'", "bigint out of range").after(SET_ASIDE),
        case("billing-sync renew --dry-run", "Nothing"),
        case("billing-sync renew", "Nothing was due").holds("NOT EXISTS (SELECT FROM billing.jobs WHERE kind = 'renewal')"),
        // events
        case("billing-sync outbox list", "evt_runbook").after(NO_JOBS),
        case("billing-sync outbox show evt_…", "customer.created"),
        case("billing-sync outbox show evt_… --payload", "\"customer\""),
        case("billing-sync outbox list --state pending", "evt_runbook").after(FAILED),
        case("billing-sync outbox list --state dead", "evt_runbook").after(DEAD),
        case("billing-sync outbox retry evt_…", "evt_runbook is due now").after(FAILED).holds(IS_PENDING),
        case("billing-sync outbox retry --error no_ada", "1 dead event is pending again").after(DEAD).holds(IS_PENDING),
        case("billing-sync outbox discard evt_… --reason TEXT", "evt_runbook is discarded").after(DEAD).holds(IS_DISCARDED),
        case("billing-sync outbox discard evt_… --reason \"a test of last week\"", "evt_runbook is discarded").after(DEAD).holds(IS_DISCARDED),
        case("billing-sync outbox prune --dry-run", "would be removed"),
        case("billing-sync outbox prune", "removed all before"),
        case("DROP TABLE billing.outbox_split", "DROP TABLE").after(SPLIT),
        // what Stripe has
        case("billing-sync rebuild", "0 rows"),
        case("billing-sync backfill", "0 rows changed"),
        case("billing-sync verify", "0 rows differ"),
        case("billing-sync verify --customer cus_… --fix", "0 rows"),
        case("billing-sync reconcile", "events compared"),
        // changes at Stripe, and the API
        case("billing-sync writes list", "customer.update").after(UNKNOWN),
        case("billing-sync writes list --state open", "customer.update").after(OPEN),
        case("billing-sync writes list --state refused", "customer.update").after(REFUSED),
        case("billing-sync writes resolve 00000000-0000-0000-0000-000000000001 --as done --reason req_8XkQ2nWq", "done")
            .after(UNKNOWN)
            .holds("EXISTS (SELECT FROM billing.api_writes WHERE state = 'done' AND resolved_by LIKE '%req_8XkQ2nWq%')"),
        case(
            "billing-sync writes resolve 00000000-0000-0000-0000-000000000001 --as refused --reason not-in-the-request-log",
            "refused",
        )
        .after(UNKNOWN)
        .holds("EXISTS (SELECT FROM billing.api_writes WHERE state = 'refused')"),
        case("billing-sync token create --scopes workspaces:admin --note first", "bs_…"),
        case("billing-sync token list", "first"),
        case("CREATE EXTENSION pg_trgm", "CREATE EXTENSION").after(NO_SEARCH),
        case("SELECT billing.create_workspaces_search();", "t")
            .holds("to_regclass('billing.workspaces_search') IS NOT NULL"),
        // sessions and locks
        case(
            "SELECT pid, pg_blocking_pids(pid) AS waits_for, usename, application_name, state, xact_start, left(query, 60) AS \
             query FROM pg_stat_activity WHERE pg_blocking_pids(pid) <> '{}' OR pid IN (SELECT unnest(pg_blocking_pids(pid)) \
             FROM pg_stat_activity) ORDER BY xact_start;",
            "idle in transaction",
        ),
        case("SELECT pg_terminate_backend(4711)", "t").holds("NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = 4711)"),
        // last, because they remove what the others need
        case("billing-sync redact cus_…", "without payload")
            .holds("NOT EXISTS (SELECT FROM billing.billing_contacts WHERE name IS NOT NULL AND stripe_customer_id IN (SELECT customer_id FROM billing.redacted_customers))"),
        case("pg_restore --exit-on-error --no-owner --dbname \"$DATABASE_URL\" backup.dump", "restored"),
    ]
}
