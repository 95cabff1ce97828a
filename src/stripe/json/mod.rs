//! A tolerant reader of JSON: checks the syntax and notes where each value is, once; reads only what is asked for.
//!
//! A full tree would let one odd value in an unused field (a number beyond `f64`, a lone surrogate, a thousand
//! brackets) fail a whole event. Here such a value is bytes until it is asked for, and then it is `None`.
//! PURE; called by the views, the envelope and the walk.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{Error, Visitor};
use serde_json::value::RawValue;

/// A JSON text whose syntax was checked, and the places of all values in it.
#[derive(Clone)]
pub struct Document<'t> {
    text: Cow<'t, str>,
    places: Vec<Place>,
}

impl<'t> Document<'t> {
    /// Checks that `text` is one JSON value, of any depth, and notes where everything in it is.
    ///
    /// # Errors
    /// The syntax error, with its place but without any of the text.
    pub fn parse(text: impl Into<Cow<'t, str>>) -> Result<Self, serde_json::Error> {
        let text = text.into();
        serde_json::from_str::<&RawValue>(&text)?;
        if u32::try_from(text.len()).is_err() {
            return Err(Error::custom("longer than 4 GiB"));
        }
        Ok(Self { places: places(text.as_bytes()), text })
    }

    /// The same of a text that was checked before; null where it is no JSON after all.
    pub fn parse_or_null(text: impl Into<Cow<'t, str>>) -> Self {
        Self::parse(text).unwrap_or_else(|_| Self { text: Cow::Borrowed("null"), places: vec![NULL] })
    }

    /// The value itself.
    pub fn root(&self) -> Json<'_> {
        Json { text: &self.text, places: &self.places }
    }
}

/// The text of JSON bytes. JSON is UTF-8, but a broken byte in a customer's name is no reason to refuse an event: it becomes
/// U+FFFD. That reading is slow, so it is only for bytes that have one.
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

/// Where a value is in the text. A key of an object has a place like a text, right before that of its value.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: u32,
    end: u32,
    /// How many places belong to what is inside it. They follow it.
    inside: u32,
    /// It is a text that holds an escape.
    is_escaped: bool,
}

const NULL: Place = Place { start: 0, end: 4, inside: 0, is_escaped: false };

/// The places of all values in a text of which it is known that it is JSON, each before those inside it.
fn places(text: &[u8]) -> Vec<Place> {
    let mut places = Vec::with_capacity(text.len() / 12);
    let mut open = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let start = at;
        match text[at] {
            b' ' | b'\n' | b'\r' | b'\t' | b',' | b':' => at += 1,
            b'{' | b'[' => {
                at += 1;
                open.push(places.len());
                places.push(place(start, at));
            }
            b'}' | b']' => {
                at += 1;
                let all = places.len();
                if let Some(index) = open.pop() {
                    places[index].end = offset(at);
                    places[index].inside = offset(all - index - 1);
                }
            }
            b'"' => {
                let is_escaped;
                (at, is_escaped) = end_of_text(text, at + 1);
                places.push(Place { is_escaped, ..place(start, at) });
            }
            _ => {
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
                at = text[at..].iter().position(ends).map_or(text.len(), |length| at + length);
                places.push(place(start, at));
            }
        }
    }
    places
}

/// The end of the text whose first byte after the quote is at `at`, and whether it holds an escape.
fn end_of_text(text: &[u8], mut at: usize) -> (usize, bool) {
    let mut is_escaped = false;
    while at < text.len() && text[at] != b'"' {
        let escape = text[at] == b'\\';
        is_escaped |= escape;
        at += if escape { 2 } else { 1 };
    }
    (at + 1, is_escaped)
}

fn place(start: usize, end: usize) -> Place {
    Place { start: offset(start), end: offset(end), inside: 0, is_escaped: false }
}

/// The length of a document is checked before.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// One JSON value of a [`Document`]: its syntax is checked, its content is not read yet.
#[derive(Clone, Copy)]
pub struct Json<'a> {
    text: &'a str,
    /// Its own place, and those of all that is inside it.
    places: &'a [Place],
}

impl<'a> Json<'a> {
    /// The value that stands for everything absent.
    pub const NULL: Json<'static> = Json { text: "null", places: &[NULL] };

