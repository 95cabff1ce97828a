//! The registry: every setting of billing-sync, declared once.
//!
//! It is the source of the flags and texts of `--help`, the list of `doctor`, the table of settings in the
//! documentation, and the names in configuration errors. [`super::source`] finds the values; the struct of each group
//! checks them.

/// A group of settings: the heading in `--help`. Each command names the groups that it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SettingGroup {
    /// The connection to the database.
    Database,
    /// The signing secrets of webhooks.
    Signing,
    /// The public listener.
    Receiver,
    /// The workspace API.
    Api,
    /// Requests to Stripe's API.
    Stripe,
    /// Trusted certificates.
    Tls,
    /// Which events are synced, and how they are interpreted.
    Sync,
    /// The processing of stored events.
    Worker,
    /// The comparison with Stripe's event list.
    Reconcile,
    /// How long data is kept.
    Retention,
    /// The listener for metrics and health.
    Ops,
    /// The private PostgreSQL.
    Embedded,
    /// The shutdown of the process.
    Shutdown,
    /// Logs.
    Log,
}

impl SettingGroup {
    /// All groups, in the order in which they are listed.
    pub const ALL: &'static [Self] = &[
        Self::Database,
        Self::Signing,
        Self::Receiver,
        Self::Api,
        Self::Stripe,
        Self::Tls,
        Self::Sync,
        Self::Worker,
        Self::Reconcile,
        Self::Retention,
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
            Self::Api => "Workspace API",
            Self::Stripe => "Stripe's API",
            Self::Tls => "TLS",
            Self::Sync => "Sync",
            Self::Worker => "Worker",
            Self::Reconcile => "Reconcile",
            Self::Retention => "Retention",
            Self::Ops => "Metrics and health",
            Self::Embedded => "Embedded PostgreSQL",
            Self::Shutdown => "Shutdown",
            Self::Log => "Logs",
        }
    }

    /// The settings of this group.
    pub fn settings(self) -> impl Iterator<Item = &'static Setting> {
        ALL.iter().copied().filter(move |setting| setting.group == self)
    }
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable. With the suffix `_FILE`, the variable that names a file with the value.
    pub name: &'static str,
    /// The flag without its dashes. Secrets have none, because every user can see arguments in the process list.
    pub flag: Option<&'static str>,
    /// The placeholder of the value in `--help`.
    pub placeholder: &'static str,
    /// The default as text; empty if there is none.
    pub default: &'static str,
    /// Whether the value must never be shown.
    pub secret: bool,
    /// The group of the setting.
    pub group: SettingGroup,
    /// The description for the operator: quantity, unit and effect.
    pub help: &'static str,
}

impl Setting {
    /// The variable that names a file with the value, for mounted secrets.
    pub fn file_variable(&self) -> String {
        format!("{}_FILE", self.name)
    }

    const fn secret(name: &'static str, group: SettingGroup, help: &'static str) -> Self {
        Self { name, flag: None, placeholder: "", default: "", secret: true, group, help }
    }

