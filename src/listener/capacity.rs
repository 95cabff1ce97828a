//! A shared capacity: the slots of a listener, or the bytes of the bodies in flight.
//!
//! When none is left, the oldest share that is not kept ends, and the new one takes its place. So a client that holds a
//! share without authenticating cannot keep other clients out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// A capacity of slots or bytes.
#[derive(Debug, Clone)]
pub struct Capacity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Younger shares do not end for others.
    grace: Duration,
    table: Mutex<Table>,
    /// Notified when a share was returned or may end now.
    changed: Notify,
}

#[derive(Debug)]
struct Table {
    free: usize,
    next: u64,
    /// Active shares, oldest first.
    shares: BTreeMap<u64, ActiveShare>,
}

#[derive(Debug)]
struct ActiveShare {
    amount: usize,
    since: Instant,
    is_kept: bool,
    end: CancellationToken,
}

/// A part of a capacity, returned when dropped.
#[derive(Debug)]
pub struct Share {
    capacity: Capacity,
    number: u64,
    end: CancellationToken,
}

/// Error: the share has ended because another one took its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended;

/// Why no capacity is free now.
enum Full {
    /// From this time on the oldest share may end.
    Until(Instant),
    /// Every share is kept.
    Kept,
}

impl Capacity {
    /// A capacity of `total`. Every share has at least `grace` before it ends for another.
    pub fn new(total: usize, grace: Duration) -> Self {
        let table = Table { free: total, next: 0, shares: BTreeMap::new() };
        Self(Arc::new(Inner { grace, table: Mutex::new(table), changed: Notify::new() }))
    }

