//! A tolerant JSON reader: checks the syntax and indexes all values once, and parses a value only on access.
//!
//! With a full tree, one invalid value in an unused field (a number beyond `f64`, a lone surrogate, a thousand
//! brackets) would fail the whole event. Here such a value is bytes until it is accessed, and then `None`. PURE; called
//! by the views, the envelope and the search for nested objects.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{Error, Visitor};
use serde_json::value::RawValue;

/// A JSON text with checked syntax, and the positions of all values in it.
#[derive(Clone)]
pub struct Document<'t> {
    text: Cow<'t, str>,
    positions: Vec<Position>,
}

impl<'t> Document<'t> {
    /// Checks that `text` is one JSON value, of any depth, and indexes all values in it.
    ///
    /// # Errors
    /// The syntax error, with its position but without any of the text.
    pub fn parse(text: impl Into<Cow<'t, str>>) -> Result<Self, serde_json::Error> {
        let text = text.into();
        serde_json::from_str::<&RawValue>(&text)?;
        if u32::try_from(text.len()).is_err() {
            return Err(Error::custom("longer than 4 GiB"));
        }
        Ok(Self { positions: positions(text.as_bytes()), text })
    }

    /// Parses a text that was checked before; null if it is not JSON.
    pub fn parse_or_null(text: impl Into<Cow<'t, str>>) -> Self {
        Self::parse(text).unwrap_or_else(|_| Self { text: Cow::Borrowed("null"), positions: vec![NULL] })
    }

    /// The root value.
    pub fn root(&self) -> Json<'_> {
        Json { text: &self.text, positions: &self.positions }
    }
}

/// Decodes JSON bytes. JSON is UTF-8, but an invalid byte in a customer's name is no reason to reject an event: it
/// becomes U+FFFD. That decoding is slow, so only bytes that contain one use it.
pub fn decode(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

impl PartialEq for Document<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Document<'_> {}

impl fmt::Debug for Document<'_> {
    /// The length only: content may be personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({} bytes)", self.text.len())
    }
}

/// Position of a value in the text. The key of an object has a position like a string, directly before that of its
/// value.
#[derive(Debug, Clone, Copy)]
struct Position {
    start: u32,
    end: u32,
    /// Number of positions of the values inside it, which follow it.
    inside: u32,
    /// Whether it is a string with an escape.
    is_escaped: bool,
}

const NULL: Position = Position { start: 0, end: 4, inside: 0, is_escaped: false };

/// The positions of all values in a valid JSON text, each before those inside it.
fn positions(text: &[u8]) -> Vec<Position> {
    let mut positions = Vec::with_capacity(text.len() / 12);
    let mut open = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let start = at;
        match text[at] {
            b' ' | b'\n' | b'\r' | b'\t' | b',' | b':' => at += 1,
            b'{' | b'[' => {
                at += 1;
                open.push(positions.len());
                positions.push(position(start, at));
            }
            b'}' | b']' => {
                at += 1;
                let all = positions.len();
                if let Some(index) = open.pop() {
                    positions[index].end = offset(at);
                    positions[index].inside = offset(all - index - 1);
                }
            }
            b'"' => {
                let is_escaped;
                (at, is_escaped) = end_of_text(text, at + 1);
                positions.push(Position { is_escaped, ..position(start, at) });
            }
            _ => {
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
                at = text[at..].iter().position(ends).map_or(text.len(), |length| at + length);
                positions.push(position(start, at));
            }
        }
    }
    positions
}

/// The end of the string whose first byte after the quote is at `at`, and whether it contains an escape.
fn end_of_text(text: &[u8], mut at: usize) -> (usize, bool) {
    let mut is_escaped = false;
    while at < text.len() && text[at] != b'"' {
        let escape = text[at] == b'\\';
        is_escaped |= escape;
        at += if escape { 2 } else { 1 };
    }
    (at + 1, is_escaped)
}

fn position(start: usize, end: usize) -> Position {
    Position { start: offset(start), end: offset(end), inside: 0, is_escaped: false }
}

/// Converts a position; the length of the document was checked before.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// One JSON value of a [`Document`]: its syntax is checked, its content is not parsed yet.
#[derive(Clone, Copy)]
pub struct Json<'a> {
    text: &'a str,
    /// Its own position, and those of all values inside it.
    positions: &'a [Position],
}

impl<'a> Json<'a> {
    /// The value of everything absent.
    pub const NULL: Json<'static> = Json { text: "null", positions: &[NULL] };

