//! `Idempotency-Key`: a repeated POST gets the answer of the first one and changes nothing.
//!
//! The key is stored in the transaction of the request, so key, effect and answer are committed together: a process
//! that is killed before the commit leaves none of them. A request that fails leaves no key, so the client can repeat it
//! with the same one.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use hyper::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use sqlx::error::DatabaseError;

use super::answer::Answer;
use super::context::ApiContext;
use super::principal::Principal;
use super::problem::{Code, FieldError, Problem};

/// Maximum length of a key in bytes.
const MAX_KEY: usize = 255;

/// SQLSTATE of a lock timeout.
const LOCK_TIMEOUT: &str = "55P03";

/// A request that may be a repetition.
#[derive(Debug)]
pub(super) struct KeyedRequest {
    principal: String,
    key: String,
    fingerprint: Vec<u8>,
}

impl KeyedRequest {
    /// Reads the header; `None` without one. Two requests with one key are the same if `path` and `body` are.
    pub(super) fn read(
        headers: &HeaderMap,
        principal: &Principal,
        path: &str,
        body: &[u8],
    ) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else { return Ok(None) };
        let is_key = |key: &&str| (1..=MAX_KEY).contains(&key.len());
        let key = value.to_str().ok().filter(is_key).filter(|_| values.next().is_none());
        let key = key.ok_or_else(|| {
            let detail = format!("must be one header with 1 to {MAX_KEY} visible ASCII characters");
            Problem::invalid(vec![FieldError { pointer: "header Idempotency-Key".to_owned(), detail }])
        })?;
        let mut fingerprint = Sha256::new();
        fingerprint.update(path.as_bytes());
        fingerprint.update([0]);
        fingerprint.update(body);
        let fingerprint = fingerprint.finalize().to_vec();
        Ok(Some(Self { principal: principal.id.clone(), key: key.to_owned(), fingerprint }))
    }
}

/// Runs `effect` in a transaction, once for each idempotency key. Without a key it always runs. `check` runs before, also
/// for a repeated request, because the caller may have lost its rights since the first one.
pub(super) async fn once(
    api: &ApiContext,
    request: Option<KeyedRequest>,
    check: impl AsyncFnOnce(&mut PgConnection) -> Result<(), Problem>,
    effect: impl AsyncFnOnce(&mut PgConnection) -> Result<Answer, Problem>,
) -> Result<Response, Problem> {
    let mut tx = api.begin().await?;
    check(&mut tx).await?;
    if let Some(request) = &request
        && let Some(earlier) = begin(&mut tx, request).await?
    {
        return Ok(earlier.into_response());
    }
    let answer = effect(&mut tx).await?;
    if let Some(request) = &request {
        finish(&mut tx, request, &answer).await?;
    }
    tx.commit().await?;
    Ok(answer.into_response())
}

/// Stores the key, or returns the earlier answer. A first request that is still running is waited for, until the lock
/// timeout.
async fn begin(conn: &mut PgConnection, request: &KeyedRequest) -> Result<Option<Answer>, Problem> {
    let stored = sqlx::query!(
        "-- api_requests.begin
        INSERT INTO billing.api_requests AS r (principal, idempotency_key, fingerprint) VALUES ($1, $2, $3)
        ON CONFLICT (principal, idempotency_key) DO UPDATE
            SET fingerprint = excluded.fingerprint, status = NULL, location = NULL, body = NULL,
                created_at = clock_timestamp()
            WHERE r.created_at < clock_timestamp() - interval '24 hours'",
        request.principal,
        request.key,
        request.fingerprint
    )
    .execute(&mut *conn)
    .await;
    let is_new = match stored {
        Ok(stored) => stored.rows_affected() == 1,
        Err(error) if error.as_database_error().and_then(DatabaseError::code).as_deref() == Some(LOCK_TIMEOUT) => {
            let detail = "the first request with this Idempotency-Key is still running; repeat the request";
            return Err(Problem::new(Code::IdempotencyKeyInUse, detail).retry_after(Duration::from_secs(1)));
        }
        Err(error) => return Err(error.into()),
    };
    if is_new {
        return Ok(None);
    }
    let earlier = sqlx::query!(
        "-- api_requests.earlier
        SELECT fingerprint, status, location, body FROM billing.api_requests
        WHERE principal = $1 AND idempotency_key = $2",
        request.principal,
        request.key
    )
    .fetch_one(conn)
    .await?;
    if earlier.fingerprint != request.fingerprint {
        let detail = "this Idempotency-Key was used for another path or body; use a new key for each request";
        return Err(Problem::new(Code::IdempotencyKeyReused, detail));
    }
    let status = earlier.status.and_then(|status| u16::try_from(status).ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
    let body = earlier.body.unwrap_or_default().into_bytes();
    Ok(Some(Answer::replayed(status, body, earlier.location)))
}

async fn finish(conn: &mut PgConnection, request: &KeyedRequest, answer: &Answer) -> Result<(), sqlx::Error> {
    let body = String::from_utf8_lossy(&answer.body);
    sqlx::query!(
        "-- api_requests.finish
        UPDATE billing.api_requests SET status = $3, location = $4, body = $5
        WHERE principal = $1 AND idempotency_key = $2",
        request.principal,
        request.key,
        i32::from(answer.status.as_u16()),
        answer.location,
        body.as_ref()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Number of keys that are deleted at a time.
const FORGET_BATCH: i64 = 5_000;

/// Deletes keys that are older than 24 hours, some thousands at a time. Returns whether there may be more.
pub(super) async fn forget(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let gone = sqlx::query!(
        "-- api_requests.forget
        DELETE FROM billing.api_requests AS r USING (
            SELECT old.principal, old.idempotency_key FROM billing.api_requests AS old
            WHERE old.created_at < clock_timestamp() - interval '24 hours'
            ORDER BY old.created_at LIMIT $1 FOR UPDATE SKIP LOCKED
        ) AS old
        WHERE r.principal = old.principal AND r.idempotency_key = old.idempotency_key",
        FORGET_BATCH
    )
    .execute(conn)
    .await?;
    Ok(gone.rows_affected() >= FORGET_BATCH.unsigned_abs())
}
