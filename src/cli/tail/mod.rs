//! `tail`: events as they are processed, and what each changed, like `tail -f`.
//!
//! An event is shown once it has an outcome, so that its changes are shown with it. Events that wait for long are
//! reported together, at intervals. Reads only. `horizon` explains why no event is missed or shown twice.

mod follow;
mod horizon;
mod show;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use sqlx::error::DatabaseError;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use self::follow::{Follower, Shown};
use super::database::connect_with;
use super::output;
use super::settings::{DatabaseSettings, SettingArgs};
use super::signals::Signals;
use super::task::Task;
use crate::admin::tail::{self, Change, Filter};
use crate::base::clock;
use crate::base::text::{in_utc, wrapped};
use crate::cli::units::span;
use crate::config::database::required;
use crate::config::source::Source;
use crate::database::hosts::Hosts;
use crate::database::{Connection, Session};
use crate::migrations::{self, MigrationError};

/// Pause between two polls.
const PAUSE: Duration = Duration::from_secs(1);
/// Timeout of a poll, above the server's timeouts of its statements.
const LIMIT: Duration = Duration::from_secs(150);
/// Age above which pending events are reported, and the interval of these reports.
const WAITING: Duration = Duration::from_secs(30);

/// Arguments of `tail`.
#[derive(Debug, clap::Args)]
#[command(after_help = "An event is shown when it is done or dead, with the rows that it changed;\n\
    changes of several events are shown with the last of them. Times are UTC.\n\n\
    Exit codes: 0 ended by Ctrl-C; 1 the events could not be read; 2 usage or\n\
    configuration error, or migrations are missing.")]
pub struct Args {
    /// Begin with the last N events.
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(i64).range(0..=10_000))]
    lines: i64,
    /// Show only events of this customer and its objects.
    #[arg(long, value_name = "CUSTOMER_ID")]
    customer: Option<String>,
    /// Show only events of this workspace's customers, and those that take a row out of it.
    #[arg(long, value_name = "UUID", conflicts_with = "customer")]
    workspace: Option<Uuid>,
    /// Print JSON, one event per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
}

/// Why the events cannot be followed.
enum Stop {
    /// Output is not read any more.
    Closed,
    /// The database cannot be reached; tried again.
    Lost(String),
    /// Trying again would not help.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<sqlx::Error> for Stop {
    /// A syntax or access error (class 42) is permanent, such as a missing right; everything else may pass.
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(DatabaseError::code).unwrap_or_default().into_owned();
        if code.starts_with("42") { Self::Failed(error.into()) } else { Self::Lost(error.to_string()) }
    }
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        let hosts = required(source)?;
        Some(Box::pin(async move { self.run(&hosts).await }))
    }

    async fn run(self, hosts: &Hosts) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::listen()?;
        // the first connection must succeed, because a wrong address is more likely than an outage
        let mut conn = connect_with(hosts, Session::BACKGROUND).await?;
        match migrations::pending(&mut conn).await {
            Err(MigrationError::Privilege(_)) => {}
            status => {
                let status = status?;
                if !status.is_current() {
                    return Ok(output::refuse(&format!("{}: {}", status.describe(), status.fix())));
                }
            }
        }
        tokio::select! {
            ended = self.keep_following(hosts, conn) => ended,
            _ = signals.next() => Ok(ExitCode::SUCCESS),
        }
    }

    /// Follows until an error that lasts; reconnects after a lost connection.
    async fn keep_following(&self, hosts: &Hosts, conn: Connection) -> anyhow::Result<ExitCode> {
        let filter = Filter { customer: self.customer.clone(), workspace: self.workspace };
        let mut follower = Follower::new(filter.clone());
        let mut conn = Some(conn);
        let mut lost_at: Option<Instant> = None;
        loop {
            let ended = match conn.take() {
                Some(mut open) => {
                    if let Some(lost_at) = lost_at.take() {
                        let after = span(lost_at.elapsed().as_secs_f64());
                        say(&format!("connected to the database again after {after}; continuing where it was lost"));
                    }
                    self.follow(&mut open, &mut follower, &filter).await
                }
                None => match hosts.connect(Session::BACKGROUND).await {
                    Ok(open) => {
                        conn = Some(open);
                        continue;
                    }
                    Err(error) => Err(Stop::Lost(output::causes(&error.into()))),
                },
            };
            match ended {
                Ok(()) | Err(Stop::Closed) => return Ok(ExitCode::SUCCESS),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Lost(error)) => {
                    if lost_at.is_none() {
                        say(&format!("the connection to the database was lost, trying again: {error}"));
                        follower.reconnect();
                        lost_at = Some(Instant::now());
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Shows events over one connection until it fails.
    async fn follow(&self, conn: &mut Connection, follower: &mut Follower, filter: &Filter) -> Result<(), Stop> {
        if !follower.has_started() {
            for shown in follower.start(conn, self.lines).await? {
                self.print(&shown)?;
            }
        }
        let mut reported_at: Option<Instant> = None;
        loop {
            // a server that vanished does not answer at all
            let polled = timeout(LIMIT, follower.poll(conn)).await;
            let silent = |_| Stop::Lost(format!("the database did not answer within {} s", LIMIT.as_secs()));
            let (new, has_more) = polled.map_err(silent)??;
            for shown in &new {
                self.print(shown)?;
            }
            if has_more {
                continue;
            }
            if reported_at.is_none_or(|at| at.elapsed() >= WAITING) {
                reported_at = Some(Instant::now());
                self.report_waiting(conn, filter).await?;
            }
            sleep(PAUSE).await;
        }
    }

    fn print(&self, Shown { event, changes }: &Shown) -> Result<(), Stop> {
        let changes: Vec<&Change> = changes.iter().collect();
        if self.json {
            return printed(&output::json_line(&show::event_json(event, &changes))?);
        }
        printed(&show::event(event, &changes))
    }

    async fn report_waiting(&self, conn: &mut Connection, filter: &Filter) -> Result<(), Stop> {
        let Some(waiting) = tail::waiting(conn, WAITING.as_secs_f64(), filter).await? else { return Ok(()) };
        let now = clock::now();
        if self.json {
            return printed(&output::json_line(&show::waiting_json(now, &waiting))?);
        }
        printed(&show::waiting(now, &waiting))
    }
}

fn printed(text: &str) -> Result<(), Stop> {
    if output::print_to_reader(text)? { Ok(()) } else { Err(Stop::Closed) }
}

/// Reports something about `tail` itself, beside the events.
fn say(text: &str) {
    output::complain(&wrapped(&format!("{}  ", in_utc(clock::now())), text));
}
