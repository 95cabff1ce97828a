//! The command line: one file a command. Arguments and configuration become a task, which `main` runs.
//!
//! Exit codes: 0 success, 1 failure, 2 usage or configuration error, 3 drift that `verify` found. Nothing else prints; the only place that uses
//! `anyhow`, because here every error ends as a sentence for the operator.

mod asking;
pub mod backfill;
mod changes;
pub mod database;
pub mod demo;
pub mod doctor;
pub mod explain;
pub mod health;
pub mod migrate;
pub mod outbox;
pub mod output;
mod progress;
pub mod rebuild;
pub mod reconcile;
pub mod renew;
pub mod send;
pub mod serve;
pub mod settings;
pub mod signals;
mod survey;
pub mod verify;

use std::pin::Pin;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::error::ConfigError;
use crate::config::log::LogConfig;
use crate::config::source::{Flags, Source};
use crate::config::unknown;

/// What a command does once its configuration is known to be right.
pub type Task = Pin<Box<dyn Future<Output = anyhow::Result<ExitCode>>>>;

const AFTER_HELP: &str = "Exit codes: 0 success, 1 failure, 2 usage or configuration error,\n3 `verify` found a difference.\n\
    `billing-sync <COMMAND> --help` lists the settings that a command uses.";

/// Keeps PostgreSQL tables of billing contacts and subscriptions in step with Stripe.
#[derive(Debug, Parser)]
#[command(name = "billing-sync", version, max_term_width = 80, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive webhooks, store them, and keep the tables in step.
    Serve(serve::Args),
    /// Show the whole way of an event, with a private PostgreSQL and sample events.
    Demo(demo::Args),
    /// Bring the database's schema up to date.
    Migrate(migrate::Args),
    /// Ask a running `serve` whether it is ready (for container health checks).
    Health(health::Args),
    /// Sign event files and deliver them to a webhook endpoint.
    Send(send::Args),
    /// Check settings and database, and say what to mend.
    Doctor(doctor::Args),
    /// Show how a row came to be: each event and read, and what it changed.
    Explain(explain::Args),
    /// Read everything from Stripe, or some customers, and bring all rows in step.
    Backfill(backfill::Args),
    /// Compare rows with what Stripe says, field by field, and mend them on request.
    Verify(verify::Args),
    /// Compute every row again from what is stored, without asking Stripe.
    Rebuild(rebuild::Args),
    /// Compare the stored events with Stripe's, and store what is lacking.
    Reconcile(reconcile::Args),
    /// Renew limits that are due, once; `serve` does so all the time.
    Renew(renew::Args),
    /// Look at stored events, and decide about dead ones.
    #[command(subcommand)]
    Outbox(outbox::Command),
}

impl Cli {
    /// The settings given as flags.
    pub fn flags(&self) -> Flags {
        match &self.command {
            Command::Serve(args) => args.settings.flags(),
            Command::Demo(args) => args.settings.flags(),
            Command::Migrate(args) => args.settings.flags(),
            Command::Health(args) => args.settings.flags(),
            Command::Send(args) => args.settings.flags(),
            Command::Doctor(args) => args.settings.flags(),
            Command::Explain(args) => args.flags(),
            Command::Backfill(args) => args.settings.flags(),
            Command::Verify(args) => args.settings.flags(),
            Command::Rebuild(args) => args.settings.flags(),
            Command::Reconcile(args) => args.settings.flags(),
            Command::Renew(args) => args.settings.flags(),
            Command::Outbox(command) => command.flags(),
        }
    }

    /// Reads how to log; `None` after noting problems. `doctor` reports them like any others, and logs by default.
    pub fn log(&self, source: &mut Source) -> Option<LogConfig> {
        match self.command {
            Command::Doctor(_) => Some(source.collect(LogConfig::read).unwrap_or_default()),
            _ => LogConfig::read(source),
        }
    }

    /// Reads the command's configuration and says what is to be done; `None` after noting problems.
    pub fn plan(self, source: &mut Source) -> Option<Task> {
        match self.command {
            Command::Serve(args) => args.plan(source),
            Command::Demo(args) => args.plan(source),
            Command::Migrate(args) => args.plan(source),
            Command::Health(args) => args.plan(source),
            Command::Send(args) => args.plan(source),
            Command::Doctor(args) => Some(args.plan(source)),
            Command::Explain(args) => args.plan(source),
            Command::Backfill(args) => args.plan(source),
            Command::Verify(args) => args.plan(source),
            Command::Rebuild(args) => args.plan(source),
            Command::Reconcile(args) => args.plan(source),
            Command::Renew(args) => args.plan(source),
            Command::Outbox(command) => command.plan(source),
        }
    }
}

/// A time as one writes it, such as 2026-01-31T00:00:00Z.
fn instant(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "write it with its time zone, as in 2026-12-01T00:00:00Z".to_owned())
}

/// Runs the task to its end and says how it went.
pub fn run(task: Task) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start the runtime")),
    };
    runtime.block_on(task).unwrap_or_else(|error| fail(&error))
}

/// Says what went wrong: exit code 1.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    output::complain(&output::wrapped("error: ", &output::causes(error)));
    ExitCode::FAILURE
}

/// Lists everything that is wrong with the configuration: exit code 2.
pub fn refuse(error: &ConfigError, source: &Source) -> ExitCode {
    let count = error.problems.len();
    let noun = if count == 1 { "setting is" } else { "settings are" };
    output::complain(&format!("error: {count} {noun} not right; nothing was started"));
    for problem in &error.problems {
        output::complain(&format!("\n{}", problem.subject));
        output::complain(&output::wrapped("  wrong  ", &problem.wrong));
        output::complain(&output::wrapped("  mend   ", &problem.mend));
    }
    for warning in unknown::warnings(source).iter().chain(source.warnings()) {
        output::complain(&format!("\n{}", output::wrapped("warning: ", warning)));
    }
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::settings;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_takes_every_setting_as_a_flag_but_the_secrets() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        for setting in settings::ALL {
            let flag = serve.get_arguments().find(|argument| argument.get_id() == setting.name);
            assert_eq!(flag.and_then(clap::Arg::get_long), setting.flag, "{}", setting.name);
        }
    }
}
