//! What the deliveries came to: equal answers to one file are one line.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use super::delivery::Answer;
use crate::cli::output;
use crate::receiver::PATH;

/// Answers by file, counted.
#[derive(Debug, Default)]
pub(super) struct Report {
    counts: BTreeMap<(Arc<str>, Result<Answer, String>), u32>,
}

impl Report {
    pub(super) fn add(&mut self, (file, answer): (Arc<str>, anyhow::Result<Answer>)) {
        let answer = answer.map_err(|error| output::causes(&error));
        *self.counts.entry((file, answer)).or_default() += 1;
    }

    /// Prints every line; success where every answer was 2xx.
    pub(super) fn print(self) -> anyhow::Result<ExitCode> {
        let mut failed = 0;
        let mut not_found = false;
        let total: u32 = self.counts.values().sum();
        for ((file, answer), count) in &self.counts {
            let times = if *count == 1 { String::new() } else { format!(" ({count} times)") };
            let line = match answer {
                Ok(Answer { status, body }) => format!("{}  {file}{times}: {body}", status.as_u16()),
                Err(error) => format!("---  {file}{times}: not delivered: {error}"),
            };
            output::print(&line)?;
            not_found |= matches!(answer, Ok(answer) if answer.status.as_u16() == 404);
            failed += if matches!(answer, Ok(answer) if answer.status.is_success()) { 0 } else { *count };
        }
        if failed == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        if not_found {
            output::complain(&format!("hint: billing-sync receives at {PATH}; does the URL end with it?"));
        }
        anyhow::bail!("{failed} of {total} deliveries were not accepted")
    }
}
