//! The network path to Stripe's API: direct or through a proxy, and the trusted certificates.
//!
//! The proxy variables have the same meaning as in curl and Go. Read with the settings of Stripe's API; `send` and
//! `health` never use a proxy, because they connect to a deployment of billing-sync.

use std::fmt;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use secrecy::SecretString;
use url::Url;

use super::error::Problem;
use super::parse::{Expected, Parsed};
use super::settings;
use super::source::Source;
use crate::tls::Roots;

/// Default port of a SOCKS proxy; the other kinds use the port of their scheme.
const SOCKS_PORT: u16 = 1080;

/// How Stripe's API is reached.
#[derive(Debug, Clone)]
pub struct Egress {
    /// The proxy, if there is one.
    pub proxy: Option<Proxy>,
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR`, otherwise the built-in roots.
    pub roots: Roots,
}

impl Default for Egress {
    /// A direct connection, with the built-in roots.
    fn default() -> Self {
        Self { proxy: None, roots: Roots::built_in() }
    }
}

/// A proxy. `Debug` shows its address and never its password.
#[derive(Clone)]
pub struct Proxy {
    /// The address, without user and password.
    pub uri: Uri,
    /// The variable that contains the address.
    pub variable: &'static str,
    /// The credentials.
    pub login: Login,
    /// The protocol.
    pub kind: ProxyKind,
}

/// The protocol of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP CONNECT, over plain TCP or TLS, depending on the scheme.
    Http,
    /// SOCKS 5.
    Socks5 {
        /// Whether this machine resolves names (`socks5`) and not the proxy (`socks5h`).
        resolve_here: bool,
    },
}

/// The credentials for a proxy.
#[derive(Clone)]
pub enum Login {
    /// No credentials.
    None,
    /// The value of `Proxy-Authorization`.
    Basic(HeaderValue),
    /// User and password for SOCKS 5.
    Socks(String, SecretString),
}

impl Egress {
    /// Reads the settings. `base` is the URL that is requested.
    pub fn read(source: &mut Source, base: Option<&Url>) -> Option<Self> {
        let proxy = match source.optional(&settings::HTTPS_PROXY, proxy)? {
            Some(proxy) => Some((proxy, &settings::HTTPS_PROXY)),
            None => source.optional(&settings::ALL_PROXY, proxy)?.map(|proxy| (proxy, &settings::ALL_PROXY)),
        };
        let no_proxy = source.optional(&settings::NO_PROXY, hosts)?.unwrap_or_default();
        let roots = roots(source)?;
        // plain HTTP is allowed only to this machine, see `STRIPE_API_BASE`
        let is_proxied = base.is_some_and(|base| base.scheme() == "https" && !bypasses(&no_proxy, base));
        let proxy = proxy.filter(|_| is_proxied).map(|(proxy, setting)| Proxy { variable: setting.name, ..proxy });
        Some(Self { proxy, roots })
    }

    /// Describes the path, for `doctor`.
    pub fn describe(&self) -> String {
        let way = self.proxy.as_ref().map_or_else(|| "directly".to_owned(), Proxy::describe);
        format!("{way}; certificates are checked against {}", self.roots.origin())
    }
}

/// Reads `SSL_CERT_FILE` and `SSL_CERT_DIR`.
pub fn roots(source: &mut Source) -> Option<Roots> {
    let file = source.optional(&settings::SSL_CERT_FILE, path)?.unwrap_or_default();
    let dir = source.optional(&settings::SSL_CERT_DIR, path)?.unwrap_or_default();
    let read = Roots::read(&file, &dir);
    read.map_err(|error| source.problem(Problem::new(error.variable, error.wrong, error.fix))).ok()
}

fn path(text: &str) -> Parsed<String> {
    if text.trim().is_empty() { Err(Expected::new("a path")) } else { Ok(text.to_owned()) }
}

fn hosts(text: &str) -> Parsed<String> {
    if text.trim().is_empty() { Err(Expected::new("hosts separated by commas")) } else { Ok(text.to_owned()) }
}

/// Parses a proxy's URL. hyper-util parses it as curl does: without a scheme it is an HTTP proxy, and user and password
/// are percent-encoded.
fn proxy(text: &str) -> Parsed<Proxy> {
    let expected = |hint| Expected { what: "the URL of a proxy, such as http://proxy.example:3128".to_owned(), hint };
    let text = text.trim();
    if text.starts_with("socks4") {
        return Err(expected("; SOCKS 4 is not supported, use SOCKS 5 (socks5h://)"));
    }
    let hint = "; use the scheme http, https, socks5 or socks5h, and percent-encode special characters of the password \
                (@ as %40)";
    // an unencoded password would become part of the host, and so appear in logs
    if !is_plain(text) {
        return Err(expected(hint));
    }
    let found = Matcher::builder().https(text).build().intercept(&Uri::from_static("https://any"));
    let found = found.filter(|found| found.uri().host().is_some_and(|host| !host.is_empty()));
    let found = found.ok_or_else(|| expected(hint))?;
    let kind = match found.uri().scheme_str() {
        Some("socks5") => ProxyKind::Socks5 { resolve_here: true },
        Some("socks5h") => ProxyKind::Socks5 { resolve_here: false },
        _ => ProxyKind::Http,
    };
    let uri = with_port(found.uri(), kind).ok_or_else(|| expected(hint))?;
    Ok(Proxy { uri, variable: settings::HTTPS_PROXY.name, login: login(&found), kind })
}

/// Whether the text has only scheme, login, host and port: at most one `@`, no path, and a port of digits.
fn is_plain(text: &str) -> bool {
    let place = text.split_once("://").map_or(text, |(_, place)| place);
    let place = place.strip_suffix('/').unwrap_or(place);
    let (login, host) = place.rsplit_once('@').unwrap_or(("", place));
    let after_brackets = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    let has_port_of_digits = after_brackets.split_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_ok());
    !login.contains('@') && !place.contains(['/', '?', '#', '\\']) && has_port_of_digits
}

fn login(found: &Intercept) -> Login {
    if let Some(header) = found.basic_auth() {
        return Login::Basic(header.clone());
    }
    match found.raw_auth() {
        Some((user, password)) => Login::Socks(user.to_owned(), SecretString::from(password)),
        None => Login::None,
    }
}

/// The URI, with the default port of a SOCKS proxy if it has none.
fn with_port(uri: &Uri, kind: ProxyKind) -> Option<Uri> {
    let port = match kind {
        _ if uri.port().is_some() => return Some(uri.clone()),
        ProxyKind::Http => return Some(uri.clone()),
        ProxyKind::Socks5 { .. } => SOCKS_PORT,
    };
    format!("{}://{}:{port}/", uri.scheme_str()?, uri.host()?).parse().ok()
}

/// Whether `NO_PROXY` contains the host: as a name (with its subdomains), an address, a network (10.0.0.0/8), or `*`
/// for all; each with or without a port. hyper-util supports these except the port and `*.` before a name.
fn bypasses(no_proxy: &str, base: &Url) -> bool {
    let port = base.port_or_known_default().unwrap_or_default();
    let entries = no_proxy.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty());
    let entries: Vec<&str> = entries.filter_map(|entry| without_port(entry, port)).collect();
    let matcher = Matcher::builder().all("http://proxy").no(entries.join(",")).build();
    base.as_str().parse().is_ok_and(|uri: Uri| matcher.intercept(&uri).is_none())
}

/// The entry without its port, brackets and `*.`; `None` if it is for another port.
fn without_port(entry: &str, port: u16) -> Option<&str> {
    let (host, own) = match entry.rsplit_once(':') {
        // several colons without brackets are an IPv6 address
        Some((host, own)) if !host.contains(':') || host.ends_with(']') => (host, own.parse().ok()),
        _ => (entry, None),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    own.is_none_or(|own: u16| own == port).then_some(host)
}

impl Proxy {
    /// The address, without user and password.
    pub fn address(&self) -> String {
        self.uri.to_string().trim_end_matches('/').to_owned()
    }

    /// The address, and the setting that contains it.
    pub fn describe(&self) -> String {
        format!("through the proxy {} ({})", self.address(), self.variable)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proxy").field(&self.address()).finish()
    }
}

#[cfg(test)]
mod tests;
