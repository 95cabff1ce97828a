//! Reads a request's body within a limit of bytes and of time. Called by [`super::door`].

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Incoming};
use tokio::time::timeout;

/// What is set aside before the first byte, however much the sender announces.
const FIRST_CAPACITY: usize = 64 * 1024;

/// How much of a body that nobody wants is read, and for how long, so that its sender gets to read the answer.
const LINGER_BYTES: usize = 8 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Why a body is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body is longer than this endpoint takes (BILLING_SYNC_BODY_LIMIT)")]
    TooLarge,
    #[error("the body did not arrive in time")]
    Slow,
    #[error("the body broke off")]
    Aborted,
}

/// The whole body, of at most `limit` bytes, announced or not, within `patience`.
pub(super) async fn read(mut body: Incoming, limit: usize, patience: Duration) -> Result<Bytes, BodyError> {
    let read = timeout(patience, collect(&mut body, limit)).await.unwrap_or(Err(BodyError::Slow));
    if read == Err(BodyError::TooLarge) {
        linger(body);
    }
    read
}

async fn collect(body: &mut Incoming, limit: usize) -> Result<Bytes, BodyError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(BodyError::TooLarge);
    }
    let mut bytes = Vec::with_capacity(announced.min(FIRST_CAPACITY));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BodyError::Aborted)?;
        // the other kind of frame is trailers, which nobody signs
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(BodyError::TooLarge);
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes.into())
}

/// Reads on for a moment and throws away.
///
/// The answer is sent meanwhile. Closing a socket with unread bytes resets the connection, and many senders would
/// then report the reset instead of the answer that says what is wrong.
pub(super) fn linger(mut body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    tokio::spawn(timeout(LINGER_TIME, async move {
        let mut left = LINGER_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    }));
}
