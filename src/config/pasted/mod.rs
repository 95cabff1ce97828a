//! Cleans pasted secrets: text around a secret is dropped if the meaning is clear; anything else is refused with its
//! position. PURE.
//!
//! Dropped are spaces, line breaks (also a literal `\n`), quotes and invisible characters around a secret, comment
//! lines, and the name of the variable before it. Inside a secret nothing is dropped: the error contains the position
//! of the invalid character, and never the secret.

use std::fmt;

/// Why a text cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The text is empty after cleaning.
    Blank,
    /// There is no text between two separators, or after the last one.
    BlankAmongOthers { number: usize, count: usize },
    /// Another secret begins inside a secret: the separator between the two is missing.
    NotSeparated { number: usize, count: usize, position: usize },
    /// A character that cannot be part of a secret.
    OddCharacter { number: usize, count: usize, position: usize, character: char },
}

/// Characters that are dropped around a secret: no issuer's secret begins or ends with one of them.
fn is_padding(character: char) -> bool {
    is_quote(character) || is_invisible(character) || character.is_whitespace()
}

fn is_quote(character: char) -> bool {
    matches!(character, '"' | '\'' | '`' | '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}')
}

/// Characters without a width, which are often copied from a web page or a chat.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}'
            | '\u{2066}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
    )
}

/// The secrets of a text, one or several, without duplicates. The name `variable` may precede each.
///
/// Commas separate. Semicolons, spaces and line breaks also separate secrets that are recognised (`is_known`).
/// Elsewhere they are invalid characters, because a part of a secret must never be taken for a whole one.
pub(super) fn several(text: &str, variable: &str, is_known: impl Fn(&str) -> bool) -> Result<Vec<String>, Wrong> {
    let text = normalised(text);
    if text.chars().all(is_padding) {
        return Err(Wrong::Blank);
    }
    let mut found: Vec<String> = Vec::new();
    for part in text.split(',') {
        let part = part.split('\n').map(|line| without_name(line, variable)).collect::<Vec<_>>().join("\n");
        let words = part.split(|character: char| character == ';' || character.is_whitespace());
        let words: Vec<&str> = words.map(trim).filter(|word| !word.is_empty()).collect();
        if words.len() > 1 && words.iter().all(|word| is_known(word)) {
            found.extend(words.into_iter().map(str::to_owned));
        } else {
            // a single word, an empty one, or text that contains a separator, which is refused below
            found.push(trim(&part).to_owned());
        }
    }
    let count = found.len();
    let mut secrets: Vec<String> = Vec::new();
    for (at, secret) in found.into_iter().enumerate() {
        let number = at + 1;
        if secret.is_empty() {
            return Err(Wrong::BlankAmongOthers { number, count });
        }
        if let Some((position, character)) = odd_character(&secret) {
            return Err(Wrong::OddCharacter { number, count, position, character });
        }
        if !secrets.contains(&secret) {
            secrets.push(secret);
        }
    }
    Ok(secrets)
}

/// The secret of a text that has exactly one. A separator is an invalid character.
pub(super) fn one(text: &str, variable: &str) -> Result<String, Wrong> {
    let text = normalised(text);
    let secret = trim(without_name(trim(&text), variable));
    if secret.is_empty() {
        return Err(Wrong::Blank);
    }
    match odd_character(secret) {
        Some((position, character)) => Err(Wrong::OddCharacter { number: 1, count: 1, position, character }),
        None => Ok(secret.to_owned()),
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches(is_padding)
}

/// The text with one kind of line break, real or literal, and without comment lines.
fn normalised(text: &str) -> String {
    let text = text.replace("\\n", "\n").replace("\\r", "\n").replace("\\t", " ").replace('\r', "\n");
    let is_comment = |line: &&str| trim(line).starts_with('#');
    text.split('\n').filter(|line| !is_comment(line)).collect::<Vec<_>>().join("\n")
}

/// The text after `NAME=` or `NAME:`, as a shell, an env file or YAML writes it; otherwise the whole text.
fn without_name<'a>(text: &'a str, variable: &str) -> &'a str {
    let after_word = trim(text).trim_start_matches("export ").trim_start_matches("set ");
    let named = trim(after_word).strip_prefix(variable).map(|rest| rest.trim_start_matches(is_padding));
    named.and_then(|rest| rest.strip_prefix(['=', ':'])).unwrap_or(text)
}

/// The first character that cannot be part of a secret, and its position, counted from 1.
fn odd_character(secret: &str) -> Option<(usize, char)> {
    let is_odd = |character: char| !character.is_ascii_graphic() || is_quote(character) || "\\;*".contains(character);
    secret.chars().enumerate().find(|(_, character)| is_odd(*character)).map(|(at, character)| (at + 1, character))
}

/// What is wrong with a secret after its `prefix`: the prefix again, or a character outside the alphabet of such
/// secrets. `number` of `count` identifies the secret.
pub(super) fn wrong_behind(prefix: &str, secret: &str, (number, count): (usize, usize)) -> Option<Wrong> {
    if let Some(at) = secret.rfind(prefix).filter(|at| *at > 0) {
        return Some(Wrong::NotSeparated { number, count, position: at + 1 });
    }
    let is_odd = |character: char| !character.is_ascii_alphanumeric() && !"_-+/=".contains(character);
    let rest = secret.strip_prefix(prefix)?;
    let (at, character) = rest.chars().enumerate().find(|(_, character)| is_odd(*character))?;
    Some(Wrong::OddCharacter { number, count, position: prefix.len() + at + 1, character })
}

/// Names one of several secrets.
pub(super) fn which(number: usize, count: usize) -> String {
    if count == 1 { "the secret".to_owned() } else { format!("secret {number} of {count}") }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("is blank"),
            Self::BlankAmongOthers { number, count } => write!(f, "{} is blank", which(*number, *count)),
            Self::NotSeparated { number, count, position } => write!(
                f,
                "{} contains two secrets: the next one begins at character {position} (the value is not shown)",
                which(*number, *count),
            ),
            Self::OddCharacter { number, count, position, character } => write!(
                f,
                "{} has an invalid character: character {position} is U+{:04X}{} (the value is not shown)",
                which(*number, *count),
                u32::from(*character),
                name(*character),
            ),
        }
    }
}

/// The name of a character that is common and hard to see.
fn name(character: char) -> &'static str {
    match character {
        '\u{200b}' => ", a zero width space",
        '\u{200c}' | '\u{200d}' | '\u{2060}' => ", a zero width joiner or non-joiner",
        '\u{feff}' => ", a byte order mark",
        '\u{ad}' => ", a soft hyphen",
        '\u{a0}' => ", a no-break space",
        ' ' | '\t' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{3000}' => ", a space",
        '\n' | '\r' => ", a line break",
        '\\' => ", a backslash",
        ';' => ", a semicolon",
        '\u{2026}' => ", an ellipsis: the text is cut off",
        '.' => ", a full stop: the text may be cut off",
        '*' | '\u{2022}' => ", which stands for hidden characters: reveal the secret before copying it",
        '\u{ff01}'..='\u{ff5e}' => ", a full-width character",
        '\u{370}'..='\u{3ff}' => ", a Greek letter",
        '\u{400}'..='\u{52f}' => ", a Cyrillic letter",
        character if is_quote(character) => ", a quote",
        character if is_invisible(character) => ", which is invisible",
        character if character.is_control() => ", a control character",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
