//! Arguments, configuration, telemetry, dispatch.

use std::process::ExitCode;

use billing_sync::cli::{self, Cli};
use billing_sync::config::source::Source;
use billing_sync::config::unknown;
use billing_sync::telemetry;
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut source = Source::process(cli.flags());
    let planned = source.collect(|source| {
        let log = cli.log(source);
        let task = cli.plan(source);
        Some((log?, task?))
    });
    let (log, task) = match planned {
        Ok(planned) => planned,
        Err(error) => return cli::refuse(&error, &source),
    };
    let _bound = match telemetry::start(&log) {
        Ok(bound) => bound,
        Err(error) => return cli::fail(&error.into()),
    };
    for warning in unknown::warnings(&source).iter().chain(source.warnings()) {
        tracing::warn!("{warning}");
    }
    cli::run(task)
}
