//! The command line: one file per command. Arguments and configuration become a task, which `main` runs.
//!
//! Exit codes: 0 success, 1 failure, 2 usage or configuration error, 3 `verify` found differences, 130 and 143 a long
//! command was stopped by SIGINT or SIGTERM. No other module prints. Only this module uses `anyhow`, because here every error ends as a sentence for the operator.

mod arguments;
pub mod backfill;
mod changes;
mod comparison;
pub mod completions;
mod confirm;
pub mod database;
pub mod demo;
pub mod doctor;
pub mod explain;
pub mod health;
mod http_error;
pub mod man;
pub mod migrate;
pub mod outbox;
pub mod output;
mod progress;
pub mod rebuild;
pub mod reconcile;
pub mod redact;
pub mod renew;
pub mod send;
pub mod serve;
pub mod settings;
pub mod signals;
pub mod status;
mod stripe_session;
mod summary;
pub mod tail;
mod task;
pub mod token;
mod units;
pub mod verify;
pub mod writes;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub use self::task::Task;
use crate::config;
use crate::config::error::ConfigError;
use crate::config::log::LogConfig;
use crate::config::source::{Flags, Source};
use crate::config::unknown;

const AFTER_HELP: &str = "Exit codes: 0 success, 1 failure, 2 usage or configuration error,\n\
    3 `verify` found differences; 130 interrupted by Ctrl-C, 143 by SIGTERM.\n\
    `billing-sync <COMMAND> --help` lists the settings that a command uses.";

/// Keeps PostgreSQL tables of billing contacts and subscriptions in sync with Stripe.
#[derive(Debug, Parser)]
#[command(name = "billing-sync", version, max_term_width = 80, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive and store webhooks, and keep the tables in sync.
    Serve(serve::Args),
    /// Run sample events through the whole service, on a private PostgreSQL.
    Demo(demo::Args),
    /// Bring the database schema up to date.
    Migrate(migrate::Args),
    /// Check whether a running `serve` is ready (for container health checks).
    Health(health::Args),
    /// Sign event files and deliver them to a webhook endpoint.
    Send(send::Args),
    /// Check settings, database and Stripe, and show how to fix what is wrong.
    Doctor(doctor::Args),
    /// Show on one screen whether all is well, and what needs attention.
    Status(status::Args),
    /// Show events as they are processed, and what each changed.
    Tail(tail::Args),
    /// Explain why a subscription, customer or workspace is in its state, and what an event changed.
    Explain(explain::Args),
    /// Read all objects from Stripe, or those of some customers, and bring rows up to date.
    Backfill(backfill::Args),
    /// Compare rows with Stripe, field by field; repair them with `--fix`.
    Verify(verify::Args),
    /// Recompute all rows from stored data, without asking Stripe.
    Rebuild(rebuild::Args),
    /// Compare the stored events with Stripe's event list, and store missing ones.
    Reconcile(reconcile::Args),
    /// Remove the personal data of one customer from all stored data.
    Redact(redact::Args),
    /// Renew due limits once; `serve` does this continuously.
    Renew(renew::Args),
    /// Inspect stored events, and retry or discard dead ones.
    #[command(subcommand)]
    Outbox(outbox::Command),
    /// Create, list and revoke tokens for the API.
    #[command(subcommand)]
    Token(token::Command),
    /// Inspect changes at Stripe, and resolve those whose outcome is unknown.
    #[command(subcommand)]
    Writes(writes::Command),
    /// Print the completion script of a shell.
    Completions(completions::Args),
    /// Print the manual page of the program, or write the pages of all commands.
    Man(man::Args),
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
            Command::Status(args) => args.settings.flags(),
            Command::Tail(args) => args.settings.flags(),
            Command::Explain(args) => args.settings.flags(),
            Command::Backfill(args) => args.settings.flags(),
            Command::Verify(args) => args.settings.flags(),
            Command::Rebuild(args) => args.settings.flags(),
            Command::Redact(args) => args.settings.flags(),
            Command::Reconcile(args) => args.settings.flags(),
            Command::Renew(args) => args.settings.flags(),
            Command::Outbox(command) => command.flags(),
            Command::Token(command) => command.flags(),
            Command::Writes(command) => command.flags(),
            Command::Completions(_) | Command::Man(_) => Flags::new(),
        }
    }

    /// Reads the log settings; `None` after noting problems. `doctor` reports these like other problems and uses the
    /// defaults.
    pub fn log(&self, source: &mut Source) -> Option<LogConfig> {
        match self.command {
            Command::Doctor(_) => Some(source.collect(LogConfig::read).unwrap_or_default()),
            Command::Demo(_) => LogConfig::read_from(source, &config::demo::LOG),
            _ => LogConfig::read(source),
        }
    }

    /// Reads the command's configuration and returns its task; `None` after noting problems.
    pub fn plan(self, source: &mut Source) -> Option<Task> {
        match self.command {
            Command::Serve(args) => args.plan(source),
            Command::Demo(args) => args.plan(source),
            Command::Migrate(args) => args.plan(source),
            Command::Health(args) => args.plan(source),
            Command::Send(args) => args.plan(source),
            Command::Doctor(args) => Some(args.plan(source)),
            Command::Status(args) => args.plan(source),
            Command::Tail(args) => args.plan(source),
            Command::Explain(args) => args.plan(source),
            Command::Backfill(args) => args.plan(source),
            Command::Verify(args) => args.plan(source),
            Command::Rebuild(args) => args.plan(source),
            Command::Redact(args) => args.plan(source),
            Command::Reconcile(args) => args.plan(source),
            Command::Renew(args) => args.plan(source),
            Command::Outbox(command) => command.plan(source),
            Command::Token(command) => command.plan(source),
            Command::Writes(command) => command.plan(source),
            Command::Completions(args) => Some(args.plan(Self::command())),
            Command::Man(args) => Some(args.plan(Self::command())),
        }
    }
}

/// Runs the task to its end and returns its exit code.
pub fn run(task: Task) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start the runtime")),
    };
    runtime.block_on(task).unwrap_or_else(|error| fail(&error))
}

/// Prints the error; exit code 1.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    output::complain(&output::wrapped("error: ", &output::causes(error)));
    ExitCode::FAILURE
}

/// Prints all problems of the configuration; exit code 2.
pub fn refuse(error: &ConfigError, source: &Source) -> ExitCode {
    let count = error.problems.len();
    let noun = if count == 1 { "setting is" } else { "settings are" };
    output::complain(&format!("error: {count} {noun} invalid; nothing was started"));
    for problem in &error.problems {
        output::complain(&format!("\n{}", problem.subject));
        output::complain(&output::wrapped("  wrong  ", &problem.wrong));
        output::complain(&output::wrapped("  fix    ", &problem.fix));
    }
    for warning in unknown::warnings(source).iter().chain(source.warnings()) {
        output::complain(&format!("\n{}", output::wrapped("warning: ", warning)));
    }
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_has_a_flag_for_every_setting_except_secrets() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        for setting in settings::ALL {
            let flag = serve.get_arguments().find(|argument| argument.get_id() == setting.name);
            assert_eq!(flag.and_then(clap::Arg::get_long), setting.flag, "{}", setting.name);
        }
    }
}
