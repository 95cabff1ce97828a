//! The report of `doctor`: as text in 80 columns, or as JSON, one object per line.

use std::process::ExitCode;

use serde::Serialize;

use super::listing::ListedSetting;
use crate::cli::output;
use crate::database::{fix, message};

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warning,
    Failed,
}

/// One check.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    #[serde(rename = "check")]
    name: &'static str,
    status: Status,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), fix: None }
    }

    /// A check that found something an operator should look at, but no failure.
    pub(super) fn warning(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, status: Status::Warning, detail: detail.into(), fix: Some(fix.into()) }
    }

    pub(super) fn failed(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, status: Status::Failed, detail: detail.into(), fix: Some(fix.into()) }
    }

    /// A check whose statement failed.
    pub(super) fn broken(name: &'static str, error: &sqlx::Error) -> Self {
        Self::failed(name, message(error), fix(error))
    }
}

/// All results.
pub(super) struct Report {
    listed: Vec<ListedSetting>,
    checks: Vec<Check>,
}

impl Report {
    pub(super) fn new(listed: Vec<ListedSetting>) -> Self {
        Self { listed, checks: Vec::new() }
    }

    pub(super) fn add(&mut self, check: Check) {
        self.checks.push(check);
    }

    /// Prints the report; returns failure if any check failed.
    pub(super) fn print(self, json: bool) -> anyhow::Result<ExitCode> {
        if json {
            self.print_json()?;
        } else {
            self.print_text()?;
        }
        let failed = self.checks.iter().any(|check| check.status == Status::Failed);
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn print_json(&self) -> anyhow::Result<()> {
        output::print_json(&serde_json::json!({ "version": env!("CARGO_PKG_VERSION") }))?;
        for listed in &self.listed {
            output::print_json(
                &serde_json::json!({ "setting": listed.name, "value": listed.value, "source": listed.source }),
            )?;
        }
        self.checks.iter().try_for_each(output::print_json)
    }

    fn print_text(&self) -> anyhow::Result<()> {
        output::print(concat!("billing-sync ", env!("CARGO_PKG_VERSION"), "\n\nSettings"))?;
        for ListedSetting { name, value, source } in &self.listed {
            let lead = format!("  {name:<33} ");
            let source = if source.is_empty() { String::new() } else { format!("  ({source})") };
            output::print(&output::wrapped(&lead, &format!("{value}{source}")))?;
        }
        output::print("\nChecks")?;
        for check in &self.checks {
            let word = match check.status {
                Status::Ok => "ok",
                Status::Warning => "warn",
                Status::Failed => "FAIL",
            };
            output::print(&output::wrapped(&format!("  {word:<4}  {:<11} ", check.name), &check.detail))?;
            if let Some(fix) = &check.fix {
                output::print(&output::wrapped("                    fix: ", fix))?;
            }
        }
        Ok(())
    }
}