    /// Waits for a share of `amount`. The share numbered `spared` does not end for it.
    pub async fn take(&self, amount: usize, spared: Option<u64>) -> Share {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            let reserved = {
                let mut table = self.table();
                table.reserve(amount, spared, self.0.grace).map(|ended| (ended, table.insert(amount)))
            };
            match reserved {
                Ok((ended, (number, end))) => {
                    let share = Share { capacity: self.clone(), number, end };
                    if ended {
                        // shares that have ended release their sockets and memory first
                        tokio::task::yield_now().await;
                    }
                    return share;
                }
                Err(full) => full.passes(changed).await,
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Full {
    /// Returns when another attempt may succeed.
    async fn passes(self, changed: impl Future<Output = ()>) {
        match self {
            Self::Kept => changed.await,
            Self::Until(time) => tokio::select! {
                () = changed => {}
                () = sleep_until(time) => {}
            },
        }
    }
}

impl Table {
    /// Ends the oldest shares until `amount` is free. Returns whether any share ended.
    fn reserve(&mut self, amount: usize, spared: Option<u64>, grace: Duration) -> Result<bool, Full> {
        let latest = Instant::now().checked_sub(grace);
        let mut has_ended = false;
        while self.free < amount {
            let mut may_end = self.shares.iter().filter(|(number, held)| !held.is_kept && Some(**number) != spared);
            let (number, since) = may_end.next().map(|(number, held)| (*number, held.since)).ok_or(Full::Kept)?;
            if latest.is_none_or(|latest| since > latest) {
                return Err(Full::Until(since + grace));
            }
            if let Some(held) = self.shares.remove(&number) {
                self.free += held.amount;
                held.end.cancel();
                has_ended = true;
            }
        }
        Ok(has_ended)
    }

    fn insert(&mut self, amount: usize) -> (u64, CancellationToken) {
        let end = CancellationToken::new();
        self.free -= amount;
        self.add(ActiveShare { amount, since: Instant::now(), is_kept: false, end: end.clone() });
        (self.next, end)
    }

    /// Adds a share as the youngest.
    fn add(&mut self, held: ActiveShare) {
        self.next += 1;
        self.shares.insert(self.next, held);
    }
}

impl Share {
    /// Cancelled when the share has ended.
    pub fn end(&self) -> &CancellationToken {
        &self.end
    }

    /// The share's number, to exclude it in [`Capacity::take`].
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Waits until the share can grow by `amount`.
    ///
    /// # Errors
    /// When the share has ended, even while it waits.
    pub async fn grow(&mut self, amount: usize) -> Result<(), Ended> {
        loop {
            let mut changed = std::pin::pin!(self.capacity.0.changed.notified());
            changed.as_mut().enable();
            let Some(full) = self.try_grow(amount)? else { return Ok(()) };
            self.end.run_until_cancelled(full.passes(changed)).await.ok_or(Ended)?;
        }
    }

    fn try_grow(&self, amount: usize) -> Result<Option<Full>, Ended> {
        let mut table = self.capacity.table();
        if !table.shares.contains_key(&self.number) {
            return Err(Ended);
        }
        if let Err(full) = table.reserve(amount, Some(self.number), self.capacity.0.grace) {
            return Ok(Some(full));
        }
        table.free -= amount;
        if let Some(held) = table.shares.get_mut(&self.number) {
            held.amount += amount;
        }
        Ok(None)
    }

    /// From now on the share does not end for others.
    pub fn keep(&self) {
        if let Some(held) = self.capacity.table().shares.get_mut(&self.number) {
            held.is_kept = true;
        }
    }

    /// From now on the share may end for others, and is the youngest.
    pub fn renew(&mut self) {
        let mut table = self.capacity.table();
        if let Some(held) = table.shares.remove(&self.number) {
            table.add(ActiveShare { since: Instant::now(), is_kept: false, ..held });
            self.number = table.next;
        }
        drop(table);
        self.capacity.0.changed.notify_waiters();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut table = self.capacity.table();
        if let Some(held) = table.shares.remove(&self.number) {
            table.free += held.amount;
        }
        drop(table);
        self.capacity.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(50);

    fn is_ended(share: &Share) -> bool {
        share.end().is_cancelled()
    }

    #[tokio::test]
    async fn the_oldest_share_ends_first_and_a_kept_one_never() {
        let capacity = Capacity::new(3, Duration::ZERO);
        let kept = capacity.take(1, None).await;
        kept.keep();
        let (old, young) = (capacity.take(1, None).await, capacity.take(1, None).await);
        let new = capacity.take(1, None).await;
        assert_eq!([&kept, &old, &young, &new].map(is_ended), [false, true, false, false]);
        let newer = capacity.take(1, Some(young.number())).await;
        assert_eq!([&kept, &young, &new, &newer].map(is_ended), [false, false, true, false]);
    }

    #[tokio::test]
    async fn a_renewed_share_is_the_youngest() {
        let capacity = Capacity::new(2, Duration::ZERO);
        let (mut first, second) = (capacity.take(1, None).await, capacity.take(1, None).await);
        first.keep();
        first.renew();
        let _third = capacity.take(1, None).await;
        assert_eq!([&first, &second].map(is_ended), [false, true]);
    }

    #[tokio::test]
    async fn a_share_waits_while_all_others_are_kept() {
        let capacity = Capacity::new(1, Duration::ZERO);
        let kept = capacity.take(1, None).await;
        kept.keep();
        assert!(timeout(MOMENT, capacity.take(1, None)).await.is_err());
        let (_next, ()) = tokio::join!(capacity.take(1, None), async { drop(kept) });
    }

    #[tokio::test]
    async fn a_share_has_its_grace() {
        let capacity = Capacity::new(1, 2 * MOMENT);
        let first = capacity.take(1, None).await;
        let begin = Instant::now();
        assert!(timeout(MOMENT, capacity.take(1, None)).await.is_err());
        assert!(!is_ended(&first));
        let _second = capacity.take(1, None).await;
        assert!(is_ended(&first) && begin.elapsed() >= MOMENT, "{:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn the_amount_of_an_ended_share_is_returned_once() {
        let capacity = Capacity::new(10, Duration::ZERO);
        let mut first = capacity.take(4, None).await;
        assert_eq!(first.grow(4).await, Ok(()));
        let second = capacity.take(10, None).await;
        assert!(is_ended(&first));
        assert_eq!(first.grow(1).await, Err(Ended));
        drop(first);
        second.keep();
        assert!(timeout(MOMENT, capacity.take(1, None)).await.is_err());
        drop(second);
        assert_eq!(capacity.table().free, 10);
    }
}
