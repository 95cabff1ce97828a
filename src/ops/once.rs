//! Simultaneous requests for the same work share one execution and its result.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OnceCell;

/// Work of one kind. A request after its end starts a new execution.
#[derive(Debug)]
pub(super) struct SharedRun<T>(Mutex<Weak<OnceCell<T>>>);

impl<T> Default for SharedRun<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> SharedRun<T> {
    /// Waits for the execution in progress, or runs `work`. If the caller that runs it is dropped, another waiting
    /// caller runs its own.
    pub(super) async fn run(&self, work: impl Future<Output = T>) -> T {
        let result = self.current();
        result.get_or_init(|| work).await.clone()
    }

    fn current(&self) -> Arc<OnceCell<T>> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(result) = current.upgrade().filter(|result| !result.initialized()) {
            return result;
        }
        let result = Arc::new(OnceCell::new());
        *current = Arc::downgrade(&result);
        result
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;

    async fn slow(result: u32) -> u32 {
        sleep(Duration::from_millis(50)).await;
        result
    }

    #[tokio::test]
    async fn concurrent_requests_share_one_execution() {
        let work = SharedRun::default();
        assert_eq!(tokio::join!(work.run(slow(1)), work.run(slow(2)), work.run(slow(3))), (1, 1, 1));
        assert_eq!(work.run(slow(4)).await, 4);
    }

    #[tokio::test]
    async fn a_request_after_the_end_starts_a_new_execution() {
        let work = SharedRun::default();
        let (mut first, mut waiting) = (Box::pin(work.run(slow(1))), Box::pin(work.run(slow(2))));
        assert!(timeout(Duration::from_millis(1), &mut first).await.is_err());
        assert!(timeout(Duration::from_millis(1), &mut waiting).await.is_err());
        assert_eq!(first.await, 1);
        assert_eq!(work.run(slow(3)).await, 3);
        assert_eq!(waiting.await, 1);
    }

    #[tokio::test]
    async fn another_caller_takes_over_a_dropped_execution() {
        let work = SharedRun::default();
        let (gone, done) = tokio::join!(timeout(Duration::from_millis(10), work.run(slow(1))), work.run(slow(2)));
        assert!(gone.is_err());
        assert_eq!(done, 2);
    }
}
