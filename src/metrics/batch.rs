//! Time that the worker spends in each step of a batch: a stopwatch, and the metrics of this process.
//!
//! The steps follow one another without a gap, so their sum is the time of the batch.

use std::time::{Duration, Instant};

use prometheus::{Counter, CounterVec, Histogram, Opts, Registry};

use super::families::durations;

/// A step of a batch: the label `step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Finding due events, locking them, fetching their payloads, and recording that the batch is running.
    Claim,
    /// Reading the payloads, in this process.
    Read,
    /// Finding the customers that the objects belong to.
    Find,
    /// Locking the objects and the customers, including the wait for other workers.
    Lock,
    /// Merging the objects into the mirror, and adding facts.
    Merge,
    /// Loading the data that rows are derived from, computing the rows, and writing those that changed.
    Project,
    /// Writing jobs and the outcomes of the events.
    Settle,
    /// The commit, including the wait for the disk and for a synchronous standby.
    Commit,
}

impl Step {
    /// All steps, in the order in which they happen.
    pub const ALL: [Self; 8] =
        [Self::Claim, Self::Read, Self::Find, Self::Lock, Self::Merge, Self::Project, Self::Settle, Self::Commit];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Read => "read",
            Self::Find => "find",
            Self::Lock => "lock",
            Self::Merge => "merge",
            Self::Project => "project",
            Self::Settle => "settle",
            Self::Commit => "commit",
        }
    }
}

/// Measures the steps of one batch.
#[derive(Debug, Clone)]
pub struct Stopwatch {
    began: Instant,
    /// Start of the current step.
    last: Instant,
    /// Time spent in each step of [`Step::ALL`].
    steps: [Duration; Step::ALL.len()],
}

impl Default for Stopwatch {
    /// A stopwatch that starts now.
    fn default() -> Self {
        let now = Instant::now();
        Self { began: now, last: now, steps: Default::default() }
    }
}

impl Stopwatch {
    /// Start of the batch.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Adds the time since the previous step to this step.
    pub fn done(&mut self, step: Step) {
        let now = Instant::now();
        self.steps[step as usize] += now - self.last;
        self.last = now;
    }
}

/// The times of committed batches.
#[derive(Debug, Clone)]
pub(super) struct BatchMetrics {
    duration: Histogram,
    steps: [Counter; Step::ALL.len()],
}

impl BatchMetrics {
    /// Declares the metrics.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let duration = durations(
            registry,
            "billing_sync_batch_duration_seconds",
            "Seconds from the claim of a batch, or of an isolated event, to its commit; for a read of Stripe's API, \
             from the first statement of its transaction.",
        )?;
        let help = "Seconds that committed batches spent in each step, in order: claim, read, find, lock, merge, \
                    project, settle, commit.";
        let steps = CounterVec::new(Opts::new("billing_sync_batch_step_seconds_total", help), &["step"])?;
        registry.register(Box::new(steps.clone()))?;
        Ok(Self { duration, steps: Step::ALL.map(|step| steps.with_label_values(&[step.as_str()])) })
    }

    /// Counts one committed batch.
    pub(super) fn batch(&self, watch: &Stopwatch) {
        self.duration.observe(watch.began.elapsed().as_secs_f64());
        for (counter, time) in self.steps.iter().zip(watch.steps) {
            counter.inc_by(time.as_secs_f64());
        }
    }
}
