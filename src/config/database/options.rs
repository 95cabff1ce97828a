//! Converts parameters to the options of sqlx: one set for each host.
//!
//! sqlx itself reads some PG* variables and `~/.pgpass`. This file sets all of these again, so that its decisions
//! apply, and so that sqlx's messages, which may contain a password, never appear.

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use super::passfile::{self, Target};
use super::{GivenParameters, Problem, Source};
use crate::base::file;
use crate::config::settings;
use crate::database::instance::APPLICATION;
use crate::tls;

const DEFAULT_PORT: u16 = 5432;
/// Socket directories of a server on this machine: Debian, macOS, PostgreSQL's default.
const SOCKETS: [&str; 3] = ["/var/run/postgresql", "/private/tmp", "/tmp"];

type Read<T> = Result<T, Problem>;

/// A server's address.
struct Address {
    host: String,
    port: u16,
}

/// How a connection is encrypted.
struct Encryption {
    mode: PgSslMode,
    roots: Roots,
}

/// The trusted certificate authorities.
enum Roots {
    None,
    File(PathBuf),
    Inline(Vec<u8>),
}

/// The options of all hosts of the connection string, of which there is at least one, and the connect timeout.
///
/// # Errors
/// All problems at once.
pub(super) fn hosts(
    given: &GivenParameters,
    source: &mut Source,
) -> Result<(Vec<PgConnectOptions>, Option<Duration>), Vec<Problem>> {
    let mut problems = Vec::new();
    let mut note = |problem| problems.push(problem);
    let addresses = addresses(given).map_err(&mut note).ok();
    let encryption = encryption(given, source).map_err(&mut note).ok();
    let lines = password_lines(given, source).map_err(&mut note).ok();
    let timeout = connect_timeout(given).map_err(&mut note).ok();
    let common = common(given).map_err(&mut note).ok();
    let checked = target_session(given).map_err(&mut note).ok();
    let (Some(addresses), Some(encryption), Some(lines), Some(timeout), Some(common), Some(())) =
        (addresses, encryption, lines, timeout, common, checked)
    else {
        return Err(problems);
    };
    let connect = |address| one(given, &common, &encryption, lines.as_deref(), &address);
    Ok((addresses.into_iter().map(connect).collect(), timeout))
}

/// The options for one host.
fn one(
    given: &GivenParameters,
    common: &PgConnectOptions,
    encryption: &Encryption,
    lines: Option<&str>,
    address: &Address,
) -> PgConnectOptions {
    let is_socket = address.host.starts_with('/');
    let options = if is_socket { common.clone().socket(&address.host) } else { common.clone().host(&address.host) };
    let options = options.port(address.port);
    let (user, name) = (options.get_username(), options.get_database().unwrap_or(options.get_username()));
    let of = Target { host: &address.host, port: address.port, database: name, user };
    let password = given.get("password").map(str::to_owned);
    // sqlx sends an empty password if there is none
    let password = password.or_else(|| passfile::find(lines?, &of)).unwrap_or_default();
    let options = options.password(&password);
    // libpq does not encrypt sockets either
    let options = options.ssl_mode(if is_socket { PgSslMode::Disable } else { encryption.mode });
    match &encryption.roots {
        Roots::None => options.ssl_root_cert_from_pem(Vec::new()),
        Roots::File(path) => options.ssl_root_cert(path),
        Roots::Inline(pem) => options.ssl_root_cert_from_pem(pem.clone()),
    }
}

