//! Settings of the workspace API. Read by `serve`, `doctor` and the demo, used by [`crate::api`].
//!
//! The values are checked without a request and without a look into the file of keys: only the reader of the keys knows
//! whether they can be loaded.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::egress::Egress;
use super::error::{Problem, RefusedSecret};
use super::parse::{self, Expected, Parsed};
use super::settings::{self, Setting};
use super::source::Source;

/// Settings of the workspace API.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// `BILLING_SYNC_API_LISTEN`, default `127.0.0.1:8081`: the address of the API's listener.
    pub listen: SocketAddr,
    /// `BILLING_SYNC_API_WORKSPACES`, default `/api/workspace-service`: the path to which `/v1/…` is appended.
    pub workspaces: PathPrefix,
    /// `BILLING_SYNC_API_CHECKOUT_LINKS`, default none: the path to which `/checkout-links` is appended; without it,
    /// checkout links are not served.
    pub checkout_links: Option<PathPrefix>,
    /// `BILLING_SYNC_API_JWT_…`, default none: the identity provider; without it, only billing-sync's own tokens are
    /// accepted.
    pub jwt: Option<JwtConfig>,
    /// `BILLING_SYNC_API_CORS_ORIGINS`, default none: origins whose pages may call the API, as browsers send them.
    pub cors_origins: Vec<String>,
    /// `BILLING_SYNC_API_RATE`, default 100: requests per second of one principal; further ones get 429.
    pub rate: NonZeroU32,
    /// `BILLING_SYNC_API_CONNECTIONS`, default 8: database connections of the API, half of them for writes.
    pub connections: u32,
    /// `BILLING_SYNC_API_MAX_OWNED`, default 1000: workspaces that one user owns; further ones get 409.
    pub max_owned: i64,
    /// `BILLING_SYNC_API_KEY_PREFIX`, default `WS`: prefix of the keys of new workspaces.
    pub key_prefix: String,
    /// `BILLING_SYNC_API_LIVE_SUBSCRIPTION`, default `replace`: what a checkout session does with a live subscription.
    pub live_subscription: LiveSubscription,
}

/// What a new checkout session does if the workspace has a subscription already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveSubscription {
    /// The completed checkout cancels it, with proration.
    Replace,
    /// The request is refused.
    Refuse,
}

/// Path before all routes of an API: `/api/workspace-service`, or an empty text for the root.
///
/// It begins with a slash and does not end with one. Other characters than slashes are unreserved, so the path needs no
/// decoding, and the router finds no parameter in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPrefix(String);

impl PathPrefix {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Settings of the identity provider, whose tokens are JWTs.
#[derive(Debug, Clone)]
pub struct JwtConfig {
    /// `BILLING_SYNC_API_JWT_ISSUER`: the only valid value of the claim `iss`.
    pub issuer: String,
    /// `BILLING_SYNC_API_JWT_AUDIENCE`: the claim `aud` must contain one of these; never empty.
    pub audiences: Vec<String>,
    /// `BILLING_SYNC_API_JWT_KEYS`: where the keys that verify signatures are.
    pub keys: KeySource,
    /// `BILLING_SYNC_API_JWT_LEEWAY`, default 30s: tolerated clock difference for the claims `exp` and `nbf`.
    pub leeway: Duration,
    /// `BILLING_SYNC_API_JWT_USER_CLAIM`, default `sub`: the claim with the user's id.
    pub user_claim: String,
    /// `BILLING_SYNC_API_JWT_ROLES_CLAIM`, default `roles`: the claim with the user's roles.
    pub roles_claim: String,
    /// `BILLING_SYNC_API_JWT_LEGACY_CUSTOMER_CLAIM`, default `legacy_customer_id`: the claim with the user's legacy
    /// customer id.
    pub legacy_customer_claim: String,
    /// `BILLING_SYNC_API_JWT_EMAIL_CLAIM`, default `email`: the claim with the user's e-mail address.
    pub email_claim: String,
    /// `BILLING_SYNC_API_JWT_NAME_CLAIM`, default `name`: the claim with the user's name.
    pub name_claim: String,
    /// `BILLING_SYNC_API_JWT_LOCALE_CLAIM`, default `locale`: the claim with the user's language.
    pub locale_claim: String,
    /// `BILLING_SYNC_API_ADMIN_ROLES`, default `workspaces:admin`: roles that give the scopes `workspaces:admin` and
    /// `checkout-link:write`.
    pub admin_roles: BTreeSet<String>,
    /// How the URL of the keys is reached. For a file, a direct connection, which is never opened.
    pub egress: Egress,
}

/// Location of the identity provider's key set (JWKS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// An `https` URL, or an `http` URL of this machine; without user and password.
    Url(Url),
    /// A file.
    File(PathBuf),
}