    /// The value as it was written.
    pub fn raw(self) -> &'a str {
        let Place { start, end, .. } = self.places[0];
        &self.text[start as usize..end as usize]
    }

    /// `null`, or absent.
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
        // the sort is stable, and of one key the last in the text is kept
        members.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                std::mem::swap(later, kept);
            }
            is_same
        });
        Some(Object(members))
    }

    /// The members of an object that are objects or arrays themselves, each key once; of duplicate keys the last counts.
    pub fn nested(self) -> Vec<(Cow<'a, str>, Json<'a>)> {
        // in a larger one it takes too long to look for each key again
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
        // `get` finds the last of a key
        found.filter(|(key, value)| self.get(key).places.as_ptr() == value.places.as_ptr()).collect()
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.raw().starts_with('{')
    }

    /// Whether it is an object with at least one member.
    pub fn has_members(self) -> bool {
        self.is_object() && self.places[0].inside > 0
    }

    /// The elements of an array; `None` for anything else.
    pub fn array(self) -> Option<Vec<Json<'a>>> {
        self.raw().starts_with('[').then(|| self.children().collect())
    }

    /// A string, with U+FFFD for NUL and for what is no character; `None` for anything else.
    pub fn text(self) -> Option<String> {
        self.str().map(Cow::into_owned)
    }

    /// The same, borrowed unless it holds an escape.
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

    /// A member of an object, by one key; null where this is no object or has no such key.
    #[must_use]
    pub fn get(self, key: &str) -> Json<'a> {
        if !self.is_object() {
            return Json::NULL;
        }
        self.pairs().filter(|(name, _)| name.is_key(key)).last().map_or(Json::NULL, |(_, value)| value)
    }

    /// What is directly inside it: elements, or keys and values in turn.
    fn children(self) -> impl Iterator<Item = Json<'a>> {
        let mut rest = &self.places[1..];
        std::iter::from_fn(move || {
            let length = rest.first()?.inside as usize + 1;
            let (child, others) = rest.split_at(length);
            rest = others;
            Some(Json { text: self.text, places: child })
        })
    }

    /// The keys and values of an object, in the order of the text.
    fn pairs(self) -> impl Iterator<Item = (Json<'a>, Json<'a>)> {
        let mut rest = &self.places[1..];
        std::iter::from_fn(move || {
            // a key is a text, with nothing inside
            let (key, values) = rest.split_at_checked(1)?;
            let (value, others) = values.split_at_checked(values.first()?.inside as usize + 1)?;
            rest = others;
            Some((Json { text: self.text, places: key }, Json { text: self.text, places: value }))
        })
    }

    /// What stands between the quotes of a text.
    fn quoted(self) -> &'a str {
        let raw = self.raw();
        &raw[1..raw.len() - 1]
    }

    /// The content of a text.
    fn key(self) -> Cow<'a, str> {
        // without an escape there is neither NUL nor half a surrogate pair in it
        if self.places[0].is_escaped { Cow::Owned(unescaped(self.raw())) } else { Cow::Borrowed(self.quoted()) }
    }

    fn is_key(self, key: &str) -> bool {
        let Place { start, end, is_escaped, .. } = self.places[0];
        // most keys have another length, and then the text need not be looked at
        if is_escaped { self.key() == key } else { (end - start) as usize == key.len() + 2 && self.quoted() == key }
    }
}

/// The content of a text with escapes. Every byte sequence that is no character, and NUL, becomes U+FFFD: PostgreSQL stores
/// neither NUL nor a lone surrogate, and both are legal in JSON as escapes.
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
    // as bytes, because serde_json refuses a lone surrogate where a `str` is asked for
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
        let place = self.0.binary_search_by(|(name, _)| name.as_ref().cmp(key));
        place.map_or(Json::NULL, |place| self.0[place].1)
    }

    /// Keys and values in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Json<'a>)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), *value))
    }
}

/// A value for a test, whose text lives as long as the process.
#[cfg(test)]
pub(crate) fn json(text: &str) -> Json<'static> {
    Box::leak(Box::new(Document::parse(text.to_owned()).unwrap())).root()
}

#[cfg(test)]
mod tests;
