//! `status`: one screen with what an operator needs first at night. Its first line is the verdict.
//!
//! ```text
//! figures (reads, part by part) ──▶ verdict (what needs attention) ──▶ screen, or json
//! ```
//!
//! Reads only. The statements are short, wait for no lock, and cost the same with any history.

mod figures;
mod json;
mod screen;
mod strip;
#[cfg(test)]
mod tests;
mod verdict;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::{sleep, timeout};

use self::figures::Figures;
use super::database::connect_with;
use super::output;
use super::settings::{DatabaseSettings, SettingArgs};
use super::signals::Signals;
use super::task::Task;
use crate::base::clock;
use crate::base::text::{in_utc, wrapped};
use crate::cli::units::span;
use crate::config::database::required;
use crate::config::source::Source;
use crate::database::hosts::Hosts;
use crate::database::instance::APPLICATION;
use crate::database::{Connection, Session};
use crate::migrations::{self, MigrationError};

/// Timeout of all statements together. A server that vanished does not answer at all.
const LIMIT: Duration = Duration::from_secs(15);

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Delays are measured from the arrival of an event here to its outcome.\n\n\
    Exit codes: 0 the status was shown; 1 it could not be read, or with --check\n\
    something needs attention; 2 usage or configuration error, or migrations are\n\
    missing.")]
pub struct Args {
    /// Refresh every so many seconds, until Ctrl-C.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
    /// Print one JSON object; with --watch, one object per line.
    #[arg(long)]
    json: bool,
    /// End with exit code 1 if something needs attention.
    #[arg(long, conflicts_with = "watch")]
    check: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
}

/// Why no figures could be read.
enum NoStatus {
    /// The schema is not that of this release.
    Schema(String),
    /// The database cannot be reached.
    Unreachable(String),
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        let hosts = required(source)?;
        Some(Box::pin(async move {
            match self.watch {
                None => self.once(&hosts).await,
                Some(seconds) => self.keep_watching(&hosts, Duration::from_secs(seconds)).await,
            }
        }))
    }

    async fn once(&self, hosts: &Hosts) -> anyhow::Result<ExitCode> {
        match read(&mut None, hosts).await {
            Ok(figures) => {
                let problems = verdict::problems(&figures);
                output::print(&self.text(&figures)?)?;
                let is_failure = self.check && !problems.is_empty();
                Ok(if is_failure { ExitCode::FAILURE } else { ExitCode::SUCCESS })
            }
            Err(NoStatus::Schema(wrong)) => Ok(output::refuse(&wrong)),
            Err(NoStatus::Unreachable(error)) => Err(anyhow::anyhow!(error)),
        }
    }

    /// Shows the status until a signal. While the database cannot be reached, shows since when.
    async fn keep_watching(&self, hosts: &Hosts, pause: Duration) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::listen()?;
        let is_terminal = io::stdout().is_terminal() && !self.json;
        if is_terminal {
            output::clear()?;
        }
        let mut conn = None;
        let mut lost_since = None;
        loop {
            let read = tokio::select! {
                read = read(&mut conn, hosts) => read,
                _ = signals.next() => return Ok(ExitCode::SUCCESS),
            };
            let text = match read {
                Ok(figures) => {
                    lost_since = None;
                    self.text(&figures)?
                }
                Err(NoStatus::Schema(wrong)) => return Ok(output::refuse(&wrong)),
                Err(NoStatus::Unreachable(error)) => {
                    let now = clock::now();
                    self.unreachable(now, *lost_since.get_or_insert(now), &error)?
                }
            };
            let is_read = match (is_terminal, self.json) {
                (true, _) => output::redraw(&text)?,
                (false, true) => output::print_to_reader(&text)?,
                (false, false) => output::print_to_reader(&format!("{text}\n"))?,
            };
            if !is_read {
                return Ok(ExitCode::SUCCESS);
            }
            tokio::select! {
                () = sleep(pause) => {}
                _ = signals.next() => return Ok(ExitCode::SUCCESS),
            }
        }
    }

    fn text(&self, figures: &Figures) -> anyhow::Result<String> {
        let problems = verdict::problems(figures);
        if self.json {
            return output::json_line(&json::object(figures, &problems));
        }
        Ok(screen::text(figures, &problems))
    }

    fn unreachable(&self, now: OffsetDateTime, since: OffsetDateTime, error: &str) -> anyhow::Result<String> {
        if self.json {
            return output::json_line(&json::unreachable(now, since, error));
        }
        let age = span((now - since).as_seconds_f64());
        let verdict = format!("The database cannot be reached since {} UTC ({age} ago).", in_utc(since));
        Ok(format!("{verdict}\n{}\n{}", wrapped("! ", error), wrapped("  ", "Trying again.")))
    }
}

/// Reads all figures, over a new connection if there is none. A connection that failed is closed.
async fn read(conn: &mut Option<Connection>, hosts: &Hosts) -> Result<Figures, NoStatus> {
    let is_named = hosts.current().options.get_application_name().is_some_and(|name| name != APPLICATION);
    let mut open = match conn.take() {
        Some(open) => open,
        None => connect(hosts).await?,
    };
    match timeout(LIMIT, Figures::read(&mut open, is_named)).await {
        Ok(Ok(figures)) => {
            *conn = Some(open);
            Ok(figures)
        }
        Ok(Err(error)) => Err(NoStatus::Unreachable(format!("the connection to the database was lost: {error}"))),
        Err(_) => Err(NoStatus::Unreachable(format!("the database did not answer within {} s", LIMIT.as_secs()))),
    }
}

async fn connect(hosts: &Hosts) -> Result<Connection, NoStatus> {
    let unreachable = |error: &anyhow::Error| NoStatus::Unreachable(output::causes(error));
    let mut conn = connect_with(hosts, Session::STATUS).await.map_err(|error| unreachable(&error))?;
    match migrations::pending(&mut conn).await {
        // a role that may not read the migrations may still read something
        Err(MigrationError::Privilege(_)) => Ok(conn),
        Ok(status) if status.is_current() => Ok(conn),
        Ok(status) => Err(NoStatus::Schema(format!("{}: {}", status.describe(), status.fix()))),
        Err(error) => Err(unreachable(&error.into())),
    }
}