impl ApiConfig {
    /// Reads the settings of the API; the identity provider may be absent.
    pub fn read(source: &mut Source) -> Option<Self> {
        let listen = source.value(&settings::API_LISTEN, parse::address);
        let workspaces = source.value(&settings::API_WORKSPACES, workspaces_prefix);
        let checkout_links = source.optional(&settings::API_CHECKOUT_LINKS, prefix);
        let jwt = JwtConfig::read(source);
        let cors_origins = source.optional(&settings::API_CORS_ORIGINS, origins);
        let rate = source.value(&settings::API_RATE, parse::whole(1, 1_000_000));
        let connections = source.value(&settings::API_CONNECTIONS, parse::whole(2, 100));
        let max_owned = source.value(&settings::API_MAX_OWNED, parse::whole(1, 1_000_000_000));
        let key_prefix = source.value(&settings::API_KEY_PREFIX, key_prefix);
        let live_subscription = source.value(&settings::API_LIVE_SUBSCRIPTION, live_subscription);
        let (workspaces, checkout_links) = (workspaces?, checkout_links?);
        if let Some(problem) = checkout_links.as_ref().and_then(|links| collision(&workspaces, links)) {
            source.problem(problem);
            return None;
        }
        Some(Self {
            listen: listen?,
            workspaces,
            checkout_links,
            jwt: jwt?,
            cors_origins: cors_origins?.unwrap_or_default(),
            rate: NonZeroU32::new(rate?)?,
            connections: connections?,
            max_owned: max_owned?,
            key_prefix: key_prefix?,
            live_subscription: live_subscription?,
        })
    }
}

impl JwtConfig {
    /// Reads the settings of the identity provider; `Some(None)` without one, `None` after noting a problem.
    pub fn read(source: &mut Source) -> Option<Option<Self>> {
        let issuer = source.optional(&settings::API_JWT_ISSUER, issuer);
        let audiences = source.optional(&settings::API_JWT_AUDIENCE, parse::list(AUDIENCES));
        let keys = source.secret(&settings::API_JWT_KEYS, keys);
        let leeway = parse::duration(Duration::ZERO, Duration::from_mins(5));
        let leeway = source.value(&settings::API_JWT_LEEWAY, leeway);
        let user_claim = source.value(&settings::API_JWT_USER_CLAIM, claim);
        let roles_claim = source.value(&settings::API_JWT_ROLES_CLAIM, claim);
        let legacy_customer_claim = source.value(&settings::API_JWT_LEGACY_CUSTOMER_CLAIM, claim);
        let email_claim = source.value(&settings::API_JWT_EMAIL_CLAIM, claim);
        let name_claim = source.value(&settings::API_JWT_NAME_CLAIM, claim);
        let locale_claim = source.value(&settings::API_JWT_LOCALE_CLAIM, claim);
        let admin_roles = source.value(&settings::API_ADMIN_ROLES, parse::list(ROLES));
        let egress = match &keys {
            Some(Some(KeySource::Url(url))) => Egress::read(source, Some(url)),
            _ => Some(Egress::default()),
        };
        let (issuer, audiences, keys) = (issuer?, audiences?, keys?);
        let is_set = [
            (&settings::API_JWT_ISSUER, issuer.is_some()),
            (&settings::API_JWT_AUDIENCE, audiences.is_some()),
            (&settings::API_JWT_KEYS, keys.is_some()),
        ];
        let (Some(issuer), Some(audiences), Some(keys)) = (issuer, audiences, keys) else {
            return match incomplete(is_set) {
                Some(problem) => {
                    source.problem(problem);
                    None
                }
                None => Some(None),
            };
        };
        Some(Some(Self {
            issuer,
            audiences,
            keys,
            leeway: leeway?,
            user_claim: user_claim?,
            roles_claim: roles_claim?,
            legacy_customer_claim: legacy_customer_claim?,
            email_claim: email_claim?,
            name_claim: name_claim?,
            locale_claim: locale_claim?,
            admin_roles: admin_roles?.into_iter().collect(),
            egress: egress?,
        }))
    }
}

