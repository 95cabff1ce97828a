//! Values of arguments that several commands have.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::base::text::is_control;

/// Maximum length of a reason in characters.
const REASON_LENGTH: usize = 500;

/// Parses a time such as 2026-01-31T00:00:00Z.
pub(super) fn instant(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "write the time with its time zone, as in 2026-12-01T00:00:00Z".to_owned())
}

/// Parses a reason that is stored.
pub(super) fn reason(text: &str) -> Result<String, String> {
    one_line(text, REASON_LENGTH)
}

/// Parses one line of text, without the spaces around it.
pub(super) fn one_line(text: &str, longest: usize) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().any(is_control) || text.chars().count() > longest {
        return Err(format!("write one line with 1 to {longest} characters"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line() {
        assert_eq!(reason(" seen in the log ").as_deref(), Ok("seen in the log"));
        for wrong in ["", "  ", "a\u{1b}b", "a\nb", &"x".repeat(REASON_LENGTH + 1)] {
            assert!(reason(wrong).is_err(), "{wrong}");
        }
    }
}
