//! Threads of the workers, apart from those that answer requests.
//!
//! A batch of 500 events keeps a thread busy for tens of milliseconds, while it reads and projects them. On a thread of
//! the process's runtime, a delivery that has just arrived would wait as long. On threads of their own, the operating
//! system lets the receiver interrupt the workers.

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime for workers. Tasks that still run when it is dropped end at their next wait.
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    /// Starts `count` threads.
    pub(super) fn start(count: usize) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(count).thread_name("worker").enable_all().build();
        if let Err(error) = &runtime {
            tracing::warn!(%error, "could not start threads for the workers; they use those of the process");
        }
        Self(runtime.ok())
    }

    /// The handle on which workers are spawned.
    pub(super) fn handle(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // dropping a runtime waits for its threads, which is forbidden in a task
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_busy_worker_does_not_block_the_runtime_of_requests() {
        let threads = Threads::start(1);
        let (answer, answered) = mpsc::channel();
        let busy = threads.handle().spawn(async move { answered.recv_timeout(Duration::from_secs(10)) });
        // on this runtime, which has one thread, the task would block the answer that it waits for
        tokio::task::yield_now().await;
        answer.send(()).unwrap();
        assert_eq!(busy.await.unwrap(), Ok(()));
    }
}