const AUDIENCES: &str = "a list of audiences (values of the claim aud) separated by commas";
const ROLES: &str = "a list of roles separated by commas";

/// The problem of settings that work only together, if some are set and others are not.
fn incomplete(is_set: [(&Setting, bool); 3]) -> Option<Problem> {
    let names = |wanted: bool| -> Vec<&str> {
        is_set.iter().filter(|(_, is_set)| *is_set == wanted).map(|(setting, _)| setting.name).collect()
    };
    let (set, missing) = (names(true), names(false));
    if set.is_empty() || missing.is_empty() {
        return None;
    }
    let verb = |names: &[&str]| if names.len() == 1 { "is" } else { "are" };
    let wrong = format!("{} not set, but {} {}", verb(&missing), set.join(" and "), verb(&set));
    let fix = "set issuer, audience and keys to accept the identity provider's tokens, or omit all three to accept \
               only billing-sync's own tokens";
    Some(Problem::new(missing.join(", "), wrong, fix))
}

/// Parses the issuer. It is compared with the claim letter by letter, so only blanks around it are dropped.
fn issuer(text: &str) -> Parsed<String> {
    let what = "the issuer of tokens (their claim iss), such as https://id.example.com/";
    let expected = |hint| Expected { what: what.to_owned(), hint };
    let text = text.trim();
    if is_discovery(text) {
        return Err(expected(", which is the value of issuer in the discovery document, not the URL of the document"));
    }
    let is_valid = !text.is_empty() && !text.contains(|letter: char| letter.is_whitespace() || letter.is_control());
    if is_valid { Ok(text.to_owned()) } else { Err(expected("")) }
}

/// Parses the name of a claim. It may be any text: some providers accept only URLs.
fn claim(text: &str) -> Parsed<String> {
    let name = text.trim();
    if name.is_empty() { Err(Expected::new("the name of a claim")) } else { Ok(name.to_owned()) }
}

/// Ends of the URLs of discovery documents: of `OpenID` Connect, and of OAuth (RFC 8414).
const DISCOVERY: [&str; 2] = ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"];

/// Whether a text is the URL of a discovery document. A longer path may be that of a key set: some providers publish it
/// at `…/openid-configuration/jwks`.
fn is_discovery(text: &str) -> bool {
    let path = text.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    DISCOVERY.iter().any(|end| path.ends_with(end))
}

/// Parses the location of the keys. Its problems never contain the value: a URL may contain a password, and a pasted
/// key set a private key.
fn keys(text: &str) -> Result<KeySource, RefusedSecret> {
    let refused = |wrong: &str, fix: &str| RefusedSecret { wrong: wrong.to_owned(), fix: fix.to_owned() };
    let fix = "set it to the https URL of the identity provider's key set (jwks_uri in its discovery document), or to \
               the path of a file with the key set";
    let text = text.trim();
    if text.is_empty() {
        return Err(refused("is blank", fix));
    }
    // also if the operator set the variable with the suffix _FILE, which reads the value from the file
    if text.starts_with('{') || text.starts_with("-----BEGIN") {
        return Err(refused(
            "is the content of a file with keys, not its path (the value is not shown)",
            "write a key set (JWKS, JSON) to a file, and set BILLING_SYNC_API_JWT_KEYS, without _FILE, to its path",
        ));
    }
    if is_discovery(text) {
        return Err(refused(
            "is the URL of a discovery document, which contains no keys",
            "set it to the URL of the key set (JWKS), which the discovery document contains as jwks_uri",
        ));
    }
    if !text.contains("://") {
        return Ok(KeySource::File(PathBuf::from(text)));
    }
    let url = Url::parse(text).map_err(|_| refused("is not a valid URL (the value is not shown)", fix))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused(
            "is a URL with a user or a password (the value is not shown)",
            "omit them, because a key set is public, or download it and set the path of the file",
        ));
    }
    if !parse::is_safe_on_network(&url) {
        return Err(refused(
            "is neither an https URL nor the path of a file",
            "set it to an https URL or to a path; http is allowed for 127.0.0.1, [::1] and localhost only, because \
             others could replace the keys on the network",
        ));
    }
    Ok(KeySource::Url(url))
}