/// The options that all hosts have in common.
fn common(given: &GivenParameters) -> Read<PgConnectOptions> {
    let mut options = with_server_options(given.get("options"));
    if let Some(user) = given.get("user") {
        options = options.username(user);
    }
    if let Some(name) = given.get("dbname") {
        if name.contains("://") || name.contains('=') {
            let fix = "set DATABASE_URL to the connection string itself";
            return Err(given.problem("dbname", "contains a connection string (its value is not shown)", fix));
        }
        options = options.database(name);
    }
    options = options.application_name(given.get("application_name").unwrap_or(APPLICATION));
    // a session-mode pooler refuses this parameter, and no supported server needs it
    options = options.extra_float_digits(None);
    match (given.get("sslcert"), given.get("sslkey")) {
        (None, None) => Ok(options),
        (Some(certificate), Some(key)) => {
            let certificate = pem(given, "sslcert", certificate)?;
            let key = pem(given, "sslkey", key)?;
            let options = match certificate {
                Pem::File(path) => options.ssl_client_cert(path),
                Pem::Inline(pem) => options.ssl_client_cert_from_pem(pem),
            };
            Ok(match key {
                Pem::File(path) => options.ssl_client_key(path),
                Pem::Inline(pem) => options.ssl_client_key_from_pem(pem),
            })
        }
        (Some(_), None) => Err(given.problem("sslcert", "is given without sslkey", "give both, or neither")),
        (None, Some(_)) => Err(given.problem("sslkey", "is given without sslcert", "give both, or neither")),
    }
}

/// Sets the server's options. sqlx takes them as pairs; the form of some platforms is only accepted in its URLs.
fn with_server_options(given: Option<&str>) -> PgConnectOptions {
    let plain = PgConnectOptions::new_without_pgpass();
    let Some(given) = given.filter(|given| plain.get_options() != Some(given)) else { return plain };
    // some tools encode spaces as +
    let given = if given.starts_with("-c+") { given.replace('+', " ") } else { given.to_owned() };
    // with a password in the URL, sqlx does not read a password file
    let url = Url::parse("postgres://user:password@host/").ok().map(|mut url| {
        url.query_pairs_mut().append_pair("options", &given);
        url
    });
    url.and_then(|url| PgConnectOptions::from_url(&url).ok())
        .map_or(plain.clone(), |options| options.username(plain.get_username()))
}

/// The addresses from libpq's lists: as many ports as hosts, or one port for all.
fn addresses(given: &GivenParameters) -> Read<Vec<Address>> {
    let (name, list) = match (given.get("host"), given.get("hostaddr")) {
        (_, Some(addresses)) if !verifies_names(given) => ("hostaddr", addresses),
        (None, Some(addresses)) => ("hostaddr", addresses),
        (Some(_), Some(_)) => {
            let fix = "omit it, or set sslmode=verify-ca: verify-full compares the name in the certificate with host";
            return Err(given.problem("hostaddr", "is given with a host and sslmode=verify-full", fix));
        }
        (Some(hosts), None) => ("host", hosts),
        (None, None) => ("host", ""),
    };
    let hosts: Vec<&str> = list.split(',').collect();
    let ports: Vec<&str> = given.get("port").unwrap_or_default().split(',').collect();
    if ports.len() > 1 && ports.len() != hosts.len() {
        let fix = "give as many ports as hosts, or one for all";
        return Err(given.problem("port", &format!("lists {} ports for {} hosts", ports.len(), hosts.len()), fix));
    }
    let port = |at: usize| *ports.get(at).unwrap_or(&ports[0]);
    hosts.iter().enumerate().map(|(at, host)| address(given, name, host, port(at))).collect()
}

fn address(given: &GivenParameters, name: &'static str, host: &str, port: &str) -> Read<Address> {
    let port = match port.trim() {
        "" => DEFAULT_PORT,
        port => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
            let fix = "set it to a number from 1 to 65535; percent-encode : and @ in the password";
            given.problem("port", "is not a port (its value is not shown)", fix)
        })?,
    };
    let host = match host.trim() {
        "" => default_host(port),
        host if host.starts_with('/') => host.to_owned(),
        host => ascii(host).ok_or_else(|| {
            let fix = "set it to a host name, an IP address, or the directory of a socket; percent-encode reserved \
                       characters of the password";
            given.problem(name, "is not a host (its value is not shown)", fix)
        })?,
    };
    Ok(Address { host, port })
}

