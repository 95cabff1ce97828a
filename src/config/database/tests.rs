//! The results of each form of connection string, and the messages of those that are refused.

use std::ffi::OsString;
use std::time::Duration;

use proptest::prelude::*;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{DatabaseConfig, Hosts};
use crate::config::error::ConfigError;
use crate::config::source::{Flags, Source};
use crate::database::target as place;

fn read_all(environment: &[(&str, &str)]) -> Result<(DatabaseConfig, Vec<String>), ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value)));
    let mut source = Source::new(Flags::new(), environment);
    let config = source.collect(DatabaseConfig::read)?;
    Ok((config, source.warnings().to_vec()))
}

fn hosts(url: &str) -> Vec<PgConnectOptions> {
    let (config, _) = read_all(&[("DATABASE_URL", url)]).unwrap_or_else(|error| panic!("{url}: {error}"));
    config.hosts.unwrap().all().iter().map(|address| address.options.clone()).collect()
}

fn options(url: &str) -> PgConnectOptions {
    hosts(url).remove(0)
}

/// The single problem of a refused connection string.
fn refused(url: &str) -> String {
    let error = read_all(&[("DATABASE_URL", url)]).err().unwrap_or_else(|| panic!("{url} is accepted"));
    assert_eq!(error.problems.len(), 1, "{error}");
    error.to_string()
}

#[test]
fn urls_of_platforms_are_accepted() {
    for (url, expected) in [
        ("postgres://u:p@ec2.compute.amazonaws.com:5432/d4", "ec2.compute.amazonaws.com:5432, database d4, user u"),
        ("postgresql://u:p@ep-x.neon.tech/db?sslmode=require", "ep-x.neon.tech:5432, database db, user u"),
        ("postgres://u@/db?host=/cloudsql/p:r:i", "/cloudsql/p:r:i, database db, user u"),
        ("postgresql://%2Fvar%2Frun%2Fx/db?user=u", "/var/run/x, database db, user u"),
        (
            "postgres://u%40server:p@x.postgres.database.azure.com/db",
            "x.postgres.database.azure.com:5432, database db, user u@server",
        ),
        (
            "postgres://postgres.ref:p@pooler.supabase.com:6543/postgres?pgbouncer=true",
            "pooler.supabase.com:6543, database postgres, user postgres.ref",
        ),
        ("postgresql://u@[2001:db8::1]:5433/db", "2001:db8::1:5433, database db, user u"),
        ("postgresql://u@bücher.example/db", "xn--bcher-kva.example:5432, database db, user u"),
        ("postgresql://u@10.0.0.1/my%20db", "10.0.0.1:5432, database my db, user u"),
        ("host=/s user=u dbname=db", "/s, database db, user u"),
        ("host=h port=6432 user=u password='a b' dbname=db sslmode=disable", "h:6432, database db, user u"),
        ("postgres://u@h/db?hostaddr=10.0.0.1", "10.0.0.1:5432, database db, user u"),
    ] {
        assert_eq!(place(&options(url)), expected, "{url}");
    }
}

#[test]
fn several_hosts_keep_their_order_and_ports() {
    let of = |url| hosts(url).iter().map(|it| format!("{}:{}", it.get_host(), it.get_port())).collect::<Vec<_>>();
    assert_eq!(of("postgres://u@a:1,b,[::1]:3/d?target_session_attrs=read-write"), ["a:1", "b:5432", "::1:3"]);
    assert_eq!(of("host=a,b port=7 dbname=d target_session_attrs=primary"), ["a:7", "b:7"]);
    assert!(refused("host=a,b,c port=1,2").contains("the parameter port lists 2 ports for 3 hosts"));
}

#[test]
fn encryption_modes_are_those_of_libpq_and_other_drivers() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let authority = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
    std::fs::write(file.path(), authority.cert.pem()).unwrap();
    let root = file.path().display().to_string();
    for (parameters, expected) in [
        (String::new(), PgSslMode::Prefer),
        ("sslmode=disable".to_owned(), PgSslMode::Disable),
        ("sslmode=allow".to_owned(), PgSslMode::Prefer),
        ("sslmode=require".to_owned(), PgSslMode::Require),
        ("sslmode=no-verify".to_owned(), PgSslMode::Require),
        ("sslmode=verify-ca".to_owned(), PgSslMode::VerifyCa),
        ("sslmode=verify-full".to_owned(), PgSslMode::VerifyFull),
        ("ssl=true".to_owned(), PgSslMode::Require),
        ("ssl=false".to_owned(), PgSslMode::Disable),
        ("sslaccept=strict".to_owned(), PgSslMode::VerifyFull),
        ("sslrootcert=system".to_owned(), PgSslMode::VerifyFull),
        (format!("sslmode=require&sslrootcert={root}"), PgSslMode::VerifyCa),
        (format!("sslmode=no-verify&sslrootcert={root}"), PgSslMode::Require),
    ] {
        let mode = options(&format!("postgres://h/d?{parameters}")).get_ssl_mode();
        assert!(format!("{mode:?}") == format!("{expected:?}"), "{parameters}: {mode:?}");
    }
    assert!(matches!(options("postgres://u@/d?host=/s&sslmode=require").get_ssl_mode(), PgSslMode::Disable));
}

