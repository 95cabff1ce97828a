//! The filter flags of `outbox list`, `retry` and `discard`.

use std::time::Duration;

use crate::config::parse::in_words;
use crate::outbox::admin::Filter;

/// Ages are at most this old, so that the time is within the range of the database.
const OLDEST: Duration = Duration::from_hours(100 * 365 * 24);

/// Flags that select events. An event must fit all that are given.
#[derive(Debug, clap::Args)]
#[group(id = "filter", multiple = true)]
pub(super) struct FilterArgs {
    /// Only events of this type, such as `customer.updated`.
    #[arg(long = "type", value_name = "TYPE", help_heading = "Filter", value_parser = text)]
    event_type: Option<String>,
    /// Only events about this customer and its objects.
    #[arg(long, value_name = "CUSTOMER_ID", help_heading = "Filter", value_parser = text)]
    customer: Option<String>,
    /// Only events about this object.
    #[arg(long, value_name = "OBJECT_ID", help_heading = "Filter", value_parser = text)]
    object: Option<String>,
    /// Only events whose last error contains this text, in upper or lower case.
    #[arg(long, value_name = "TEXT", help_heading = "Filter", value_parser = text)]
    error: Option<String>,
    /// Only events that were received at least this long ago, such as 2h or 3d.
    #[arg(long, value_name = "DURATION", help_heading = "Filter", value_parser = age)]
    older_than: Option<Duration>,
    /// Only events that were received within this time, such as 2h or 3d.
    #[arg(long, value_name = "DURATION", help_heading = "Filter", value_parser = age)]
    newer_than: Option<Duration>,
}

impl FilterArgs {
    /// The filter, for events in this state.
    ///
    /// # Errors
    /// Describes flags that exclude each other.
    pub(super) fn filter(&self, state: Option<&'static str>) -> Result<Filter, String> {
        if let (Some(older), Some(newer)) = (self.older_than, self.newer_than)
            && older >= newer
        {
            let (older, newer) = (in_words(older), in_words(newer));
            return Err(format!(
                "no event is older than {older} and newer than {newer}: swap --older-than and --newer-than"
            ));
        }
        Ok(Filter {
            event_id: None,
            state,
            event_type: self.event_type.clone(),
            customer_id: self.customer.clone(),
            object_id: self.object.clone(),
            error: self.error.clone(),
            older_than: self.older_than,
            newer_than: self.newer_than,
        })
    }

    /// The conditions as text after a noun; empty without a flag.
    pub(super) fn describe(&self) -> String {
        let with = |lead: &str, value: &Option<String>| value.as_ref().map(|value| format!(" {lead} {value}"));
        let ago = |lead: &str, value: Option<Duration>| value.map(|value| format!(" {lead} {} ago", in_words(value)));
        let parts = [
            with("of type", &self.event_type),
            with("of customer", &self.customer),
            with("about", &self.object),
            self.error.as_ref().map(|error| format!(" with {error:?} in the error")),
            ago("received before", self.older_than),
            ago("received after", self.newer_than),
        ];
        parts.into_iter().flatten().collect()
    }
}

/// A text that is not blank: with an unset variable of a script, the filter would select all events.
fn text(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("the value is empty".to_owned()),
        text => Ok(text.to_owned()),
    }
}

fn age(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .ok()
        .filter(|age| *age <= OLDEST)
        .ok_or_else(|| "write a duration with its unit, as in 90m, 2h or 3d".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        filter: FilterArgs,
    }

    fn parsed(arguments: &[&str]) -> Option<Result<Filter, String>> {
        let command = Command::try_parse_from(["command"].iter().chain(arguments)).ok()?;
        Some(command.filter.filter(None))
    }

    #[test]
    fn a_blank_or_impossible_condition_is_refused() {
        for arguments in [
            ["--customer", ""],
            ["--object", " "],
            ["--type", ""],
            ["--error", ""],
            ["--older-than", ""],
            ["--older-than", "2"],
            ["--newer-than", "1000y"],
        ] {
            assert_eq!(parsed(&arguments), None, "{arguments:?}");
        }
        assert!(parsed(&["--older-than", "2h", "--newer-than", "2h"]).unwrap().is_err());
        let filter = parsed(&["--older-than", "2h", "--newer-than", "3d"]).unwrap().unwrap();
        assert_eq!(filter.newer_than, Some(Duration::from_hours(72)));
    }
}
