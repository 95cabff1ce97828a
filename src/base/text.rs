//! Text for people: terminal width, removal of control characters, line wrapping, and time format. Called by the
//! command line, the demo and the metrics, and for times in log lines.

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

/// Terminal width that reports and tables are formatted for.
pub const WIDTH: usize = 80;

/// Wraps `text` after `lead` at spaces; further lines are indented to the start of the text.
pub fn wrapped(lead: &str, text: &str) -> String {
    let indent = lead.chars().count();
    let mut lines = vec![lead.to_owned()];
    let mut used = indent;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used > indent && used + 1 + length > WIDTH {
            lines.push(" ".repeat(indent));
            used = indent;
        }
        let Some(line) = lines.last_mut() else { continue };
        if used > indent {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += length;
    }
    lines.join("\n")
}

/// Replaces the characters that control a terminal; line breaks stay.
pub fn without_controls(text: &str) -> String {
    text.replace(|letter: char| is_control(letter) && letter != '\n', "\u{FFFD}")
}

/// Whether a character controls a terminal, breaks a line, or reorders the displayed text (Unicode's bidirectional
/// controls). With the latter, a name can look like another one, or like the columns beside it.
pub fn is_control(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Formats a time in UTC to the minute, for tables.
pub fn to_the_minute(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]");
    at.to_offset(UtcOffset::UTC).format(&format).unwrap_or_else(|_| at.to_string())
}

/// Formats a time in UTC to the second, for lists of events.
pub fn in_utc(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    at.to_offset(UtcOffset::UTC).format(&format).unwrap_or_else(|_| at.to_string())
}

/// Formats a time to the second, as in Stripe's dashboard and in our flags.
pub fn to_the_second(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_wraps_with_an_indent() {
        let text = wrapped("  fix    ", &"word ".repeat(40));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("         word")), "{text}");
    }

    #[test]
    fn a_word_longer_than_the_line_stays_whole() {
        let path = "x".repeat(200);
        assert_eq!(wrapped("a ", &format!("b {path}")), format!("a b\n  {path}"));
    }
}