/// The host name in its ASCII form for DNS.
fn ascii(host: &str) -> Option<String> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    // an IPv6 address may name its interface
    if bare.split('%').next()?.parse::<std::net::IpAddr>().is_ok() {
        return Some(bare.to_owned());
    }
    let fits = |host: &str| host.chars().all(|it| it.is_ascii_alphanumeric() || "-._".contains(it));
    if fits(host) {
        return Some(host.to_owned());
    }
    // an internationalised name
    if host.is_ascii() {
        return None;
    }
    url::Host::parse(host).ok().map(|host| host.to_string()).filter(|host| fits(host))
}

/// The directory of a local socket if one exists, otherwise localhost.
fn default_host(port: u16) -> String {
    let there = |folder: &&str| Path::new(folder).join(format!(".s.PGSQL.{port}")).exists();
    SOCKETS.into_iter().find(|folder| there(folder)).unwrap_or("localhost").to_owned()
}

/// Checks `target_session_attrs`. Every host is checked for writes anyway, and a read-only server cannot be used.
fn target_session(given: &GivenParameters) -> Read<()> {
    match given.get("target_session_attrs") {
        None | Some("any" | "read-write" | "primary") => Ok(()),
        Some("standby" | "prefer-standby" | "read-only") => Err(given.problem(
            "target_session_attrs",
            "selects a read-only server, but billing-sync writes",
            "set it to read-write, or omit it",
        )),
        Some(_) => Err(given.problem("target_session_attrs", "is unknown", "set it to read-write, or omit it")),
    }
}

fn connect_timeout(given: &GivenParameters) -> Read<Option<Duration>> {
    let Some(text) = given.get("connect_timeout") else { return Ok(None) };
    match text.trim().parse::<u32>() {
        // as in libpq, 0 means no limit
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds.into()))),
        Err(_) => Err(given.problem("connect_timeout", "is not a number of seconds", "set it to a number such as 10")),
    }
}

fn verifies_names(given: &GivenParameters) -> bool {
    mode(given).is_ok_and(|mode| matches!(mode, PgSslMode::VerifyFull))
}

/// The encryption mode, with the meaning that libpq gives it.
fn mode(given: &GivenParameters) -> Read<PgSslMode> {
    let roots = given.get("sslrootcert");
    let mode = match mode_word(given)? {
        "disable" => PgSslMode::Disable,
        // with allow, sqlx never encrypts, but a server may require encryption
        "allow" | "prefer" => PgSslMode::Prefer,
        // libpq checks the certificate if an authority is given
        "require" if roots.is_some_and(|roots| roots != "system") => PgSslMode::VerifyCa,
        "require" | "no-verify" => PgSslMode::Require,
        "verify-ca" => PgSslMode::VerifyCa,
        "verify-full" => PgSslMode::VerifyFull,
        _ => {
            let fix = "set it to disable, allow, prefer, require, verify-ca or verify-full";
            return Err(given.problem("sslmode", "is unknown", fix));
        }
    };
    if roots == Some("system") && !matches!(mode, PgSslMode::VerifyFull) {
        let fix =
            "set sslmode=verify-full: public authorities issue certificates to all servers, so names must be checked";
        return Err(given.problem("sslrootcert", "is system with an sslmode that does not check names", fix));
    }
    Ok(mode)
}

