//! A tolerant reader of JSON: checks the syntax once, then reads only what is asked for.
//!
//! A full tree would let one odd value in an unused field (a number beyond `f64`, a lone surrogate, a thousand
//! brackets) fail a whole event. Here such a value is bytes until somebody asks for it, and then it is `None`.
//! PURE; called by the views, the envelope and the walk.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Text in which every byte sequence that is no character, and NUL, has become U+FFFD.
///
/// PostgreSQL stores neither NUL nor a lone surrogate, and both are legal in JSON as escapes.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl Visitor<'_> for TextVisitor {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(readable(bytes)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                self.visit_bytes(text.as_bytes())
            }
        }
        // as bytes, because serde_json refuses a lone surrogate only where a `str` is asked for
        deserializer.deserialize_bytes(TextVisitor)
    }
}

fn readable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{FFFD}")
}

/// Looks for one member of an object, of duplicates the last, and makes nothing of the others: most of what is read of an
/// object is a few of its many fields.
struct Member<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = members.next_key_seed(Key(self.0))? {
            if is_it {
                found = Some(members.next_value()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// All members of an object, in the order of the text.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, Json<'de>)>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(32);
        while let Some(key) = map.next_key::<Name<'de>>()? {
            members.push((key.0, Json(map.next_value()?)));
        }
        Ok(members)
    }
}

/// A key, borrowed from the text unless it holds an escape.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Name<'de>, E> {
                match std::str::from_utf8(bytes) {
                    // without an escape there is no NUL in it
                    Ok(text) => Ok(Name(Cow::Borrowed(text))),
                    Err(_) => self.visit_bytes(bytes),
                }
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(readable(bytes))))
            }
        }
        deserializer.deserialize_bytes(NameVisitor)
    }
}

/// Whether a key is this one.
struct Key<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        // as bytes, like every text here
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<bool, E> {
        Ok(bytes == self.0.as_bytes())
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<bool, E> {
        Ok(text == self.0)
    }
}

/// One JSON value: its syntax is checked, its content is not read yet.
#[derive(Clone, Copy)]
pub struct Json<'a>(&'a RawValue);

impl<'a> Json<'a> {
    /// The value that stands for everything absent.
    pub const NULL: Json<'static> = Json(RawValue::NULL);

    /// Checks that `text` is one JSON value, of any depth.
    ///
    /// # Errors
    /// The syntax error, with its place but without any of the text.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text).map(Json)
    }

    /// The value as it was written.
    pub fn raw(self) -> &'a str {
        self.0.get()
    }

    /// `null`, or absent.
    pub fn is_null(self) -> bool {
        self.raw() == "null"
    }

    /// The members of an object; of duplicate keys the last counts. `None` for anything else.
    pub fn object(self) -> Option<Object<'a>> {
        if !self.raw().starts_with('{') {
            return None;
        }
        let mut json = serde_json::Deserializer::from_str(self.raw());
        let mut members = json.deserialize_map(Members).ok()?;
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

    /// The elements of an array; `None` for anything else.
    pub fn array(self) -> Option<Vec<Json<'a>>> {
        let elements: Vec<&'a RawValue> = serde_json::from_str(self.raw()).ok()?;
        Some(elements.into_iter().map(Json).collect())
    }

    /// A string, with U+FFFD for NUL and for what is no character; `None` for anything else.
    pub fn text(self) -> Option<String> {
        serde_json::from_str::<Text>(self.raw()).ok().map(|text| text.0)
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
        if !self.raw().starts_with('{') {
            return Json::NULL;
        }
        let mut json = serde_json::Deserializer::from_str(self.raw());
        Member(key).deserialize(&mut json).ok().flatten().map_or(Json::NULL, Json)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json<'_> {
        Json::parse(text).unwrap()
    }

    #[test]
    fn odd_values_in_unused_fields_do_no_harm() {
        let deep = format!(
            r#"{{"deep":{}{},"n":1e999999,"s":"\ud800","\ud800":1,"id":"x"}}"#,
            "[".repeat(5000),
            "]".repeat(5000)
        );
        let object = json(&deep).object().unwrap();
        assert_eq!(object.get("id").text().as_deref(), Some("x"));
        assert_eq!(json(&deep).get("id").text().as_deref(), Some("x"));
        assert!(json(&deep).get("nothing").is_null() && json("[1]").get("id").is_null());
        assert_eq!(object.get("n").integer(), None);
        assert_eq!(object.get("s").text().as_deref(), Some("\u{FFFD}\u{FFFD}\u{FFFD}"));
    }

    #[test]
    fn the_last_of_duplicate_keys_wins() {
        assert_eq!(json(r#"{"a":1,"a":2}"#).get("a").integer(), Some(2));
        assert_eq!(json(r#"{"\u0061":1,"b":2}"#).get("a").integer(), Some(1));
        assert_eq!(json(r#"{"a":1,"a":2}"#).object().unwrap().get("a").integer(), Some(2));
    }

    #[test]
    fn nul_becomes_the_replacement_character() {
        assert_eq!(json(r#""a\u0000b""#).text().as_deref(), Some("a\u{FFFD}b"));
    }

    #[test]
    fn whole_numbers_are_read_in_every_notation() {
        assert_eq!(json("7").integer(), Some(7));
        assert_eq!(json("7.0").integer(), Some(7));
        assert_eq!(json("7e2").integer(), Some(700));
        assert_eq!(json("7.5").integer(), None);
        assert_eq!(json("1e300").integer(), None);
        assert_eq!(json("\"7\"").integer(), None);
    }

    #[test]
    fn absent_reads_as_null() {
        assert!(json(r#"{"a":{}}"#).get("a").get("b").get("c").is_null());
        assert!(json("[1]").get("a").is_null());
    }
}