#[test]
fn an_unsupported_parameter_is_refused_with_the_fix() {
    for (parameter, words) in [
        ("channel_binding=require", "the parameter channel_binding has a value that is not supported; channel binding"),
        ("gssencmode=require", "the parameter gssencmode has a value that is not supported"),
        ("sslnegotiation=direct", "the parameter sslnegotiation has a value that is not supported"),
        ("target_session_attrs=standby", "the parameter target_session_attrs selects a read-only server"),
        ("target_session_attrs=prefer-standby", "set it to read-write"),
        ("target_session_attrs=x", "the parameter target_session_attrs is unknown"),
        ("service=x", "the parameter service is not supported; service files are not read"),
        ("require_auth=scram-sha-256", "the parameter require_auth is not supported"),
        ("sslmode=full", "the parameter sslmode is unknown; set it to disable, allow, prefer"),
        ("sslrootcert=/nowhere", "the parameter sslrootcert names a file that cannot be read: No such file"),
        ("sslmode=verify-full&sslrootcert=/dev/null", "the parameter sslrootcert has no certificate"),
        ("sslmode=require&sslrootcert=system", "the parameter sslrootcert is system with an sslmode that"),
        ("sslcert=/dev/null", "the parameter sslcert is given without sslkey"),
        ("connect_timeout=soon", "the parameter connect_timeout is not a number of seconds"),
        ("search_path=billing", "the parameter search_path is not supported; omit it, or set it as"),
        (
            "sslmod=require",
            "a parameter \"sslmod\" that is unknown (its value is not shown); omit it, or use the similar parameter \
             sslmode",
        ),
        ("frobnicate=1", "a parameter \"frobnicate\" that is unknown"),
        ("sslmode=require&sslmode=disable", "names the parameter sslmode twice"),
        ("port=x", "the parameter port is not a port"),
        ("host=a%20b", "the parameter host is not a host"),
        ("dbname=postgres://u:hunter2%40h/d", "the parameter dbname contains a connection string"),
    ] {
        let message = refused(&format!("postgres://u:p%40@h?{parameter}"));
        assert!(message.starts_with("DATABASE_URL: ") && message.contains(words), "{parameter}: {message}");
    }
}

#[test]
fn parameters_of_other_programs_cause_one_warning() {
    let url = "postgres://h/d?pgbouncer=true&schema=public&connection_limit=1&keepalives_idle=60";
    let (_, warnings) = read_all(&[("DATABASE_URL", url)]).unwrap();
    let expected = "DATABASE_URL has parameters without effect here: pgbouncer, schema, connection_limit, \
                    keepalives_idle; they can be omitted";
    assert_eq!(warnings, [expected]);
    for fine in ["channel_binding=prefer", "gssencmode=disable", "sslnegotiation=postgres", "client_encoding=UTF8"] {
        let (_, warnings) = read_all(&[("DATABASE_URL", &format!("postgres://h/d?{fine}"))]).unwrap();
        assert!(warnings.is_empty(), "{fine}: {warnings:?}");
    }
}

#[test]
fn server_options_name_and_timeout_are_used() {
    let url = "postgres://h/d?options=-c%20search_path%3Dx%20-c%20jit=off&application_name=mine&connect_timeout=7";
    let read = options(url);
    assert_eq!(read.get_options(), Some("-c search_path=x -c jit=off"));
    assert_eq!(options("postgres://h/d?options=endpoint%3Dep-x").get_options(), Some("endpoint=ep-x"));
    assert_eq!(options("postgres://h/d?options=-c+jit%3Doff").get_options(), Some("-c jit=off"));
    assert_eq!(read.get_application_name(), Some("mine"));
    assert_eq!(options("postgres://h").get_application_name(), Some("billing-sync"));
    let (config, _) = read_all(&[("DATABASE_URL", url)]).unwrap();
    assert_eq!(config.hosts.unwrap().connect_timeout, Some(Duration::from_secs(7)));
}

