//! Reads a request's body within a limit of bytes and of time, and no further than the budget for all bodies pays for.
//! Called by [`super::door`].

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Incoming};
use tokio::time::timeout;

use crate::listener::capacity::{Capacity, Share};

/// Every body has this time before it may end for another.
const GRACE: Duration = Duration::from_millis(100);
/// How long a body waits for its part of the budget.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

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
    #[error("too many bytes of bodies at a time (BILLING_SYNC_BODY_BUDGET): try again later")]
    OverBudget,
}

/// Reads bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    budget: Capacity,
    limit: usize,
    patience: Duration,
}

/// A whole body, and the part of the budget that pays for it.
#[derive(Debug)]
pub(super) struct Payload {
    bytes: Vec<u8>,
    share: Option<Share>,
}

impl Bodies {
    /// At most `budget` bytes at a time, and `limit` of one body, which has to arrive within `patience`.
    pub(super) fn new(budget: usize, limit: usize, patience: Duration) -> Self {
        Self { budget: Capacity::new(budget, GRACE), limit, patience }
    }

    /// The whole body, announced or not.
    pub(super) async fn read(&self, mut body: Incoming) -> Result<Payload, BodyError> {
        let read = timeout(self.patience, self.collect(&mut body)).await.unwrap_or(Err(BodyError::Slow));
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
        while let Some(frame) = payload.while_paid(body.frame()).await? {
            let frame = frame.map_err(|_| BodyError::Aborted)?;
            // the other kind of frame is trailers, which nobody signs
            let Some(data) = frame.data_ref() else { continue };
            let length = payload.bytes.len() + data.len();
            if length > self.limit {
                return Err(BodyError::TooLarge);
            }
            payload.make_room(length, self).await?;
            payload.bytes.extend_from_slice(data);
        }
        Ok(payload)
    }
}

impl Payload {
    /// Pays for a body of `length` bytes before the memory is taken.
    async fn make_room(&mut self, length: usize, bodies: &Bodies) -> Result<(), BodyError> {
        let paid = self.bytes.capacity();
        if length <= paid {
            return Ok(());
        }
        // not more than twice what has arrived, whatever was announced
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

    /// Waits for more, unless the share ends for another body.
    async fn while_paid<T>(&self, more: impl Future<Output = T>) -> Result<T, BodyError> {
        match &self.share {
            Some(share) => share.end().run_until_cancelled(more).await.ok_or(BodyError::OverBudget),
            None => Ok(more.await),
        }
    }

    /// Says that the body is authenticated: it does not end for others from now on.
    pub(super) fn keep(&self) {
        if let Some(share) = &self.share {
            share.keep();
        }
    }

    /// Its bytes. They are paid for until the last copy is dropped.
    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
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
