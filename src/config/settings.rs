//! The registry: every setting of billing-sync, once.
//!
//! From here come the flags and texts of `--help`, the listing of `doctor`, the table of the README, and the names
//! in every configuration error. Values are found by [`super::source`], checked by the struct of each concern.

/// What a setting is about: the heading it is listed under, and how a command says which settings it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    /// Where the database is.
    Database,
    /// The secrets that webhooks are signed with.
    Signing,
    /// The public listener.
    Receiver,
    /// The way out to Stripe.
    Stripe,
    /// The certificates that are trusted.
    Tls,
    /// Which events count, and what they mean.
    Sync,
    /// The processing of stored events.
    Worker,
    /// The comparison with Stripe's list of events.
    Reconcile,
    /// The listener for metrics and health.
    Ops,
    /// The private PostgreSQL.
    Embedded,
    /// The end of the process.
    Shutdown,
    /// Logs.
    Log,
}

impl Concern {
    /// All concerns, in the order in which they are listed.
    pub const ALL: &'static [Self] = &[
        Self::Database,
        Self::Signing,
        Self::Receiver,
        Self::Stripe,
        Self::Tls,
        Self::Sync,
        Self::Worker,
        Self::Reconcile,
        Self::Ops,
        Self::Embedded,
        Self::Shutdown,
        Self::Log,
    ];

    /// The heading in `--help`.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Database => "Database",
            Self::Signing | Self::Receiver => "Receiver",
            Self::Stripe => "Stripe's API",
            Self::Tls => "TLS",
            Self::Sync => "Sync",
            Self::Worker => "Worker",
            Self::Reconcile => "Reconcile",
            Self::Ops => "Metrics and health",
            Self::Embedded => "Embedded PostgreSQL",
            Self::Shutdown => "Shutdown",
            Self::Log => "Logs",
        }
    }

    /// The settings of this concern.
    pub fn settings(self) -> impl Iterator<Item = &'static Setting> {
        ALL.iter().copied().filter(move |setting| setting.concern == self)
    }
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable. With `_FILE` behind it, the variable that names a file with the value.
    pub name: &'static str,
    /// The flag without its dashes; secrets have none, because a process list shows arguments to everybody.
    pub flag: Option<&'static str>,
    /// What stands for the value in `--help`.
    pub placeholder: &'static str,
    /// The default as one would write it; empty where there is none.
    pub default: &'static str,
    /// Whether the value must never be shown.
    pub secret: bool,
    /// What it is about.
    pub concern: Concern,
    /// One line for the operator.
    pub help: &'static str,
}

impl Setting {
    /// The variable that names a file with the value, for mounted secrets.
    pub fn file_variable(&self) -> String {
        format!("{}_FILE", self.name)
    }

    const fn secret(name: &'static str, concern: Concern, help: &'static str) -> Self {
        Self { name, flag: None, placeholder: "", default: "", secret: true, concern, help }
    }

    const fn new(
        name: &'static str,
        flag: &'static str,
        (placeholder, default): (&'static str, &'static str),
        concern: Concern,
        help: &'static str,
    ) -> Self {
        Self { name, flag: Some(flag), placeholder, default, secret: false, concern, help }
    }
}