#[test]
fn missing_parameters_come_from_pg_variables() {
    let of = |environment: &[(&str, &str)]| {
        let (config, _) = read_all(environment).unwrap();
        config
            .hosts
            .map(|hosts| format!("{} {:?}", place(&hosts.current().options), hosts.current().options.get_ssl_mode()))
    };
    let set = [("PGHOST", "p"), ("PGPORT", "7"), ("PGUSER", "v"), ("PGDATABASE", "e"), ("PGSSLMODE", "require")];
    assert_eq!(of(&set).as_deref(), Some("p:7, database e, user v Require"));
    let mut all = set.to_vec();
    all.push(("DATABASE_URL", "postgres://u@h:1/d?sslmode=disable"));
    assert_eq!(of(&all).as_deref(), Some("h:1, database d, user u Disable"));
    let half = [("DATABASE_URL", "postgres://h"), ("PGUSER", "v"), ("PGDATABASE", "e"), ("PGHOSTADDR", "10.0.0.1")];
    assert_eq!(of(&half).as_deref(), Some("h:5432, database e, user v Prefer"));
    // none of these locates a database
    assert_eq!(of(&[("PGUSER", "v"), ("PGPASSWORD", "w"), ("PGSSLMODE", "require")]), None);
    let wrong = read_all(&[("PGHOST", "h"), ("PGSSLMODE", "maybe"), ("PGPORT", "x")]).unwrap_err().to_string();
    assert!(wrong.contains("PGSSLMODE: is unknown; set it to") && wrong.contains("PGPORT: is not a port"), "{wrong}");
    let service = read_all(&[("PGSERVICE", "x")]).unwrap_err().to_string();
    assert!(service.starts_with("PGSERVICE: is not supported; service files are not read"), "{service}");
}

#[test]
fn an_unusable_password_file_is_refused_only_if_named() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(".pgpass");
    std::fs::write(&path, "h:*:*:*:hunter2").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (path, home) = (path.to_str().unwrap(), home.path().to_str().unwrap());
    let named = read_all(&[("DATABASE_URL", "postgres://h"), ("PGPASSFILE", path)]).unwrap_err().to_string();
    assert!(named.starts_with("PGPASSFILE: names a file that can be read by other users"), "{named}");
    let (_, warnings) = read_all(&[("DATABASE_URL", "postgres://h"), ("HOME", home)]).unwrap();
    assert!(warnings[0].contains(".pgpass is not used: it can be read by other users"), "{warnings:?}");
}

/// Passwords of rare letters and characters with a meaning in connection strings, so that no part occurs in a message.
fn password() -> impl Strategy<Value = String> {
    let letters: Vec<char> = "qzxQZX77@@::///??##%%&&==''\\\\++,[]{} \"".chars().collect();
    proptest::collection::vec(proptest::sample::select(letters), 4..24).prop_map(String::from_iter)
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"))
}

/// Parts of a secret that must not be shown.
fn pieces(secret: &str) -> Vec<String> {
    let letters: Vec<char> = secret.chars().collect();
    let pieces = letters.windows(4).map(String::from_iter);
    pieces.filter(|piece| piece.contains(|it: char| it.is_alphanumeric())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_part_of_a_password_is_shown(password in password()) {
        let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
        for text in [
            format!("postgres://u:{password}@h:1/d"),
            format!("postgres://u:{}@h:1/d", encoded(&password)),
            format!("postgres://:{password}@h"),
            format!("postgres://u:{password}@/d?host=/s"),
            format!("postgres://u:{password}@a:1,b:2/d?sslmode=x"),
            format!("postgres://h/d?user=u&password={password}"),
            format!("postgres://h/d?password={password}&sslmode=disable&target_session_attrs=any"),
            format!("postgres://h/d?password={}&sslmod=disable", encoded(&password)),
            format!("host=h user=u password={password} dbname=d"),
            format!("host=h password='{password}' dbname=d sslmode=x"),
            format!("host=h password='{quoted}'"),
            format!("postgresql+psycopg2://u:{password}@h/d"),
            format!("u:{password}@h/d"),
            password.clone(),
        ] {
            let message = match read_all(&[("DATABASE_URL", &text)]) {
                Ok((config, warnings)) => {
                    let addresses = config.hosts.iter().flat_map(Hosts::all);
                    let places = addresses.map(|address| place(&address.options)).collect::<String>();
                    format!("{places} {config:?} {warnings:?}")
                }
                Err(error) => format!("{error} {error:?}"),
            };
            for piece in pieces(&password) {
                prop_assert!(!message.contains(&piece), "{piece:?} of {text:?} is in {message}");
            }
        }
        let encoded = read_all(&[("DATABASE_URL", &format!("postgres://u:{}@h", encoded(&password)))]);
        prop_assert!(encoded.is_ok(), "an encoded password is refused");
    }
}