    const fn new(
        name: &'static str,
        flag: &'static str,
        (placeholder, default): (&'static str, &'static str),
        group: SettingGroup,
        help: &'static str,
    ) -> Self {
        Self { name, flag: Some(flag), placeholder, default, secret: false, group, help }
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
    DATABASE_URL = Setting::secret("DATABASE_URL", SettingGroup::Database,
        "Connection string of the database: postgres://user:password@host:port/name, or host=… pairs; omitted parts \
         come from the PG* variables");
    POOLER = Setting::new("BILLING_SYNC_POOLER", "pooler", ("MODE", "session"), SettingGroup::Database,
        "Mode of the connection pooler in front of the database: session (also without a pooler), or transaction");
    WEBHOOK_SECRET = Setting::secret("STRIPE_WEBHOOK_SECRET", SettingGroup::Signing,
        "Signing secret of the webhook endpoint (whsec_…); while it is rolled, several, separated by commas or line \
         breaks");
    LISTEN = Setting::new("BILLING_SYNC_LISTEN", "listen", ("ADDRESS", "127.0.0.1:8080"),
        SettingGroup::Receiver, "Address (IP address and port) on which webhooks are received");
    BODY_LIMIT = Setting::new("BILLING_SYNC_BODY_LIMIT", "body-limit", ("BYTES", "1048576"),
        SettingGroup::Receiver, "Maximum size of a request body in bytes; larger requests get 413");
    BODY_BUDGET = Setting::new("BILLING_SYNC_BODY_BUDGET", "body-budget", ("BYTES", "67108864"),
        SettingGroup::Receiver,
        "Maximum size of all request bodies in flight, in bytes; further requests wait up to 2 seconds, then get 503");
    HEADER_TIMEOUT = Setting::new("BILLING_SYNC_HEADER_TIMEOUT", "header-timeout", ("DURATION", "10s"),
        SettingGroup::Receiver, "Maximum time to receive a request's head; idle connections close after it, too");
    BODY_TIMEOUT = Setting::new("BILLING_SYNC_BODY_TIMEOUT", "body-timeout", ("DURATION", "10s"),
        SettingGroup::Receiver, "Maximum time to receive a request body; slower requests get 408");
    MAX_CONNECTIONS = Setting::new("BILLING_SYNC_MAX_CONNECTIONS", "max-connections", ("N", "512"),
        SettingGroup::Receiver,
        "Maximum number of open connections; beyond it, the one that is longest without a verified delivery is closed");
    CONNECTIONS_PER_ADDRESS = Setting::new("BILLING_SYNC_CONNECTIONS_PER_ADDRESS", "connections-per-address", ("N", "0"),
        SettingGroup::Receiver,
        "Maximum number of open connections from one IP address (IPv6: /64 network); further ones are rejected. 0 \
         means no limit; keep it at 0 behind a proxy");
    QUEUE_CAPACITY = Setting::new("BILLING_SYNC_QUEUE_CAPACITY", "queue-capacity", ("N", "1024"),
        SettingGroup::Receiver, "Maximum number of events waiting to be stored; further requests get 503");
    STORE_TIMEOUT = Setting::new("BILLING_SYNC_STORE_TIMEOUT", "store-timeout", ("DURATION", "5s"),
        SettingGroup::Receiver, "Maximum time to store an event; after it, the request gets 503");
    API_LISTEN = Setting::new("BILLING_SYNC_API_LISTEN", "api-listen", ("ADDRESS", "127.0.0.1:8081"),
        SettingGroup::Api, "Address (IP address and port) of the workspace API");
    API_WORKSPACES = Setting::new("BILLING_SYNC_API_WORKSPACES", "api-workspaces", ("PATH", "/api/workspace-service"),
        SettingGroup::Api, "Path prefix of the workspace API, to which v1/… is appended; / means no prefix");
    API_CHECKOUT_LINKS = Setting::new("BILLING_SYNC_API_CHECKOUT_LINKS", "api-checkout-links", ("PATH", ""),
        SettingGroup::Api,
        "Path prefix of checkout links, to which checkout-links is appended; / means no prefix. By default, checkout \
         links are not served");
    API_JWT_ISSUER = Setting::new("BILLING_SYNC_API_JWT_ISSUER", "api-jwt-issuer", ("ISSUER", ""),
        SettingGroup::Api,
        "Issuer of the identity provider's tokens, exactly as in their claim iss; without issuer, audience and keys, \
         only billing-sync's own tokens are accepted");
    API_JWT_AUDIENCE = Setting::new("BILLING_SYNC_API_JWT_AUDIENCE", "api-jwt-audience", ("AUDIENCE,…", ""),
        SettingGroup::Api,
        "Audiences of this API, separated by commas; the claim aud of an identity provider's token must contain one \
         of them");
    API_JWT_KEYS = Setting::new("BILLING_SYNC_API_JWT_KEYS", "api-jwt-keys", ("URL", ""),
        SettingGroup::Api,
        "Key set (JWKS) of the identity provider: its https URL (jwks_uri in the discovery document) or the path of a \
         file; http is allowed for this machine only");
    API_JWT_LEEWAY = Setting::new("BILLING_SYNC_API_JWT_LEEWAY", "api-jwt-leeway", ("DURATION", "30s"),
        SettingGroup::Api,
        "Tolerated difference between the clocks of the identity provider and this machine (claims exp and nbf)");
    API_JWT_USER_CLAIM = Setting::new("BILLING_SYNC_API_JWT_USER_CLAIM", "api-jwt-user-claim", ("CLAIM", "sub"),
        SettingGroup::Api, "Name of the claim that contains the user's id (a UUID)");
    API_JWT_ROLES_CLAIM = Setting::new("BILLING_SYNC_API_JWT_ROLES_CLAIM", "api-jwt-roles-claim", ("CLAIM", "roles"),
        SettingGroup::Api, "Name of the claim that contains the user's roles");
    API_JWT_LEGACY_CUSTOMER_CLAIM = Setting::new("BILLING_SYNC_API_JWT_LEGACY_CUSTOMER_CLAIM",
        "api-jwt-legacy-customer-claim", ("CLAIM", "legacy_customer_id"),
        SettingGroup::Api,
        "Name of the claim that contains the user's legacy customer id (a whole number); it is stored with the \
         workspaces that the user creates");
    API_JWT_EMAIL_CLAIM = Setting::new("BILLING_SYNC_API_JWT_EMAIL_CLAIM", "api-jwt-email-claim", ("CLAIM", "email"),
        SettingGroup::Api, "Name of the claim that contains the user's e-mail address, for the customer of a new workspace");
    API_JWT_NAME_CLAIM = Setting::new("BILLING_SYNC_API_JWT_NAME_CLAIM", "api-jwt-name-claim", ("CLAIM", "name"),
        SettingGroup::Api, "Name of the claim that contains the user's name, for the customer of a new workspace");
    API_JWT_LOCALE_CLAIM = Setting::new("BILLING_SYNC_API_JWT_LOCALE_CLAIM", "api-jwt-locale-claim", ("CLAIM", "locale"),
        SettingGroup::Api, "Name of the claim that contains the user's language, for checkout sessions");
    API_ADMIN_ROLES = Setting::new("BILLING_SYNC_API_ADMIN_ROLES", "api-admin-roles", ("ROLE,…", "workspaces:admin"),
        SettingGroup::Api,
        "Values of the roles claim that give the scopes workspaces:admin (all workspaces) and checkout-link:write, separated by commas");
    API_CORS_ORIGINS = Setting::new("BILLING_SYNC_API_CORS_ORIGINS", "api-cors-origins", ("ORIGIN,…", ""),
        SettingGroup::Api,
        "Origins (scheme://host or scheme://host:port) whose web pages may call the API, separated by commas; by \
         default, none may");
    API_RATE = Setting::new("BILLING_SYNC_API_RATE", "api-rate", ("N", "100"),
        SettingGroup::Api,
        "Maximum number of requests per second of one principal (user or service); further ones get 429");
    API_CONNECTIONS = Setting::new("BILLING_SYNC_API_CONNECTIONS", "api-connections", ("N", "8"),
        SettingGroup::Api, "Maximum number of database connections of the API, half of them for writes; further requests wait for one");
    API_MAX_OWNED = Setting::new("BILLING_SYNC_API_MAX_OWNED", "api-max-owned", ("N", "1000"),
        SettingGroup::Api, "Maximum number of workspaces that one user owns; beyond it, POST /v1/workspaces gets 409");
    API_KEY_PREFIX = Setting::new("BILLING_SYNC_API_KEY_PREFIX", "api-key-prefix", ("TEXT", "WS"),
        SettingGroup::Api,
        "Prefix of the keys of new workspaces: 1 to 8 characters, A to Z and 0 to 9; existing keys do not change");
    API_LIVE_SUBSCRIPTION = Setting::new("BILLING_SYNC_API_LIVE_SUBSCRIPTION", "api-live-subscription",
        ("replace|refuse", "replace"), SettingGroup::Api,
        "What a new checkout session does if the workspace has a subscription. replace: the completed checkout cancels \
         that subscription, with proration; refuse: the request gets 409");
    STRIPE_SECRET_KEY = Setting::secret("STRIPE_SECRET_KEY", SettingGroup::Stripe,
        "Secret or restricted API key (sk_… or rk_…) for requests to Stripe; without a key, Stripe's API is not used");
    STRIPE_WRITE_KEY = Setting::secret("STRIPE_WRITE_KEY", SettingGroup::Stripe,
        "API key (rk_… or sk_…) with which the workspace API changes customers and creates checkout sessions and payment \
         links; without it, these requests get 501");
    STRIPE_API_BASE = Setting::new("STRIPE_API_BASE", "stripe-api-base", ("URL", "https://api.stripe.com"),
        SettingGroup::Stripe, "Base URL of Stripe's API; v1/… is appended. http is allowed for this machine only");
    STRIPE_RATE = Setting::new("BILLING_SYNC_STRIPE_RATE", "stripe-rate", ("N", ""),
        SettingGroup::Stripe,
        "Maximum number of requests to Stripe per second; default 80 with a live key, 20 with any other");
    STRIPE_TIMEOUT = Setting::new("BILLING_SYNC_STRIPE_TIMEOUT", "stripe-timeout", ("DURATION", "20s"),
        SettingGroup::Stripe, "Timeout of one request to Stripe, including its answer");
    STRIPE_CONCURRENCY = Setting::new("BILLING_SYNC_STRIPE_CONCURRENCY", "stripe-concurrency", ("N", "8"),
        SettingGroup::Stripe, "Maximum number of simultaneous requests to Stripe");
    READ_MARGIN = Setting::new("BILLING_SYNC_READ_MARGIN", "read-margin", ("DURATION", "10s"),
        SettingGroup::Stripe,
        "Staleness margin: a read of Stripe's API counts as this much older than its request, so newer events win over \
         it");
    HTTPS_PROXY = Setting::secret("HTTPS_PROXY", SettingGroup::Stripe,
        "Proxy for Stripe's API and for the identity provider's key set: http://user:password@host:port, or https, \
         socks5, socks5h; https_proxy is read, too");
    ALL_PROXY = Setting::secret("ALL_PROXY", SettingGroup::Stripe,
        "Proxy for both if HTTPS_PROXY is not set; all_proxy is read, too");
    NO_PROXY = Setting::new("NO_PROXY", "no-proxy", ("HOST,…", ""),
        SettingGroup::Stripe,
        "Hosts that are reached without a proxy, separated by commas: names (with their subdomains), addresses or \
         networks, each with or without a port; * means all");
    SSL_CERT_FILE = Setting::new("SSL_CERT_FILE", "ssl-cert-file", ("PATH", ""),
        SettingGroup::Tls,
        "PEM file with trusted root certificates, for a private CA; replaces the built-in certificates and those of \
         this machine");
    SSL_CERT_DIR = Setting::new("SSL_CERT_DIR", "ssl-cert-dir", ("PATH", ""),
        SettingGroup::Tls,
        "Directories of PEM files with trusted root certificates, separated by colons; replaces the built-in \
         certificates and those of this machine");
    LIVEMODE = Setting::new("BILLING_SYNC_LIVEMODE", "livemode", ("BOOL", ""),
        SettingGroup::Sync,
        "Whether live events (true) or test events (false) are synced; events of the other mode are stored and \
         ignored. Default: the mode of the API key, or false without a key");
    ACCOUNTS = Setting::new("BILLING_SYNC_ACCOUNTS", "accounts", ("ACCT,…", ""),
        SettingGroup::Sync, "Ids of connected accounts that are synced in addition to your own, separated by commas");
    OWN_ACCOUNT = Setting::new("BILLING_SYNC_OWN_ACCOUNT", "own-account", ("ACCT", ""),
        SettingGroup::Sync,
        "Id of your own account; needed if an organization's endpoint delivers its events and no API key can read the \
         id");
    PAST_DUE_ACTIVE = Setting::new("BILLING_SYNC_PAST_DUE_ACTIVE", "past-due-active", ("BOOL", "true"),
        SettingGroup::Sync,
        "Whether a subscription stays active while Stripe retries a failed payment (status past_due)");
    RENEWAL_ANCHOR = Setting::new("BILLING_SYNC_RENEWAL_ANCHOR", "renewal-anchor", ("ANCHOR", "subscription_start"),
        SettingGroup::Sync,
        "Date from which limit periods are counted: subscription_start, or billing_cycle (in step with the invoices)");
    CONFIRM = Setting::new("BILLING_SYNC_CONFIRM", "confirm", ("WHEN", "ambiguous"),
        SettingGroup::Sync,
        "When a read of Stripe's API confirms events: ambiguous (if their order is ambiguous), always, or never");
    WORKERS = Setting::new("BILLING_SYNC_WORKERS", "workers", ("N", "2"),
        SettingGroup::Worker, "Number of workers in this process");
    BATCH_SIZE = Setting::new("BILLING_SYNC_BATCH_SIZE", "batch-size", ("N", "500"),
        SettingGroup::Worker, "Maximum number of events that a worker processes in one transaction");
    POLL_INTERVAL = Setting::new("BILLING_SYNC_POLL_INTERVAL", "poll-interval", ("DURATION", "5s"),
        SettingGroup::Worker, "Interval at which a worker checks for due events without being notified");
    MAX_ATTEMPTS = Setting::new("BILLING_SYNC_MAX_ATTEMPTS", "max-attempts", ("N", "12"),
        SettingGroup::Worker, "Number of failed attempts after which an event is dead and no longer retried");
    RETRY_INITIAL = Setting::new("BILLING_SYNC_RETRY_INITIAL", "retry-initial", ("DURATION", "5s"),
        SettingGroup::Worker, "Wait after the first failed attempt; it doubles with each further one");
    RETRY_MAX = Setting::new("BILLING_SYNC_RETRY_MAX", "retry-max", ("DURATION", "1h"),
        SettingGroup::Worker, "Maximum wait between two attempts");
    ATTEMPT_LEASE = Setting::new("BILLING_SYNC_ATTEMPT_LEASE", "attempt-lease", ("DURATION", "60s"),
        SettingGroup::Worker,
        "Time after which another worker takes over an isolated event whose worker has died");
    RECONCILE_INTERVAL = Setting::new("BILLING_SYNC_RECONCILE_INTERVAL", "reconcile-interval", ("DURATION", "5m"),
        SettingGroup::Reconcile,
        "Interval at which the stored events are compared with Stripe's event list, to load missed events");
    VERIFY_SAMPLE = Setting::new("BILLING_SYNC_VERIFY_SAMPLE", "verify-sample", ("N", "20"),
        SettingGroup::Reconcile,
        "Number of customers, chosen at random, whose rows are compared with Stripe every hour; 0 turns this off");
    RETENTION = Setting::new("BILLING_SYNC_RETENTION", "retention", ("DURATION", "90d"),
        SettingGroup::Retention,
        "Age from which stored events and the histories of rows and reads are removed, in whole months; at least 35d");
    REDACT_AFTER = Setting::new("BILLING_SYNC_REDACT_AFTER", "redact-after", ("DURATION", ""),
        SettingGroup::Retention,
        "Time after the processing of an event when personal data is removed from it and from the history of rows; at least 35d; else it stays until the retention ends");
    OPS_LISTEN = Setting::new("BILLING_SYNC_OPS_LISTEN", "ops-listen", ("ADDRESS", "127.0.0.1:9464"),
        SettingGroup::Ops, "Address (IP address and port) of /metrics, /livez and /readyz");
    DATA_DIR = Setting::new("BILLING_SYNC_DATA_DIR", "data-dir", ("PATH", "./.billing-sync"),
        SettingGroup::Embedded, "Directory in which the embedded PostgreSQL stores its data");
    PG_BIN = Setting::new("BILLING_SYNC_PG_BIN", "pg-bin", ("PATH", ""),
        SettingGroup::Embedded,
        "Directory of PostgreSQL's server programs; by default, PATH and the usual places are searched");
    SHUTDOWN_TIMEOUT = Setting::new("BILLING_SYNC_SHUTDOWN_TIMEOUT", "shutdown-timeout", ("DURATION", "25s"),
        SettingGroup::Shutdown,
        "Maximum time from SIGTERM to exit, including the drain delay; work in progress finishes within it");
    DRAIN_DELAY = Setting::new("BILLING_SYNC_DRAIN_DELAY", "drain-delay", ("DURATION", "0s"),
        SettingGroup::Shutdown,
        "Time after SIGTERM during which /readyz reports not ready while requests are still answered");
    LOG = Setting::new("BILLING_SYNC_LOG", "log", ("FILTER", "info"),
        SettingGroup::Log, "Log filter: error, warn, info, debug, or a list such as info,billing_sync=debug");
    LOG_FORMAT = Setting::new("BILLING_SYNC_LOG_FORMAT", "log-format", ("FORMAT", "auto"),
        SettingGroup::Log, "Log format: pretty, json, or auto (pretty on a terminal, otherwise json)");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_flag_is_the_lower_case_variable() {
        for setting in ALL.iter().filter(|setting| !setting.secret) {
            // a variable that begins with STRIPE_ keeps it in its flag
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
    fn names_are_unique() {
        let names: BTreeSet<_> = ALL.iter().map(|setting| setting.name).collect();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn every_setting_belongs_to_a_listed_group() {
        let listed: usize = SettingGroup::ALL.iter().map(|group| group.settings().count()).sum();
        assert_eq!(listed, ALL.len());
    }
}