macro_rules! registry {
    ($($constant:ident = $setting:expr;)*) => {
        $(#[doc = concat!("`", stringify!($constant), "`, see its help text.")] pub static $constant: Setting = $setting;)*

        /// Every setting, in the order in which they are listed.
        pub static ALL: &[&Setting] = &[$(&$constant),*];
    };
}

registry! {
    DATABASE_URL = Setting::secret("DATABASE_URL", Concern::Database,
        "The database: postgres://user:password@host:port/name, or host=… pairs; what it leaves out comes from the PG* variables");
    WEBHOOK_SECRET = Setting::secret("STRIPE_WEBHOOK_SECRET", Concern::Signing,
        "Signing secret of the webhook endpoint (whsec_…); several, separated by commas or line breaks, during rotation");
    LISTEN = Setting::new("BILLING_SYNC_LISTEN", "listen", ("ADDRESS", "127.0.0.1:8080"),
        Concern::Receiver, "Address on which Stripe's webhooks are received");
    BODY_LIMIT = Setting::new("BILLING_SYNC_BODY_LIMIT", "body-limit", ("BYTES", "1048576"),
        Concern::Receiver, "A longer request body is answered 413");
    BODY_BUDGET = Setting::new("BILLING_SYNC_BODY_BUDGET", "body-budget", ("BYTES", "67108864"),
        Concern::Receiver, "Most bytes of all request bodies in flight; further ones wait up to two seconds, then 503");
    HEADER_TIMEOUT = Setting::new("BILLING_SYNC_HEADER_TIMEOUT", "header-timeout", ("DURATION", "10s"),
        Concern::Receiver, "Time for a request's head; an idle connection closes after it too");
    BODY_TIMEOUT = Setting::new("BILLING_SYNC_BODY_TIMEOUT", "body-timeout", ("DURATION", "10s"),
        Concern::Receiver, "Time for a whole request body, then 408");
    MAX_CONNECTIONS = Setting::new("BILLING_SYNC_MAX_CONNECTIONS", "max-connections", ("N", "512"),
        Concern::Receiver, "Most open connections; beyond it, the one without a verified delivery for longest is closed");
    CONNECTIONS_PER_ADDRESS = Setting::new("BILLING_SYNC_CONNECTIONS_PER_ADDRESS", "connections-per-address", ("N", "0"),
        Concern::Receiver, "Most open connections of one IP address (IPv6: /64 network); 0: no limit. Leave it at 0 behind a proxy");
    QUEUE_CAPACITY = Setting::new("BILLING_SYNC_QUEUE_CAPACITY", "queue-capacity", ("N", "1024"),
        Concern::Receiver, "Events that may wait to be stored, then 503");
    STORE_TIMEOUT = Setting::new("BILLING_SYNC_STORE_TIMEOUT", "store-timeout", ("DURATION", "5s"),
        Concern::Receiver, "Time for an event to be stored, then 503");
    STRIPE_SECRET_KEY = Setting::secret("STRIPE_SECRET_KEY", Concern::Stripe,
        "Secret or restricted key (sk_… or rk_…) to ask Stripe with; without one Stripe is never asked");
    STRIPE_API_BASE = Setting::new("STRIPE_API_BASE", "stripe-api-base", ("URL", "https://api.stripe.com"),
        Concern::Stripe, "Where Stripe's API is; v1/… is appended. http is for this machine only");
    STRIPE_RATE = Setting::new("BILLING_SYNC_STRIPE_RATE", "stripe-rate", ("N", ""),
        Concern::Stripe, "Requests to Stripe a second at most; else 80 with a live key, 20 with another");
    STRIPE_TIMEOUT = Setting::new("BILLING_SYNC_STRIPE_TIMEOUT", "stripe-timeout", ("DURATION", "20s"),
        Concern::Stripe, "Time for one request to Stripe and its answer");
    STRIPE_CONCURRENCY = Setting::new("BILLING_SYNC_STRIPE_CONCURRENCY", "stripe-concurrency", ("N", "8"),
        Concern::Stripe, "Requests to Stripe at a time");
    READ_MARGIN = Setting::new("BILLING_SYNC_READ_MARGIN", "read-margin", ("DURATION", "10s"),
        Concern::Stripe, "How stale Stripe's answers may be: newer events win over a read");
    HTTPS_PROXY = Setting::secret("HTTPS_PROXY", Concern::Stripe,
        "Proxy to Stripe's API: http://user:password@host:port, or https, socks5, socks5h; https_proxy too");
    ALL_PROXY = Setting::secret("ALL_PROXY", Concern::Stripe,
        "The same, where HTTPS_PROXY is not set; all_proxy too");
    NO_PROXY = Setting::new("NO_PROXY", "no-proxy", ("HOST,…", ""),
        Concern::Stripe, "Hosts that are reached directly: names with their subdomains, addresses, networks, each with or without a port; * for all");
    SSL_CERT_FILE = Setting::new("SSL_CERT_FILE", "ssl-cert-file", ("PATH", ""),
        Concern::Tls, "File with the root certificates (PEM) that are trusted instead of those built in and of this machine, for a private CA");
    SSL_CERT_DIR = Setting::new("SSL_CERT_DIR", "ssl-cert-dir", ("PATH", ""),
        Concern::Tls, "Directories with such files, separated by colons");
    LIVEMODE = Setting::new("BILLING_SYNC_LIVEMODE", "livemode", ("BOOL", ""),
        Concern::Sync, "Sync live events (true) or test events (false), the others are stored and ignored; else from the key's prefix, else test");
    ACCOUNTS = Setting::new("BILLING_SYNC_ACCOUNTS", "accounts", ("ACCT,…", ""),
        Concern::Sync, "Connected accounts whose events are synced beside our own, separated by commas");
    OWN_ACCOUNT = Setting::new("BILLING_SYNC_OWN_ACCOUNT", "own-account", ("ACCT", ""),
        Concern::Sync, "Id of our own account, which events of an organization's endpoint name; not needed with an API key that may read it");
    PAST_DUE_ACTIVE = Setting::new("BILLING_SYNC_PAST_DUE_ACTIVE", "past-due-active", ("BOOL", "true"),
        Concern::Sync, "Whether a subscription stays active while Stripe retries a failed payment");
    RENEWAL_ANCHOR = Setting::new("BILLING_SYNC_RENEWAL_ANCHOR", "renewal-anchor", ("ANCHOR", "subscription_start"),
        Concern::Sync, "What months are counted from: subscription_start, or billing_cycle (in step with the invoices)");
    CONFIRM = Setting::new("BILLING_SYNC_CONFIRM", "confirm", ("WHEN", "ambiguous"),
        Concern::Sync, "When a read of Stripe's API confirms the events: ambiguous (their order could not be told), always or never");
    WORKERS = Setting::new("BILLING_SYNC_WORKERS", "workers", ("N", "2"),
        Concern::Worker, "Workers in this process");
    BATCH_SIZE = Setting::new("BILLING_SYNC_BATCH_SIZE", "batch-size", ("N", "500"),
        Concern::Worker, "Events that a worker takes into one transaction at most");
    POLL_INTERVAL = Setting::new("BILLING_SYNC_POLL_INTERVAL", "poll-interval", ("DURATION", "5s"),
        Concern::Worker, "How often a worker looks for events that nothing woke it for");
    MAX_ATTEMPTS = Setting::new("BILLING_SYNC_MAX_ATTEMPTS", "max-attempts", ("N", "12"),
        Concern::Worker, "Failed tries after which an event is parked as dead");
    RETRY_INITIAL = Setting::new("BILLING_SYNC_RETRY_INITIAL", "retry-initial", ("DURATION", "5s"),
        Concern::Worker, "Wait after the first failed try; it doubles with each further one");
    RETRY_MAX = Setting::new("BILLING_SYNC_RETRY_MAX", "retry-max", ("DURATION", "1h"),
        Concern::Worker, "Longest wait between two tries");
    ATTEMPT_LEASE = Setting::new("BILLING_SYNC_ATTEMPT_LEASE", "attempt-lease", ("DURATION", "60s"),
        Concern::Worker, "Time after which a single try whose worker died may be taken by another");
    RECONCILE_INTERVAL = Setting::new("BILLING_SYNC_RECONCILE_INTERVAL", "reconcile-interval", ("DURATION", "5m"),
        Concern::Reconcile, "How often the stored events are compared with those that Stripe lists");
    VERIFY_SAMPLE = Setting::new("BILLING_SYNC_VERIFY_SAMPLE", "verify-sample", ("N", "20"),
        Concern::Reconcile, "Customers, chosen at random, whose rows are compared with Stripe every hour; 0: none");
    OPS_LISTEN = Setting::new("BILLING_SYNC_OPS_LISTEN", "ops-listen", ("ADDRESS", "127.0.0.1:9464"),
        Concern::Ops, "Address of /metrics, /livez and /readyz");
    DATA_DIR = Setting::new("BILLING_SYNC_DATA_DIR", "data-dir", ("PATH", "./.billing-sync"),
        Concern::Embedded, "Where the embedded PostgreSQL keeps its data");
    PG_BIN = Setting::new("BILLING_SYNC_PG_BIN", "pg-bin", ("PATH", ""),
        Concern::Embedded, "Folder with PostgreSQL's server programs; else they are searched for");
    SHUTDOWN_TIMEOUT = Setting::new("BILLING_SYNC_SHUTDOWN_TIMEOUT", "shutdown-timeout", ("DURATION", "25s"),
        Concern::Shutdown, "Time from SIGTERM to the end, the drain delay included; work in progress finishes in it");
    DRAIN_DELAY = Setting::new("BILLING_SYNC_DRAIN_DELAY", "drain-delay", ("DURATION", "0s"),
        Concern::Shutdown, "Time after SIGTERM in which /readyz says not ready and requests are still answered");
    LOG = Setting::new("BILLING_SYNC_LOG", "log", ("FILTER", "info"),
        Concern::Log, "What is logged: error, warn, info, debug, or a list such as info,billing_sync=debug");
    LOG_FORMAT = Setting::new("BILLING_SYNC_LOG_FORMAT", "log-format", ("FORMAT", "auto"),
        Concern::Log, "pretty, json, or auto: pretty on a terminal, else json");
}

/// The table of all settings, in Markdown, as the README shows it.
pub fn markdown_table() -> String {
    let head = "| variable | flag | default | what it does |\n| --- | --- | --- | --- |\n".to_owned();
    head + &ALL.iter().map(|setting| markdown_row(setting)).collect::<String>()
}

fn markdown_row(setting: &Setting) -> String {
    let flag = setting.flag.map_or_else(|| "– (secret)".to_owned(), |flag| format!("`--{flag}`"));
    let default = if setting.default.is_empty() { "–".to_owned() } else { format!("`{}`", setting.default) };
    format!("| `{}` | {flag} | {default} | {} |\n", setting.name, setting.help)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_flag_is_the_variable_in_small_letters() {
        for setting in ALL.iter().filter(|setting| !setting.secret) {
            // what names Stripe in the first place does so in its flag too
            let derived = setting.name.trim_start_matches("BILLING_SYNC_").to_lowercase().replace('_', "-");
            assert_eq!(setting.flag, Some(derived.as_str()));
        }
    }

    #[test]
    fn a_secret_has_neither_flag_nor_default() {
        for setting in ALL.iter().filter(|setting| setting.secret) {
            assert_eq!((setting.flag, setting.default), (None, ""), "{}", setting.name);
        }
    }

    #[test]
    fn no_name_stands_twice() {
        let names: BTreeSet<_> = ALL.iter().map(|setting| setting.name).collect();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn every_setting_belongs_to_a_listed_concern() {
        let listed: usize = Concern::ALL.iter().map(|concern| concern.settings().count()).sum();
        assert_eq!(listed, ALL.len());
    }

    #[test]
    fn the_readme_has_the_table_of_this_release() {
        let readme = include_str!("../../README.md");
        let (_, rest) = readme.split_once("<!-- settings:begin -->").expect("README.md has no settings:begin marker");
        let (table, _) = rest.split_once("<!-- settings:end -->").expect("README.md has no settings:end marker");
        let current = markdown_table();
        assert_eq!(table.trim(), current.trim(), "put this between the markers of README.md:\n\n{current}");
    }
}