    /// The original text of the value.
    pub fn raw(self) -> &'a str {
        let Position { start, end, .. } = self.positions[0];
        &self.text[start as usize..end as usize]
    }

    /// Whether it is `null` or absent.
    pub fn is_null(self) -> bool {
        self.raw() == "null"
    }

    /// The members of an object; of duplicate keys the last counts. `None` for anything else.
    pub fn object(self) -> Option<Object<'a>> {
        if !self.is_object() {
            return None;
        }
        let mut members = Vec::with_capacity(self.pairs().count());
        members.extend(self.pairs().map(|(key, value)| (key.key(), value)));
        members.sort_by(|one, other| one.0.cmp(&other.0));
        // the sort is stable, and the last duplicate of a key in the text is kept
        members.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                std::mem::swap(later, kept);
            }
            is_same
        });
        Some(Object(members))
    }

    /// The members of an object that are objects or arrays themselves, each key once; of duplicate keys the last
    /// counts.
    pub fn nested(self) -> Vec<(Cow<'a, str>, Json<'a>)> {
        // in a larger object, searching each key again takes too long
        const FEW: usize = 256;
        if !self.is_object() {
            return Vec::new();
        }
        let is_container = |value: &Json<'_>| value.raw().starts_with(['{', '[']);
        if self.pairs().nth(FEW).is_some() {
            let members = self.object().unwrap_or_default().0;
            return members.into_iter().filter(|(_, value)| is_container(value)).collect();
        }
        let found = self.pairs().map(|(key, value)| (key.key(), value)).filter(|(_, value)| is_container(value));
        // `get` finds the last duplicate of a key
        found.filter(|(key, value)| self.get(key).positions.as_ptr() == value.positions.as_ptr()).collect()
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.raw().starts_with('{')
    }

    /// Whether it is an object with at least one member.
    pub fn has_members(self) -> bool {
        self.is_object() && self.positions[0].inside > 0
    }

    /// The elements of an array; `None` for anything else.
    pub fn array(self) -> Option<Vec<Json<'a>>> {
        self.raw().starts_with('[').then(|| self.children().collect())
    }

    /// A string, with U+FFFD for NUL and for invalid characters; `None` for anything else.
    pub fn text(self) -> Option<String> {
        self.str().map(Cow::into_owned)
    }

    /// A string like [`Json::text`], borrowed unless it contains an escape.
    pub fn str(self) -> Option<Cow<'a, str>> {
        self.raw().starts_with('"').then(|| self.key())
    }

    /// A whole number that fits, also when written `7.0` or `7e0`; `None` for anything else.
    pub fn integer(self) -> Option<i64> {
        if let Ok(integer) = self.raw().parse() {
            return Some(integer);
        }
        let float: f64 = serde_json::from_str(self.raw()).ok()?;
        // beyond 2^53 neighbouring integers share one float, so the value would be a guess
        #[expect(clippy::cast_possible_truncation, reason = "within 2^53, checked here")]
        (float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0).then_some(float as i64)
    }

    /// `true` or `false`; `None` for anything else.
    pub fn boolean(self) -> Option<bool> {
        self.raw().parse().ok()
    }

    /// A member of an object, by key; null if this is not an object or has no such key.
    #[must_use]
    pub fn get(self, key: &str) -> Json<'a> {
        if !self.is_object() {
            return Json::NULL;
        }
        self.pairs().filter(|(name, _)| name.is_key(key)).last().map_or(Json::NULL, |(_, value)| value)
    }

    /// The values directly inside it: elements, or alternating keys and values.
    fn children(self) -> impl Iterator<Item = Json<'a>> {
        let mut rest = &self.positions[1..];
        std::iter::from_fn(move || {
            let length = rest.first()?.inside as usize + 1;
            let (child, others) = rest.split_at(length);
            rest = others;
            Some(Json { text: self.text, positions: child })
        })
    }

    /// The keys and values of an object, in the order of the text.
    fn pairs(self) -> impl Iterator<Item = (Json<'a>, Json<'a>)> {
        let mut rest = &self.positions[1..];
        std::iter::from_fn(move || {
            // a key is a string, with no values inside
            let (key, values) = rest.split_at_checked(1)?;
            let (value, others) = values.split_at_checked(values.first()?.inside as usize + 1)?;
            rest = others;
            Some((Json { text: self.text, positions: key }, Json { text: self.text, positions: value }))
        })
    }

    /// The text between the quotes of a string.
    fn quoted(self) -> &'a str {
        let raw = self.raw();
        &raw[1..raw.len() - 1]
    }

    /// The content of a string.
    fn key(self) -> Cow<'a, str> {
        // without an escape it contains neither NUL nor a lone surrogate
        if self.positions[0].is_escaped { Cow::Owned(unescaped(self.raw())) } else { Cow::Borrowed(self.quoted()) }
    }

    fn is_key(self, key: &str) -> bool {
        let Position { start, end, is_escaped, .. } = self.positions[0];
        // most keys have another length, which avoids the comparison of the text
        if is_escaped { self.key() == key } else { (end - start) as usize == key.len() + 2 && self.quoted() == key }
    }
}

/// The content of a string with escapes. NUL and every invalid byte sequence become U+FFFD: PostgreSQL stores neither
/// NUL nor a lone surrogate, and both are legal in JSON as escapes.
fn unescaped(raw: &str) -> String {
    struct Bytes;
    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }
        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_owned())
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
            self.visit_bytes(text.as_bytes())
        }
    }
    // as bytes, because serde_json rejects a lone surrogate in a `str`
    let bytes = serde_json::Deserializer::from_str(raw).deserialize_bytes(Bytes).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', "\u{FFFD}")
}

impl fmt::Debug for Json<'_> {
    /// The length only: content may be personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.raw().len())
    }
}

/// The members of one JSON object, one level deep.
///
/// Sorted by key, each key once.
#[derive(Debug, Clone, Default)]
pub struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Object<'a> {
    /// The member, or null.
    pub fn get(&self, key: &str) -> Json<'a> {
        let position = self.0.binary_search_by(|(name, _)| name.as_ref().cmp(key));
        position.map_or(Json::NULL, |position| self.0[position].1)
    }

    /// Keys and values in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Json<'a>)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), *value))
    }
}

/// A value for tests; its text is leaked.
#[cfg(test)]
pub(crate) fn json(text: &str) -> Json<'static> {
    Box::leak(Box::new(Document::parse(text.to_owned()).unwrap())).root()
}

#[cfg(test)]
mod tests;
