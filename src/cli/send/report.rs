//! The results of the deliveries; equal answers to one file are one line.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use super::delivery::Answer;
use crate::cli::output;
use crate::receiver::PATH;

/// Number of each answer, by file.
#[derive(Debug, Default)]
pub(super) struct Report {
    counts: BTreeMap<(Arc<str>, Result<Answer, String>), u32>,
}

impl Report {
    pub(super) fn add(&mut self, (file, answer): (Arc<str>, anyhow::Result<Answer>)) {
        let answer = answer.map_err(|error| output::causes(&error));
        *self.counts.entry((file, answer)).or_default() += 1;
    }

    /// Prints all lines; returns success if every answer was 2xx.
    pub(super) fn print(self) -> anyhow::Result<ExitCode> {
        let mut failed = 0;
        let mut not_found = false;
        let total: u32 = self.counts.values().sum();
        for ((file, answer), count) in &self.counts {
            let times = if *count == 1 { String::new() } else { format!(" ({count} times)") };
            let (lead, text) = match answer {
                Ok(Answer { status, body }) => (status.as_u16().to_string(), format!("{file}{times}: {body}")),
                Err(error) => ("---".to_owned(), format!("{file}{times}: not delivered: {error}")),
            };
            output::print(&output::wrapped(&format!("{lead}  "), &text))?;
            not_found |= matches!(answer, Ok(answer) if answer.status.as_u16() == 404);
            failed += if matches!(answer, Ok(answer) if answer.status.is_success()) { 0 } else { *count };
        }
        if failed == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        if not_found {
            let hint = format!("billing-sync receives at {PATH}; check that the URL ends with it");
            output::complain(&output::wrapped("hint: ", &hint));
        }
        anyhow::bail!(refusals(failed, total))
    }
}

fn refusals(failed: u32, total: u32) -> String {
    match (failed, total) {
        (_, 1) => "the delivery was not accepted".to_owned(),
        (1, total) => format!("1 of {total} deliveries was not accepted"),
        (failed, total) => format!("{failed} of {total} deliveries were not accepted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_use_singular_and_plural() {
        let lines = [(1, 1), (1, 3), (2, 3)].map(|(failed, total)| refusals(failed, total));
        assert_eq!(lines[0], "the delivery was not accepted");
        assert_eq!(lines[1], "1 of 3 deliveries was not accepted");
        assert_eq!(lines[2], "2 of 3 deliveries were not accepted");
    }
}
