//! Text for people: terminal width, removal of control characters, line wrapping, counts, and time format. Called by the
//! command line, the demo and the metrics, and for times in log lines.

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Terminal width that reports and tables are formatted for.
pub const WIDTH: usize = 80;

/// Wraps `text` after `lead` at spaces, for a terminal of [`WIDTH`] columns; further lines are indented to the start of
/// the text.
pub fn wrapped(lead: &str, text: &str) -> String {
    wrapped_to(WIDTH, lead, text)
}

/// Like [`wrapped`], for another width.
pub fn wrapped_to(width: usize, lead: &str, text: &str) -> String {
    let indent = columns(lead);
    let mut lines = vec![lead.to_owned()];
    let mut used = indent;
    for word in text.split_whitespace() {
        let length = columns(word);
        if used > indent && used + 1 + length > width {
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

/// Columns that a text occupies on a terminal. Terminals measure some sequences by character and others as a whole, so
/// this is the larger of both.
pub fn columns(text: &str) -> usize {
    let by_character = text.chars().map(|letter| letter.width().unwrap_or(1)).sum();
    text.width().max(by_character)
}

/// The text in one line of at most `width` columns, without control characters. A text that is cut ends with "…".
pub fn cut(text: &str, width: usize) -> String {
    let text = text.replace(is_control, " ");
    if columns(&text) <= width {
        return text;
    }
    let ends = text.char_indices().map(|(at, _)| at);
    let fits = |end: &usize| columns(&text[..*end]) < width;
    match ends.take_while(fits).last() {
        Some(end) => format!("{}…", text[..end].trim_end()),
        None => String::new(),
    }
}

/// A number with its noun: "1 row", "2 rows". The noun's plural ends with "s".
pub fn counted(number: impl Into<i128>, noun: &str) -> String {
    let number = number.into();
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// A number with a space between groups of three digits.
pub fn grouped(number: &str) -> String {
    let (sign, digits) = number.split_at(usize::from(number.starts_with('-')));
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(|group| String::from_utf8_lossy(group)).collect();
    format!("{sign}{}", groups.join(" "))
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
    fn digits_are_grouped_by_three() {
        let cases = [("0", "0"), ("-12", "-12"), ("1234", "1 234"), ("-105000", "-105 000"), ("1000000", "1 000 000")];
        for (number, expected) in cases {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn long_text_wraps_with_an_indent() {
        let text = wrapped("  fix    ", &"word ".repeat(40));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("         word")), "{text}");
        assert_eq!(wrapped_to(10, "", "請求 請求 請求"), "請求 請求\n請求");
    }

    #[test]
    fn a_text_is_cut_by_columns() {
        assert_eq!(cut("reading customers", 17), "reading customers");
        assert_eq!(cut("reading customers", 10), "reading c…");
        assert_eq!(cut("two\nlines\u{1b}[2K", 20), "two lines [2K");
        // each of these letters occupies two columns
        assert_eq!(cut("請求書請求書", 8), "請求書…");
        for width in 0..12 {
            for text in
                ["請求書 請求", "e\u{301}e\u{301}e\u{301}é", "❤\u{fe0f}❤\u{fe0f}❤\u{fe0f}👩\u{200d}🚀", "plain text"]
            {
                let cut = cut(text, width);
                assert!(columns(&cut) <= width && !cut.contains('\n'), "{cut:?} in {width}");
            }
        }
    }

    #[test]
    fn a_number_has_its_noun() {
        assert_eq!([0, 1, 2].map(|number| counted(number, "row")), ["0 rows", "1 row", "2 rows"]);
    }

    #[test]
    fn a_word_longer_than_the_line_stays_whole() {
        let path = "x".repeat(200);
        assert_eq!(wrapped("a ", &format!("b {path}")), format!("a b\n  {path}"));
    }
}
