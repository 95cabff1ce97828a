//! `Idempotency-Key`: a repeated POST gets the answer of the first one and changes nothing.
//!
//! Without a change at Stripe, the key is stored in the transaction of the request, so key, effect and answer are
//! committed together: a process that is killed before the commit leaves none of them. A request that fails leaves no
//! key, so the client can repeat it with the same one. With a change at Stripe (`api::changes`), the key is committed with
//! a line of the ledger before the change, and its answer with the change.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use hyper::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use sqlx::error::DatabaseError;
use uuid::Uuid;

use super::answer::Answer;
use super::context::ApiContext;
use super::principal::Principal;
use super::problem::{Code, FieldError, Problem};
use crate::database::Connection;

/// Maximum length of a key in bytes.
const MAX_KEY: usize = 255;

/// SQLSTATE of a lock timeout.
const LOCK_TIMEOUT: &str = "55P03";

/// A request that may be a repetition.
#[derive(Debug, Clone)]
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
    check: impl AsyncFnOnce(&mut Connection) -> Result<(), Problem>,
    effect: impl AsyncFnOnce(&mut Connection) -> Result<Answer, Problem>,
) -> Result<Response, Problem> {
    let mut tx = api.begin().await?;
    check(&mut tx).await?;
    if let Some(request) = &request {
        match begin(&mut tx, request, None).await? {
            Earlier::None => {}
            Earlier::Answered(earlier, _) => return Ok(earlier.into_response()),
            Earlier::Unanswered(_) => return Err(still_running()),
        }
    }
    let mut answer = effect(&mut tx).await?;
    if let Some(request) = &request {
        answer = finish(&mut tx, request, answer).await?;
    }
    tx.commit().await?;
    Ok(answer.into_response())
}

/// What is known of a key.
#[derive(Debug)]
pub(super) enum Earlier {
    /// Nothing: it is stored now.
    None,
    /// The answer to the earlier request, and its line in the ledger.
    Answered(Answer, Option<Uuid>),
    /// The earlier request has this line in the ledger, and no answer yet.
    Unanswered(Uuid),
}

/// The problem of a repetition while the first request is in progress.
pub(super) fn still_running() -> Problem {
    let detail = "the first request with this Idempotency-Key is still running; repeat the request";
    Problem::new(Code::IdempotencyKeyInUse, detail).retry_after(Duration::from_secs(1))
}

/// Stores the key, with the request's line in the ledger, or returns what is known of it. A transaction that stores it
/// just now is waited for, until the lock timeout.
pub(super) async fn begin(
    conn: &mut Connection,
    request: &KeyedRequest,
    line: Option<Uuid>,
) -> Result<Earlier, Problem> {
    let stored = sqlx::query!(
        "-- api_requests.begin
        INSERT INTO billing.api_requests AS r (principal, idempotency_key, fingerprint, write_id) VALUES ($1, $2, $3, $4)
        ON CONFLICT (principal, idempotency_key) DO UPDATE
            SET fingerprint = excluded.fingerprint, write_id = excluded.write_id, status = NULL, location = NULL,
                body = NULL, created_at = clock_timestamp()
            WHERE r.created_at < clock_timestamp() - interval '24 hours' AND r.write_id IS NULL",
        request.principal,
        request.key,
        request.fingerprint,
        line
    )
    .execute(&mut *conn)
    .await;
    let is_new = match stored {
        Ok(stored) => stored.rows_affected() == 1,
        Err(error) if error.as_database_error().and_then(DatabaseError::code).as_deref() == Some(LOCK_TIMEOUT) => {
            return Err(still_running());
        }
        Err(error) => return Err(error.into()),
    };
    if is_new {
        return Ok(Earlier::None);
    }
    let earlier = sqlx::query!(
        r#"-- api_requests.earlier
        SELECT fingerprint, status, location, body, write_id,
            created_at < clock_timestamp() - interval '24 hours' AS "is_expired!"
        FROM billing.api_requests
        WHERE principal = $1 AND idempotency_key = $2"#,
        request.principal,
        request.key
    )
    .fetch_one(conn)
    .await?;
    if earlier.fingerprint != request.fingerprint {
        let detail = "this Idempotency-Key was used for another path or body; use a new key for each request";
        return Err(Problem::new(Code::IdempotencyKeyReused, detail));
    }
    if earlier.is_expired {
        let detail = "an Idempotency-Key is kept for 24 hours, and this one was used before; use a new key, after checking \
                      whether the change was made";
        return Err(Problem::new(Code::IdempotencyKeyExpired, detail));
    }
    match (earlier.status, earlier.write_id) {
        (None, Some(line)) => Ok(Earlier::Unanswered(line)),
        (status, line) => Ok(Earlier::Answered(answer_of(status, earlier.location, earlier.body), line)),
    }
}

/// The answer that is stored.
fn answer_of(status: Option<i32>, location: Option<String>, body: Option<String>) -> Answer {
    let status = status.and_then(|status| u16::try_from(status).ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
    Answer::replayed(status, body.unwrap_or_default().into_bytes(), location)
}

/// Stores the answer, and returns it; if another process has stored one meanwhile, returns that.
pub(super) async fn finish(
    conn: &mut Connection,
    request: &KeyedRequest,
    answer: Answer,
) -> Result<Answer, sqlx::Error> {
    let body = String::from_utf8_lossy(&answer.body);
    let stored = sqlx::query!(
        "-- api_requests.finish
        UPDATE billing.api_requests SET status = $3, location = $4, body = $5
        WHERE principal = $1 AND idempotency_key = $2 AND status IS NULL",
        request.principal,
        request.key,
        i32::from(answer.status.as_u16()),
        answer.location,
        body.as_ref()
    )
    .execute(&mut *conn)
    .await?;
    if stored.rows_affected() == 1 {
        return Ok(answer);
    }
    let first = sqlx::query!(
        "-- api_requests.first
        SELECT status, location, body FROM billing.api_requests WHERE principal = $1 AND idempotency_key = $2",
        request.principal,
        request.key
    );
    Ok(match first.fetch_optional(conn).await? {
        Some(first) => answer_of(first.status, first.location, first.body),
        None => answer,
    })
}

/// Deletes the key of a line without an answer: the request changed nothing. A later request may have the key already,
/// with a line of its own, which stays.
pub(super) async fn forget_unanswered(
    conn: &mut Connection,
    request: &KeyedRequest,
    line: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- api_requests.forget_unanswered
        DELETE FROM billing.api_requests
        WHERE principal = $1 AND idempotency_key = $2 AND write_id = $3 AND status IS NULL",
        request.principal,
        request.key,
        line
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Number of keys that are deleted at a time.
const FORGET_BATCH: i64 = 5_000;

/// Deletes keys that are older than 24 hours, some thousands at a time. Those with a line in the ledger stay as long as
/// that, so that an old key never makes a change twice. Returns whether there may be more.
pub(super) async fn forget(conn: &mut Connection) -> Result<bool, sqlx::Error> {
    let gone = sqlx::query!(
        "-- api_requests.forget
        DELETE FROM billing.api_requests AS r USING (
            SELECT old.principal, old.idempotency_key FROM billing.api_requests AS old
            WHERE old.created_at < clock_timestamp() - interval '24 hours' AND old.write_id IS NULL
            ORDER BY old.created_at LIMIT $1 FOR UPDATE SKIP LOCKED
        ) AS old
        WHERE r.principal = old.principal AND r.idempotency_key = old.idempotency_key",
        FORGET_BATCH
    )
    .execute(conn)
    .await?;
    Ok(gone.rows_affected() >= FORGET_BATCH.unsigned_abs())
}
