//! The frame of a long command: progress while it works, and one closing summary, however it ends.
//!
//! The summary is a sentence on standard output, or with `--json` the last object there. `backfill`, `verify`, `rebuild`,
//! `reconcile` and `renew` run in this frame. Refused arguments (exit code 2) have no summary, because nothing was
//! started.

use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::output;
use super::progress::Progress;
use super::signals::{Signals, StopSignal};

/// Time that the work has to end by itself after a signal, if it watches for one.
const GRACE: Duration = Duration::from_secs(5);

/// Exit code of `verify` if rows differ.
const DRIFT: u8 = 3;

/// Help text of the commands.
pub(super) const EXIT_CODES: &str = "Exit codes: 0 success; 1 failure, or a part could not be done; 2 usage or\n\
    configuration error; 130 interrupted by Ctrl-C, 143 by SIGTERM.";

/// How the work of a command ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// Everything was done.
    Complete,
    /// A part could not be done; the output names it.
    Incomplete,
    /// Rows differ from Stripe. `is_complete`: everything was compared.
    Differs { is_complete: bool },
    /// The arguments do not fit the data, or the schema does not fit this release: what is wrong, and the fix.
    Refused(String),
    /// The operator or the system stopped the command.
    Interrupted(StopSignal),
    /// An error ended the work early.
    Failed(anyhow::Error),
}

/// What a command has done so far.
pub(super) trait Summary {
    /// Name of the command.
    fn command(&self) -> &'static str;

    /// The counts as text, wrapped to the terminal. `took`: duration of the command.
    fn text(&self, took: &str) -> String;

    /// The counts as JSON, see [`map`].
    fn json(&self) -> Map<String, Value>;

    /// Whether there is anything to count. Otherwise the error of failed work stands alone.
    fn has_done_anything(&self) -> bool;

    /// What is stored if the work ended early, and the command that does the rest: a sentence without its full stop.
    fn next_step(&self) -> &'static str;
}

/// Runs the work of a command until its end or a signal, and prints its summary. A signal drops the work; with `stop`,
/// it cancels that first, and the work may end by itself.
pub(super) async fn run<S: Summary>(
    mut summary: S,
    json: bool,
    stop: Option<CancellationToken>,
    work: impl AsyncFnOnce(&Progress, &mut S) -> anyhow::Result<Ending>,
) -> anyhow::Result<ExitCode> {
    let (began, progress) = (Instant::now(), Progress::start(summary.command()));
    // on the heap, because the futures of these commands are large
    let ending = until_signal(stop, Box::pin(work(&progress, &mut summary))).await;
    drop(progress);
    close(&summary, ending, began.elapsed(), json)
}

async fn until_signal(
    stop: Option<CancellationToken>,
    mut work: Pin<Box<impl Future<Output = anyhow::Result<Ending>>>>,
) -> Ending {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return Ending::Failed(anyhow::Error::new(error).context("cannot listen for signals")),
    };
    let signal = tokio::select! {
        ended = work.as_mut() => return ended.unwrap_or_else(Ending::Failed),
        signal = signals.next() => signal,
    };
    if let Some(stop) = stop {
        stop.cancel();
        tokio::select! {
            _ = work => {}
            _ = signals.next() => {}
            () = tokio::time::sleep(GRACE) => {}
        }
    }
    Ending::Interrupted(signal)
}

/// Prints the summary and returns the exit code. The error of failed work is returned, because `main` prints it.
fn close(summary: &impl Summary, ending: Ending, took: Duration, json: bool) -> anyhow::Result<ExitCode> {
    if let Ending::Refused(wrong) = &ending {
        return Ok(output::refuse(wrong));
    }
    if json {
        output::print_json(&json!({ "summary": object(summary, &ending, took) }))?;
    } else if summary.has_done_anything() || !matches!(ending, Ending::Failed(_)) {
        output::print(&sentences(summary, &ending, took))?;
    }
    match ending {
        Ending::Complete => Ok(ExitCode::SUCCESS),
        Ending::Incomplete | Ending::Refused(_) => Ok(ExitCode::FAILURE),
        Ending::Differs { .. } => Ok(ExitCode::from(DRIFT)),
        Ending::Interrupted(signal) => Ok(signal.exit_code()),
        Ending::Failed(error) => Err(error),
    }
}

fn object(summary: &impl Summary, ending: &Ending, took: Duration) -> Map<String, Value> {
    let outcome = match ending {
        Ending::Complete | Ending::Differs { is_complete: true } => "complete",
        Ending::Incomplete | Ending::Differs { is_complete: false } => "incomplete",
        Ending::Interrupted(_) => "interrupted",
        Ending::Failed(_) | Ending::Refused(_) => "failed",
    };
    let error = match ending {
        Ending::Interrupted(signal) => Some(format!("interrupted by {}", signal.name())),
        Ending::Failed(error) => Some(output::causes(error)),
        _ => None,
    };
    let next_step = error.is_some().then(|| summary.next_step());
    let mut object = map(json!({
        "command": summary.command(), "outcome": outcome, "seconds": took.as_secs_f64(),
        "error": error, "next_step": next_step,
    }));
    object.append(&mut summary.json());
    object
}

/// The fields of a JSON object.
pub(super) fn map(object: Value) -> Map<String, Value> {
    if let Value::Object(map) = object { map } else { Map::new() }
}

fn sentences(summary: &impl Summary, ending: &Ending, took: Duration) -> String {
    let text = summary.text(&duration(took));
    let reason = match ending {
        Ending::Interrupted(signal) => format!("interrupted by {}", signal.name()),
        Ending::Failed(_) => "ended early by an error".to_owned(),
        _ => return text,
    };
    format!("{text}\n{}", output::wrapped("", &format!("{reason}: {}", summary.next_step())))
}

/// Whole seconds, or milliseconds below ten seconds.
fn duration(took: Duration) -> String {
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let rounded = if milliseconds < 10_000 { milliseconds } else { milliseconds / 1000 * 1000 };
    humantime::format_duration(Duration::from_millis(rounded)).to_string()
}