/// Parses a path prefix; one final slash is dropped. A missing first slash is not added: the value may be a host name.
fn prefix(text: &str) -> Parsed<PathPrefix> {
    let expected = |hint| Expected { what: "a path prefix such as /api/workspace-service".to_owned(), hint };
    let text = text.trim();
    if text.contains("://") {
        return Err(expected(", which is only the path of the URL, without scheme, host and port"));
    }
    if !text.starts_with('/') {
        return Err(expected(", with a slash at its start"));
    }
    let path = text.strip_suffix('/').unwrap_or(text);
    if !path.split('/').skip(1).all(is_segment) {
        return Err(expected(", of letters, digits, - . _ ~ and single slashes"));
    }
    Ok(PathPrefix(path.to_owned()))
}

/// Parses the prefix of the workspace API.
fn workspaces_prefix(text: &str) -> Parsed<PathPrefix> {
    let prefix = prefix(text)?;
    if prefix.0.ends_with("/v1") {
        let what = "a path prefix such as /api/workspace-service".to_owned();
        return Err(Expected { what, hint: ", without v1, which is appended" });
    }
    Ok(prefix)
}

/// The problem of two prefixes with which a path would belong to both APIs.
fn collision(workspaces: &PathPrefix, links: &PathPrefix) -> Option<Problem> {
    let is_within =
        |path: &str, other: &str| path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let path = format!("{}/checkout-links", links.0);
    let of_workspaces = ["v1", "docs", "openapi.json"].map(|part| format!("{}/{part}", workspaces.0));
    let is_shared = workspaces == links
        || is_within(&workspaces.0, &path)
        || of_workspaces.iter().any(|of_workspaces| is_within(&path, of_workspaces));
    let name = settings::API_CHECKOUT_LINKS.name;
    let wrong = format!("collides with {}: some paths would belong to both", settings::API_WORKSPACES.name);
    let fix = "give them prefixes of which neither is the other, nor within its paths";
    is_shared.then(|| Problem::new(name, wrong, fix))
}

/// Whether a part of a path has only unreserved characters (RFC 3986), and clients do not resolve it.
fn is_segment(part: &str) -> bool {
    let is_unreserved = |letter: char| letter.is_ascii_alphanumeric() || "-._~".contains(letter);
    !["", ".", ".."].contains(&part) && part.chars().all(is_unreserved)
}

const ORIGINS: &str = "a list of origins such as https://app.example.com separated by commas";

/// Parses origins.
fn origins(text: &str) -> Parsed<Vec<String>> {
    let mut origins = Vec::new();
    for text in parse::list(ORIGINS)(text)? {
        let origin = origin(&text).map_err(|hint| Expected { what: ORIGINS.to_owned(), hint })?;
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    Ok(origins)
}

/// The origin as browsers send it: in lower case, and without the scheme's default port. The error is a hint.
fn origin(text: &str) -> Result<String, &'static str> {
    if text.contains('*') {
        return Err("; list each one, because * would let pages of unknown origin call the API");
    }
    let Some((scheme, host)) = text.split_once("://") else {
        return Err("; each begins with https:// or http://");
    };
    if host.contains(['/', '?', '#', '\\']) {
        return Err(", without a path or a final slash");
    }
    if host.contains('@') {
        return Err(", without user and password");
    }
    if !["https", "http"].contains(&scheme.to_lowercase().as_str()) {
        return Err("; each begins with https:// or http://");
    }
    Url::parse(text).map(|url| url.origin().ascii_serialization()).map_err(|_| "")
}

/// Parses what a checkout session does with a live subscription.
fn live_subscription(text: &str) -> Parsed<LiveSubscription> {
    match text.trim().to_lowercase().as_str() {
        "replace" => Ok(LiveSubscription::Replace),
        "refuse" => Ok(LiveSubscription::Refuse),
        _ => Err(Expected::new("replace or refuse")),
    }
}

/// Parses the prefix of workspace keys.
fn key_prefix(text: &str) -> Parsed<String> {
    let prefix = text.trim();
    let is_valid = (1..=8).contains(&prefix.len())
        && prefix.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit());
    if is_valid { Ok(prefix.to_owned()) } else { Err(Expected::new("a text of 1 to 8 characters, A to Z and 0 to 9")) }
}

#[cfg(test)]
mod tests;
