//! The tokens in the database: creates, lists, revokes and checks rows of `billing.api_tokens`. Also draws the random
//! bytes of a new token.
//!
//! All times are the database's, so that a token expires at one time in all processes. Called by
//! `api::authenticate` and by the `token` commands. Must not know HTTP, nor how a token is compared (`token`).

use std::time::Duration;

use rustls::crypto::ring;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::token::{RANDOM_BYTES, SecretHash, Token, TokenId};
use super::{Principal, Profile, Scope, TOKEN};
use crate::base::interval::interval;
use crate::database::{Connection, without_values};

/// The last use is recorded this precisely: a busy token must not write a row for every request.
const LAST_USE_PRECISION: Duration = Duration::from_mins(1);

/// The error of a machine without random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system returned no random bytes; permit the system call getrandom, or mount /dev/urandom")]
pub struct NoRandomBytes;

/// A token to store. Only the hash of its secret is stored.
#[derive(Debug, Clone, Copy)]
pub struct NewToken<'a> {
    /// The token.
    pub token: &'a Token,
    /// What it permits; at least one.
    pub scopes: &'a [Scope],
    /// The user who counts as logged in; `None` for a service.
    pub user: Option<Uuid>,
    /// What the token is for.
    pub note: Option<&'a str>,
    /// Time from its creation to its expiry; `None`: it never expires.
    pub lifetime: Option<Duration>,
}

/// A stored token, without the hash of its secret. Times are written as RFC 3339.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the columns of billing.api_tokens, described in its migration")]
pub struct StoredToken {
    pub id: String,
    pub scopes: Vec<String>,
    pub user_id: Option<Uuid>,
    pub note: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
    /// Whether `expires_at` has passed, by the database's clock.
    #[serde(skip)]
    pub is_expired: bool,
}

impl StoredToken {
    /// `active`, `expired` or `revoked`.
    pub fn state(&self) -> &'static str {
        match (self.revoked_at, self.is_expired) {
            (Some(_), _) => "revoked",
            (None, true) => "expired",
            (None, false) => "active",
        }
    }
}

/// What a request with a token is checked against.
#[derive(Debug)]
pub struct Credential {
    /// The hash of the token's secret.
    pub hash: SecretHash,
    /// What the token permits. Scopes that this release does not know permit nothing.
    pub scopes: Vec<Scope>,
    /// The user who counts as logged in; `None` for a service.
    pub user: Option<Uuid>,
    /// Whether the token is neither revoked nor expired.
    pub is_active: bool,
    /// Whether the recorded last use is too old.
    pub is_touch_due: bool,
}

/// The result of revoking a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// From now on the token is refused.
    Revoked,
    /// The token was revoked before; the time of its revocation stays.
    AlreadyRevoked,
    /// No token has this id.
    NotFound,
}

/// Draws a new token. The source is the operating system's cryptographic generator, by way of ring, which TLS uses
/// for its keys too. Two random UUIDs would have 244 bits instead of 256, and `fastrand` is not cryptographic.
///
/// # Errors
/// [`NoRandomBytes`], when the operating system has none.
pub fn random_token() -> Result<Token, NoRandomBytes> {
    let mut random = [0; RANDOM_BYTES];
    ring::default_provider().secure_random.fill(&mut random).map_err(|_| NoRandomBytes)?;
    Ok(Token::new(&random))
}

/// Stores a new token; returns when it expires.
///
/// # Errors
/// Database errors.
pub async fn create(conn: &mut Connection, new: &NewToken<'_>) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    let scopes: Vec<String> = new.scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
    let hash = new.token.hash();
    sqlx::query_scalar!(
        r#"
        -- api_tokens.create
        INSERT INTO billing.api_tokens (id, secret_sha256, scopes, user_id, note, expires_at)
        VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6::interval)
        RETURNING expires_at
        "#,
        new.token.id().as_str(),
        hash.as_bytes(),
        &scopes[..],
        new.user,
        new.note,
        new.lifetime.map(interval)
    )
    .fetch_one(conn)
    .await
}

/// Returns all tokens, newest first.
///
/// # Errors
/// Database errors.
pub async fn list(conn: &mut Connection) -> Result<Vec<StoredToken>, sqlx::Error> {
    sqlx::query_as!(
        StoredToken,
        r#"
        -- api_tokens.list
        SELECT id, scopes, user_id, note, created_at, expires_at, last_used_at, revoked_at,
            coalesce(expires_at <= clock_timestamp(), false) AS "is_expired!"
        FROM billing.api_tokens
        ORDER BY created_at DESC, id
        "#
    )
    .fetch_all(conn)
    .await
}

