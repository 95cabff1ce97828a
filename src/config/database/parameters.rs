//! Every connection parameter that platforms provide, and how it is handled. PURE.
//!
//! Contains the names of libpq, of drivers with other names, and of tools that add theirs to the same URL.
//! [`super::options`] reads the parameters that are used; all others are ignored or refused here.

/// How a parameter is handled.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// The parameter is used.
    Used,
    /// The parameter is another name of this one.
    Alias(&'static str),
    /// These values request the default behaviour; others are refused, with this fix.
    Only(&'static [&'static str], &'static str),
    /// The parameter is meant for another program and has no effect here.
    NoEffect,
    /// The parameter is not supported; contains the fix.
    Refused(&'static str),
}

/// One parameter.
#[derive(Debug)]
pub(super) struct KnownParameter {
    pub(super) name: &'static str,
    /// The environment variable that applies if the connection string does not contain the parameter.
    pub(super) variable: Option<&'static str>,
    pub(super) rule: Rule,
}

const fn of(name: &'static str, variable: &'static str, rule: Rule) -> KnownParameter {
    KnownParameter { name, variable: Some(variable), rule }
}

const fn only(name: &'static str, rule: Rule) -> KnownParameter {
    KnownParameter { name, variable: None, rule }
}

const AS_OPTION: Rule =
    Rule::Refused("omit it, or set it as an option of the server: options=-c%20name%3Dvalue in a URL");

/// All known parameters.
pub(super) static ALL: &[KnownParameter] = &[
    of("host", "PGHOST", Rule::Used),
    of("hostaddr", "PGHOSTADDR", Rule::Used),
    of("port", "PGPORT", Rule::Used),
    of("dbname", "PGDATABASE", Rule::Used),
    of("user", "PGUSER", Rule::Used),
    of("password", "PGPASSWORD", Rule::Used),
    of("passfile", "PGPASSFILE", Rule::Used),
    of("application_name", "PGAPPNAME", Rule::Used),
    of("options", "PGOPTIONS", Rule::Used),
    of("connect_timeout", "PGCONNECT_TIMEOUT", Rule::Used),
    of("target_session_attrs", "PGTARGETSESSIONATTRS", Rule::Used),
    of("sslmode", "PGSSLMODE", Rule::Used),
    of("sslrootcert", "PGSSLROOTCERT", Rule::Used),
    of("sslcert", "PGSSLCERT", Rule::Used),
    of("sslkey", "PGSSLKEY", Rule::Used),
    // node-postgres and JDBC; Prisma
    only("ssl", Rule::Used),
    only("sslaccept", Rule::Used),
    only("database", Rule::Alias("dbname")),
    only("username", Rule::Alias("user")),
    only("fallback_application_name", Rule::Alias("application_name")),
    only("ApplicationName", Rule::Alias("application_name")),
    only("ssl-mode", Rule::Alias("sslmode")),
    only("ssl-root-cert", Rule::Alias("sslrootcert")),
    only("ssl-ca", Rule::Alias("sslrootcert")),
    only("ssl-cert", Rule::Alias("sslcert")),
    only("ssl-key", Rule::Alias("sslkey")),
    of(
        "channel_binding",
        "PGCHANNELBINDING",
        Rule::Only(
            &["disable", "prefer"],
            "channel binding is not supported: omit it, and set sslmode=verify-full, which also checks the server",
        ),
    ),
    of(
        "gssencmode",
        "PGGSSENCMODE",
        Rule::Only(&["disable", "prefer"], "GSSAPI is not supported: omit it, and encrypt with sslmode=verify-full"),
    ),
    of(
        "sslnegotiation",
        "PGSSLNEGOTIATION",
        Rule::Only(&["postgres"], "direct TLS negotiation is not supported: omit it"),
    ),
    of(
        "client_encoding",
        "PGCLIENTENCODING",
        Rule::Only(&["utf8", "utf-8", "unicode", "auto"], "sessions use UTF-8: omit it"),
    ),
    of("sslsni", "PGSSLSNI", Rule::Only(&["1"], "the host name is always sent: omit it")),
    of("sslcompression", "PGSSLCOMPRESSION", Rule::Only(&["0"], "compression is not supported: omit it")),
    of("sslcertmode", "PGSSLCERTMODE", Rule::Only(&["allow"], "set a certificate with sslcert and sslkey, or none")),
    of(
        "ssl_min_protocol_version",
        "PGSSLMINPROTOCOLVERSION",
        Rule::Only(
            &["tlsv1", "tlsv1.1", "tlsv1.2"],
            "TLS 1.2 and 1.3 are used: omit it, and set the version on the server",
        ),
    ),
    of(
        "ssl_max_protocol_version",
        "PGSSLMAXPROTOCOLVERSION",
        Rule::Only(&["tlsv1.3"], "TLS 1.2 and 1.3 are used: omit it, and set the version on the server"),
    ),
    of("load_balance_hosts", "PGLOADBALANCEHOSTS", Rule::Only(&["disable"], "the hosts are tried in order: omit it")),
    only("replication", Rule::Only(&["false", "off", "no", "0"], "replication sessions cannot run queries: omit it")),
    of("service", "PGSERVICE", Rule::Refused("service files are not read: set host, dbname and user directly")),
    of(
        "requirepeer",
        "PGREQUIREPEER",
        Rule::Refused("the server's user is not checked: omit it, and protect the socket's directory"),
    ),
    of(
        "require_auth",
        "PGREQUIREAUTH",
        Rule::Refused("the server chooses the method: omit it, and set sslmode=verify-full"),
    ),
    of("sslcrl", "PGSSLCRL", Rule::Refused("certificate revocation lists are not read: omit it")),
    of("sslcrldir", "PGSSLCRLDIR", Rule::Refused("certificate revocation lists are not read: omit it")),
    only("sslpassword", Rule::Refused("encrypted keys are not supported: decrypt the key file, and omit it")),
    only("sslidentity", Rule::Refused("PKCS 12 files are not supported: set PEM files with sslcert and sslkey")),
    only("search_path", AS_OPTION),
    only("statement_timeout", AS_OPTION),
    only("lock_timeout", AS_OPTION),
    only("idle_in_transaction_session_timeout", AS_OPTION),
    only("timezone", AS_OPTION),
    only("default_transaction_isolation", AS_OPTION),
    only("default_transaction_read_only", AS_OPTION),
    only("keepalives", Rule::NoEffect),
    only("keepalives_idle", Rule::NoEffect),
    only("keepalives_interval", Rule::NoEffect),
    only("keepalives_count", Rule::NoEffect),
    only("tcp_user_timeout", Rule::NoEffect),
    only("krbsrvname", Rule::NoEffect),
    only("gsslib", Rule::NoEffect),
    only("gssdelegation", Rule::NoEffect),
    only("min_protocol_version", Rule::NoEffect),
    only("max_protocol_version", Rule::NoEffect),
    // parameters of connection pools, object mappers and platforms
    only("pgbouncer", Rule::NoEffect),
    only("schema", Rule::NoEffect),
    only("currentSchema", Rule::NoEffect),
    only("connection_limit", Rule::NoEffect),
    only("pool_timeout", Rule::NoEffect),
    only("pool_size", Rule::NoEffect),
    only("pool_mode", Rule::NoEffect),
    only("pool_max_conns", Rule::NoEffect),
    only("pool_min_conns", Rule::NoEffect),
    only("pool_max_conn_lifetime", Rule::NoEffect),
    only("pool_max_conn_idle_time", Rule::NoEffect),
    only("pool_health_check_period", Rule::NoEffect),
    only("socket_timeout", Rule::NoEffect),
    only("max_idle_connection_lifetime", Rule::NoEffect),
    only("statement_cache_size", Rule::NoEffect),
    only("statement_cache_capacity", Rule::NoEffect),
    only("statement-cache-capacity", Rule::NoEffect),
    only("default_query_exec_mode", Rule::NoEffect),
    only("prepareThreshold", Rule::NoEffect),
    only("uselibpqcompat", Rule::NoEffect),
    only("supa", Rule::NoEffect),
    only("workaround", Rule::NoEffect),
];

/// The parameter with this name.
pub(super) fn find(name: &str) -> Option<&'static KnownParameter> {
    ALL.iter().find(|known| known.name == name)
}

/// The parameter with the most similar name, if this one may be a typing error.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let near = ALL.iter().map(|known| (super::super::unknown::distance(name, known.name), known.name)).min()?;
    (near.0 <= 2).then_some(near.1)
}
