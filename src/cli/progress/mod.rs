//! Progress of a long command on standard error: a status line on a terminal, otherwise a line at intervals.
//!
//! ```text
//! command ──stage, add, facts──▶ Progress ──state──▶ view (PURE) ──line──▶ status line of the terminal, or standard error
//! waiting code ──▶ Waits (base) ──────┘ every 100 ms
//! ```
//!
//! All long commands use it in the same way: one [`Progress`] from the start of the command to its summary. Each stage
//! has a title, a unit, and the extent of its work if that is known. Results and notes are printed as everywhere, with
//! [`super::output`], which removes the status line first.

mod lines;
mod view;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use self::lines::Lines;
pub(super) use self::view::Extent;
use self::view::View;
use super::output;
use crate::base::status_line;
use crate::base::waits::Waits;

/// Interval at which the display is renewed.
const TICK: Duration = Duration::from_millis(100);

/// Progress display of a running command. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    stage: Arc<Mutex<Stage>>,
    waits: Waits,
    ticker: JoinHandle<()>,
}

/// State of the current stage.
#[derive(Debug)]
struct Stage {
    title: String,
    unit: &'static str,
    extent: Extent,
    done: u64,
    before: u64,
    facts: String,
    began: Instant,
    changed: Instant,
    /// Whether the command has ended, so that nothing is shown any more.
    ended: bool,
}

impl Stage {
    fn new(title: String, unit: &'static str, extent: Extent, before: u64) -> Self {
        let now = Instant::now();
        Self { title, unit, extent, done: before, before, facts: String::new(), began: now, changed: now, ended: false }
    }

    fn view(&self, waits: &Waits) -> View {
        let idle = self.changed.elapsed();
        View {
            title: self.title.clone(),
            unit: self.unit,
            extent: self.extent,
            done: self.done,
            before: self.before,
            facts: self.facts.clone(),
            elapsed: self.began.elapsed(),
            idle,
            unexplained: waits.ended_ago().map_or(idle, |ended| ended.min(idle)),
            wait: waits.current(),
        }
    }
}

impl Progress {
    /// Starts the display of `command`. Its first stage prepares the work: it connects and checks the key.
    pub(super) fn start(command: &'static str) -> Self {
        let stage = Arc::new(Mutex::new(Stage::new("starting".to_owned(), "", Extent::Unknown, 0)));
        let waits = Waits::default();
        let ticker = tokio::spawn(display(command, Arc::clone(&stage), waits.clone()));
        Self { stage, waits, ticker }
    }

    /// The register of waits, for the code that does the work.
    pub(super) fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Begins a stage. `before`: units that an interrupted run had done.
    pub(super) fn stage(&self, title: impl Into<String>, unit: &'static str, extent: Extent, before: u64) {
        *self.state() = Stage::new(title.into(), unit, extent, before);
    }

    /// Changes the title of the stage.
    pub(super) fn title(&self, title: String) {
        self.state().title = title;
    }

    /// Sets the number of units that are done.
    pub(super) fn done(&self, done: u64) {
        let mut stage = self.state();
        if stage.done != done {
            stage.done = done;
            stage.changed = Instant::now();
        }
    }

    /// Adds units that are done.
    pub(super) fn add(&self, done: u64) {
        let done = self.state().done.saturating_add(done);
        self.done(done);
    }

    /// Sets how much work the stage has. A share that is done never decreases.
    pub(super) fn extent(&self, extent: Extent) {
        let mut stage = self.state();
        let extent = match (stage.extent, extent) {
            (Extent::Share(before), Extent::Share(now)) => Extent::Share(now.max(before)),
            (_, extent) => extent,
        };
        if stage.extent != extent {
            stage.extent = extent;
            stage.changed = Instant::now();
        }
    }

    /// Sets further facts, such as "12 rows changed".
    pub(super) fn facts(&self, facts: String) {
        let mut stage = self.state();
        if stage.facts != facts {
            stage.facts = facts;
            stage.changed = Instant::now();
        }
    }

    fn state(&self) -> MutexGuard<'_, Stage> {
        state(&self.stage)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.ticker.abort();
        // the display may be about to show a line: it holds this lock meanwhile
        self.state().ended = true;
        status_line::remove();
    }
}

fn state(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Renews the display until it is aborted.
async fn display(command: &'static str, stage: Arc<Mutex<Stage>>, waits: Waits) {
    let mut lines = Lines::default();
    let began = Instant::now();
    loop {
        tokio::time::sleep(TICK).await;
        let stage = state(&stage);
        if stage.ended {
            return;
        }
        let view = stage.view(&waits);
        if status_line::width().is_some() {
            status_line::show(|width| view.fitted(width));
        } else if let Some(line) = lines.due(began.elapsed(), &view) {
            output::complain(&format!("{command}: {line}"));
        }
    }
}
