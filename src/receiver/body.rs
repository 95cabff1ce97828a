//! Reads a request's body within a size limit, a timeout and the shared budget for all bodies. Called by
//! [`super::handler`].

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Incoming};
use tokio::time::timeout;

use crate::listener::capacity::{Capacity, Share};

/// Time that every body has before it may end for another.
const GRACE: Duration = Duration::from_millis(100);
/// Maximum time that a body waits for its part of the budget.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Bytes of a refused body that are still read, so that its sender receives the answer.
const LINGER_BYTES: usize = 8 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body is larger than BILLING_SYNC_BODY_LIMIT")]
    TooLarge,
    #[error("the body did not arrive in time")]
    Slow,
    #[error("the body is incomplete")]
    Aborted,
    #[error("concurrent bodies exceed BILLING_SYNC_BODY_BUDGET: try again later")]
    OverBudget,
}

/// Reads request bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    budget: Capacity,
    limit: usize,
    timeout: Duration,
}

/// A complete body with its part of the budget.
#[derive(Debug)]
pub(super) struct Payload {
    bytes: Vec<u8>,
    share: Option<Share>,
}

impl Bodies {
    /// Reads at most `budget` bytes at a time and `limit` bytes of one body, which must arrive within `timeout`.
    pub(super) fn new(budget: usize, limit: usize, timeout: Duration) -> Self {
        Self { budget: Capacity::new(budget, GRACE), limit, timeout }
    }

    /// Reads the whole body, with or without a `Content-Length`.
    pub(super) async fn read(&self, mut body: Incoming) -> Result<Payload, BodyError> {
        let read = timeout(self.timeout, self.collect(&mut body)).await.unwrap_or(Err(BodyError::Slow));
        if matches!(read, Err(BodyError::TooLarge | BodyError::OverBudget)) {
            linger(body);
        }
        read
    }

    async fn collect(&self, body: &mut Incoming) -> Result<Payload, BodyError> {
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > self.limit {
            return Err(BodyError::TooLarge);
        }
        let mut payload = Payload { bytes: Vec::new(), share: None };
        while let Some(frame) = payload.until_ended(body.frame()).await? {
            let frame = frame.map_err(|_| BodyError::Aborted)?;
            // the other kind of frame is trailers, which are not signed
            let Some(data) = frame.data_ref() else { continue };
            let length = payload.bytes.len() + data.len();
            if length > self.limit {
                return Err(BodyError::TooLarge);
            }
            payload.reserve(length, self).await?;
            payload.bytes.extend_from_slice(data);
        }
        Ok(payload)
    }
}

impl Payload {
    /// Reserves budget for a body of `length` bytes before allocating memory.
    async fn reserve(&mut self, length: usize, bodies: &Bodies) -> Result<(), BodyError> {
        let paid = self.bytes.capacity();
        if length <= paid {
            return Ok(());
        }
        // at most twice the bytes that have arrived, whatever length was announced
        let capacity = length.max((2 * paid).min(bodies.limit));
        let pay = async {
            if let Some(share) = &mut self.share {
                return share.grow(capacity - paid).await.ok();
            }
            self.share = Some(bodies.budget.take(capacity, None).await);
            Some(())
        };
        timeout(LONGEST_WAIT, pay).await.ok().flatten().ok_or(BodyError::OverBudget)?;
        self.bytes.reserve_exact(capacity - self.bytes.len());
        Ok(())
    }

    /// Waits for more data, unless the share ends for another body.
    async fn until_ended<T>(&self, more: impl Future<Output = T>) -> Result<T, BodyError> {
        match &self.share {
            Some(share) => share.end().run_until_cancelled(more).await.ok_or(BodyError::OverBudget),
            None => Ok(more.await),
        }
    }

    /// Marks the body as authenticated: from now on it does not end for others.
    pub(super) fn keep(&self) {
        if let Some(share) = &self.share {
            share.keep();
        }
    }

    /// Returns the bytes. They count against the budget until the last copy is dropped.
    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads for a moment longer and discards the data.
///
/// The answer is sent meanwhile. Closing a socket with unread bytes resets the connection, and many senders would then
/// report the reset instead of the answer that explains the error.
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