/// Revokes a token, at once and for good.
///
/// # Errors
/// Database errors.
pub async fn revoke(conn: &mut Connection, id: &TokenId) -> Result<Revocation, sqlx::Error> {
    let result = sqlx::query!(
        r#"
        -- api_tokens.revoke
        UPDATE billing.api_tokens SET revoked_at = clock_timestamp() WHERE id = $1 AND revoked_at IS NULL
        "#,
        id.as_str()
    )
    .execute(&mut *conn)
    .await?;
    if result.rows_affected() > 0 {
        return Ok(Revocation::Revoked);
    }
    // no transaction is needed: a revoked token stays revoked
    let is_stored = sqlx::query_scalar!(
        r#"
        -- api_tokens.is_stored
        SELECT EXISTS (SELECT FROM billing.api_tokens WHERE id = $1) AS "is_stored!"
        "#,
        id.as_str()
    )
    .fetch_one(conn)
    .await?;
    Ok(if is_stored { Revocation::AlreadyRevoked } else { Revocation::NotFound })
}

/// Returns what a token with this id is checked against; `None` if there is none.
///
/// # Errors
/// Database errors.
pub async fn find(conn: &mut Connection, id: &TokenId) -> Result<Option<Credential>, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        -- api_tokens.find
        SELECT secret_sha256, scopes, user_id,
            revoked_at IS NULL AND coalesce(expires_at > clock_timestamp(), true) AS "is_active!",
            coalesce(last_used_at <= clock_timestamp() - $2::interval, true) AS "is_touch_due!"
        FROM billing.api_tokens
        WHERE id = $1
        "#,
        id.as_str(),
        interval(LAST_USE_PRECISION)
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    // a CHECK of the table requires the length
    let hash = SecretHash::read(&row.secret_sha256)
        .ok_or_else(|| sqlx::Error::Decode("api_tokens.secret_sha256 does not have 32 bytes".into()))?;
    Ok(Some(Credential {
        hash,
        scopes: row.scopes.iter().filter_map(|name| Scope::parse(name)).collect(),
        user: row.user_id,
        is_active: row.is_active,
        is_touch_due: row.is_touch_due,
    }))
}

/// Records that a token is in use, unless that was recorded within the last minute.
///
/// # Errors
/// Database errors.
pub async fn touch(conn: &mut Connection, id: &TokenId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        -- api_tokens.touch
        UPDATE billing.api_tokens SET last_used_at = clock_timestamp()
        WHERE id = (
            SELECT id FROM billing.api_tokens
            WHERE id = $1 AND coalesce(last_used_at <= clock_timestamp() - $2::interval, true)
            -- concurrent requests with one token must not wait for each other
            FOR NO KEY UPDATE SKIP LOCKED
        )
        "#,
        id.as_str(),
        interval(LAST_USE_PRECISION)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Checks a token; `None` if it is malformed, unknown, wrong, revoked or expired. It takes one round trip, and once a
/// minute a second one, which records the use.
///
/// # Errors
/// Database errors of the check. A failure to record the use is logged: the request must not fail for it.
pub async fn authenticate(conn: &mut Connection, text: &str) -> Result<Option<Principal>, sqlx::Error> {
    let Some(token) = Token::parse(text) else { return Ok(None) };
    let found = find(conn, token.id()).await?;
    // an unknown id is compared too, so that it takes as long as a wrong secret
    let no_token = SecretHash::of_no_token();
    let is_right = found.as_ref().map_or(&no_token, |found| &found.hash).is_of(&token);
    let Some(credential) = found.filter(|found| is_right && found.is_active) else { return Ok(None) };
    if credential.is_touch_due
        && let Err(error) = touch(conn, token.id()).await
    {
        tracing::warn!(token.id = %token.id(), error = without_values(&error), "could not record the use of an API token; it is accepted anyway");
    }
    Ok(Some(Principal {
        id: format!("{TOKEN}{}", token.id()),
        user: credential.user,
        profile: Profile::default(),
        legacy_customer: None,
        scopes: credential.scopes,
    }))
}
