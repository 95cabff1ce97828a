//! How to reach the database. Read by every command that talks to it.

use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;

use super::error::Problem;
use super::parse::{Expected, Parsed};
use super::settings;
use super::source::Source;

/// Settings of the connection to PostgreSQL.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// `DATABASE_URL`: an external database; none with the embedded one.
    pub url: Option<SecretString>,
}

impl DatabaseConfig {
    /// Reads the setting; the URL may be absent.
    pub fn read(source: &mut Source) -> Option<Self> {
        let url = source.optional(&settings::DATABASE_URL, url);
        Some(Self { url: url? })
    }

    /// Where an external database is; `None` without a URL.
    pub fn options(&self) -> Option<PgConnectOptions> {
        self.url.as_ref().and_then(options)
    }
}

/// Reads `DATABASE_URL` alone, for a command that cannot do without.
pub fn required(source: &mut Source) -> Option<PgConnectOptions> {
    let url = source.optional(&settings::DATABASE_URL, url)?;
    if url.is_none() {
        source.problem(missing("set it to postgres://user:password@host:port/name, or DATABASE_URL_FILE to a file"));
    }
    url.as_ref().and_then(options)
}

/// The problem of an absent `DATABASE_URL`, with the mend that fits the command.
pub fn missing(mend: &str) -> Problem {
    Problem::missing(&settings::DATABASE_URL, mend)
}

fn options(url: &SecretString) -> Option<PgConnectOptions> {
    // the name under which pg_stat_activity shows our sessions
    PgConnectOptions::from_str(url.expose_secret()).ok().map(|options| options.application_name("billing-sync"))
}

/// Checked here, so that a wrong URL is a configuration error and not a failure minutes later.
fn url(text: &str) -> Parsed<SecretString> {
    let url = SecretString::from(text.trim());
    let scheme = ["postgres://", "postgresql://"].iter().any(|scheme| url.expose_secret().starts_with(scheme));
    if scheme && options(&url).is_some() {
        return Ok(url);
    }
    let expected = "a URL such as postgres://user:password@host:5432/name, \
                    with reserved characters of the password percent-encoded";
    Err(Expected::new(expected))
}