/// The value of sslmode, or the equivalent of other drivers' parameters.
fn mode_word(given: &GivenParameters) -> Read<&str> {
    let roots = given.get("sslrootcert");
    match (given.get("sslmode"), given.get("sslaccept"), given.get("ssl")) {
        (Some(mode), ..) => Ok(mode),
        (None, Some("accept_invalid_certs"), _) => Ok("no-verify"),
        (None, Some("strict"), _) => Ok("verify-full"),
        (None, Some(_), _) => Err(given.problem("sslaccept", "is unknown", "omit it, and set sslmode=verify-full")),
        (None, None, Some("true" | "1" | "on")) => Ok(if roots.is_some() { "verify-full" } else { "require" }),
        (None, None, Some("false" | "0" | "off")) => Ok("disable"),
        (None, None, Some(_)) => Err(given.problem("ssl", "is neither true nor false", "set sslmode instead")),
        (None, None, None) if roots == Some("system") => Ok("verify-full"),
        (None, None, None) => Ok(if roots.is_some() { "verify-ca" } else { "prefer" }),
    }
}

fn encryption(given: &GivenParameters, source: &Source) -> Read<Encryption> {
    let mode = mode(given)?;
    let roots = match given.get("sslrootcert") {
        _ if !matches!(mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull) => Roots::None,
        Some("system") | None => {
            let named = |setting| source.look_up(setting).ok().flatten().map(|found| found.text).unwrap_or_default();
            let roots = tls::system_roots(&named(&settings::SSL_CERT_FILE), &named(&settings::SSL_CERT_DIR));
            let roots = roots.map_err(|error| Problem::new(error.variable, error.wrong, error.fix))?;
            Roots::Inline(tls::to_pem(&roots))
        }
        Some(named) => match pem(given, "sslrootcert", named)? {
            Pem::Inline(text) => {
                check_roots(given, &text)?;
                Roots::Inline(text)
            }
            Pem::File(path) => {
                let content = file::read(&path, file::MAX_CERTIFICATE_BYTES);
                check_roots(given, &content.map_err(|error| unreadable(given, "sslrootcert", &error))?)?;
                Roots::File(path)
            }
        },
    };
    Ok(Encryption { mode, roots })
}

fn check_roots(given: &GivenParameters, pem: &[u8]) -> Read<()> {
    let fix = "name a file with the certificates of your authorities, in PEM";
    tls::check(pem).map_err(|wrong| given.problem("sslrootcert", &wrong, fix))
}

/// A PEM file, or PEM text: some platforms put the text itself into a variable.
enum Pem {
    File(PathBuf),
    Inline(Vec<u8>),
}

fn pem(given: &GivenParameters, name: &'static str, value: &str) -> Read<Pem> {
    if value.trim_start().starts_with("-----BEGIN") {
        return Ok(Pem::Inline(value.as_bytes().to_vec()));
    }
    let is_pipe = std::fs::metadata(value).map_err(|error| unreadable(given, name, &error))?.file_type().is_fifo();
    if is_pipe {
        return Err(unreadable(given, name, &"it is a pipe, which is empty for the second connection"));
    }
    std::fs::File::open(value).map_err(|error| unreadable(given, name, &error))?;
    Ok(Pem::File(PathBuf::from(value)))
}

fn unreadable(given: &GivenParameters, name: &'static str, why: &dyn std::fmt::Display) -> Problem {
    given.problem(
        name,
        &format!("names a file that cannot be read: {why}"),
        "name a PEM file that this process may read",
    )
}

/// The lines of the password file, if it may be needed. A file that is named explicitly must be usable.
fn password_lines(given: &GivenParameters, source: &mut Source) -> Read<Option<String>> {
    if given.get("password").is_some() {
        return Ok(None);
    }
    if let Some(named) = given.get("passfile") {
        let lines = passfile::read(Path::new(named));
        let problem = |wrong: String| given.problem("passfile", &format!("names a file that {wrong}"), "correct it");
        return lines.map(Some).map_err(problem);
    }
    let home = source.foreign("HOME");
    let path = Path::new(&home).join(".pgpass");
    if home.is_empty() || !path.exists() {
        return Ok(None);
    }
    match passfile::read(&path) {
        Ok(lines) => Ok(Some(lines)),
        Err(wrong) => {
            source.warn(format!("{} is not used: it {wrong}", path.display()));
            Ok(None)
        }
    }
}
