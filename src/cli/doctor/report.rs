//! The report: for people in 80 columns, for programs as one JSON object a line.

use std::process::ExitCode;

use serde::Serialize;

use super::listing::Listed;
use crate::cli::output;

/// What design and mapping promise and this release does not have yet.
const NOT_IN_THIS_RELEASE: &str = "retention";

/// How one check went.
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
    mend: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), mend: None }
    }

    /// Works, and somebody should look at it.
    pub(super) fn warning(name: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, status: Status::Warning, detail: detail.into(), mend: Some(mend.into()) }
    }

    pub(super) fn failed(name: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, status: Status::Failed, detail: detail.into(), mend: Some(mend.into()) }
    }
}

/// Everything that was found.
pub(super) struct Report {
    listed: Vec<Listed>,
    checks: Vec<Check>,
}

impl Report {
    pub(super) fn new(listed: Vec<Listed>) -> Self {
        Self { listed, checks: Vec::new() }
    }

    pub(super) fn add(&mut self, check: Check) {
        self.checks.push(check);
    }

    /// Prints it; failure where any check failed.
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
        self.checks.iter().try_for_each(output::print_json)?;
        output::print_json(&serde_json::json!({ "not_in_this_release": NOT_IN_THIS_RELEASE }))
    }

    fn print_text(&self) -> anyhow::Result<()> {
        output::print(concat!("billing-sync ", env!("CARGO_PKG_VERSION"), "\n\nSettings"))?;
        for Listed { name, value, source } in &self.listed {
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
            if let Some(mend) = &check.mend {
                output::print(&output::wrapped("                    mend: ", mend))?;
            }
        }
        output::print(&format!("\n{}", output::wrapped("Not in this release: ", NOT_IN_THIS_RELEASE)))
    }
}
