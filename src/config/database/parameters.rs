//! Every connection parameter that platforms hand out, and what becomes of it. PURE.
//!
//! The names of libpq, of drivers that have names of their own, and of tools that put theirs into the same URL. What is
//! used is read by [`super::options`]; everything else works without being looked at, or is refused here.

/// What becomes of a parameter.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// It is read.
    Used,
    /// Another name of one that is read.
    Alias(&'static str),
    /// These values ask for what is done anyway; others are refused, with this fix.
    Only(&'static [&'static str], &'static str),
    /// It is meant for another program, and has no effect here.
    NoEffect,
    /// It asks for what is not supported; the fix.
    Refused(&'static str),
}

/// One parameter.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) name: &'static str,
    /// The environment variable that stands for it where the connection string does not name it.
    pub(super) variable: Option<&'static str>,
    pub(super) rule: Rule,
}

const fn of(name: &'static str, variable: &'static str, rule: Rule) -> Known {
    Known { name, variable: Some(variable), rule }
}

const fn only(name: &'static str, rule: Rule) -> Known {
    Known { name, variable: None, rule }
}

const AS_OPTION: Rule =
    Rule::Refused("leave it out, or write it as the server's option: options=-c%20name%3Dvalue in a URL");

/// All of them.
pub(super) static ALL: &[Known] = &[
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
            "channel binding is not supported: leave it out, and set sslmode=verify-full, which checks the server too",
        ),
    ),
    of(
        "gssencmode",
        "PGGSSENCMODE",
        Rule::Only(
            &["disable", "prefer"],
            "GSSAPI is not supported: leave it out, and encrypt with sslmode=verify-full",
        ),
    ),
    of(
        "sslnegotiation",
        "PGSSLNEGOTIATION",
        Rule::Only(&["postgres"], "TLS without a request before it is not supported: leave it out"),
    ),
    of(
        "client_encoding",
        "PGCLIENTENCODING",
        Rule::Only(&["utf8", "utf-8", "unicode", "auto"], "sessions are in UTF-8: leave it out"),
    ),
    of("sslsni", "PGSSLSNI", Rule::Only(&["1"], "the host name is always sent: leave it out")),
    of("sslcompression", "PGSSLCOMPRESSION", Rule::Only(&["0"], "compression is not supported: leave it out")),
    of("sslcertmode", "PGSSLCERTMODE", Rule::Only(&["allow"], "name a certificate by sslcert and sslkey, or none")),
    of(
        "ssl_min_protocol_version",
        "PGSSLMINPROTOCOLVERSION",
        Rule::Only(
            &["tlsv1", "tlsv1.1", "tlsv1.2"],
            "TLS 1.2 and 1.3 are used: leave it out, and set it at the server",
        ),
    ),
    of(
        "ssl_max_protocol_version",
        "PGSSLMAXPROTOCOLVERSION",
        Rule::Only(&["tlsv1.3"], "TLS 1.2 and 1.3 are used: leave it out, and set it at the server"),
    ),
    of(
        "load_balance_hosts",
        "PGLOADBALANCEHOSTS",
        Rule::Only(&["disable"], "the hosts are tried in their order: leave it out"),
    ),
    only(
        "replication",
        Rule::Only(&["false", "off", "no", "0"], "a session of replication runs no queries: leave it out"),
    ),
    of(
        "service",
        "PGSERVICE",
        Rule::Refused("service files are not read: write the host, dbname and user of the service themselves"),
    ),
    of(
        "requirepeer",
        "PGREQUIREPEER",
        Rule::Refused("the server's user is not checked: leave it out, and protect the socket's directory"),
    ),
    of(
        "require_auth",
        "PGREQUIREAUTH",
        Rule::Refused("the server chooses the method: leave it out, and set sslmode=verify-full"),
    ),
    of("sslcrl", "PGSSLCRL", Rule::Refused("lists of revoked certificates are not read: leave it out")),
    of("sslcrldir", "PGSSLCRLDIR", Rule::Refused("lists of revoked certificates are not read: leave it out")),
    only("sslpassword", Rule::Refused("encrypted keys are not supported: decrypt the key file, and leave it out")),
    only("sslidentity", Rule::Refused("PKCS 12 files are not supported: name PEM files by sslcert and sslkey")),
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
    // of pools, mappers and platforms
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

/// The parameter of this name.
pub(super) fn find(name: &str) -> Option<&'static Known> {
    ALL.iter().find(|known| known.name == name)
}

/// The parameter whose name is nearest to this one, where it can be a typing error.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let near = ALL.iter().map(|known| (super::super::unknown::distance(name, known.name), known.name)).min()?;
    (near.0 <= 2).then_some(near.1)
}
