//! Reads single values and records invalid ones.
//!
//! Owns the common rule of the views: null and absent are `None`, an invalid value is `None` and a note. Must not know
//! any object type. PURE; called by the views only.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::unreadable::Unreadable;
use crate::domain::event::Reason;
use crate::stripe::expandable::id_or_object;
use crate::stripe::json::{Json, Object};

/// 2000-01-01 to 2101-01-01 UTC: a time outside is an error, and PostgreSQL or `time` may not be able to represent it.
const READABLE_SECONDS: std::ops::Range<i64> = 946_684_800..4_133_980_800;

/// Maximum length of an amount. Stripe sends at most 12 decimal places; `numeric` would accept 131072 digits.
const AMOUNT_MAX_BYTES: usize = 64;

/// Reads values; `notes` records invalid and unknown ones.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) notes: BTreeSet<Reason>,
}

impl Reader {
    /// A text, unchanged; it may be empty.
    pub(super) fn text(&mut self, value: Json<'_>) -> Option<String> {
        self.read(value, Json::text)
    }

    pub(super) fn integer(&mut self, value: Json<'_>) -> Option<i64> {
        self.read(value, Json::integer)
    }

    pub(super) fn boolean(&mut self, value: Json<'_>) -> Option<bool> {
        self.read(value, Json::boolean)
    }

    /// Whole seconds since 1970, within the years 2000 to 2100.
    pub(super) fn instant(&mut self, value: Json<'_>) -> Option<OffsetDateTime> {
        self.read(value, |value| {
            let seconds = value.integer().filter(|seconds| READABLE_SECONDS.contains(seconds))?;
            OffsetDateTime::from_unix_timestamp(seconds).ok()
        })
    }

    /// A plain decimal number in a string (`"2000"`, `"0.05"`): the column is numeric and must stay exact.
    pub(super) fn decimal(&mut self, value: Json<'_>) -> Option<String> {
        self.read(value, |value| value.text().filter(|text| is_decimal(text)))
    }

    /// A plain decimal JSON number (`12.5`), as text, so that it stays exact.
    pub(super) fn number(&mut self, value: Json<'_>) -> Option<String> {
        self.read(value, |value| Some(value.raw().to_owned()).filter(|text| is_decimal(text)))
    }

    /// The id in an expandable field: the text itself, or the `id` of the expanded object.
    pub(super) fn reference(&mut self, value: Json<'_>) -> Option<String> {
        self.read(value, reference)
    }

    /// The members of an object; none if it is null.
    pub(super) fn members<'a>(&mut self, value: Json<'a>) -> Object<'a> {
        self.read(value, Json::object).unwrap_or_default()
    }

    /// The elements of an array; none if it is null.
    pub(super) fn elements<'a>(&mut self, value: Json<'a>) -> Vec<Json<'a>> {
        self.read(value, Json::array).unwrap_or_default()
    }

    /// Notes a value that is not in Stripe's documented list. It is still kept.
    pub(super) fn expect_one_of(&mut self, value: Option<&str>, known: &[&str]) {
        if value.is_some_and(|value| !known.contains(&value)) {
            self.notes.insert(Reason::UnknownEnum);
        }
    }

    /// Notes that a value is present, but invalid.
    pub(super) fn note_unreadable(&mut self) {
        self.notes.insert(Reason::InvalidValue);
    }

    fn read<'a, T>(&mut self, value: Json<'a>, read: impl FnOnce(Json<'a>) -> Option<T>) -> Option<T> {
        if value.is_null() {
            return None;
        }
        let found = read(value);
        if found.is_none() {
            self.note_unreadable();
        }
        found
    }
}

/// A mandatory text.
pub(super) fn required(value: Json<'_>, field: &'static str) -> Result<String, Unreadable> {
    value.text().filter(|text| !text.is_empty()).ok_or(Unreadable { field })
}

/// The id in an expandable field; `None` if it cannot be a key.
pub(super) fn reference(value: Json<'_>) -> Option<String> {
    id_or_object(value).filter(|id| is_key(id))
}

/// The id of a whole object; `None` for a bare id and for the stub of a deleted object.
pub fn whole(value: Json<'_>) -> Option<String> {
    let object = value.object()?;
    let deleted = object.get("deleted").boolean() == Some(true);
    object.get("id").text().filter(|id| is_key(id) && !deleted)
}

/// Whether a text can be the key of a row; the envelope applies the same rule to ids. U+FFFD replaces invalid
/// characters, and two such ids must not become one key. A control character may separate keys in a list.
pub fn is_key(id: &str) -> bool {
    !id.is_empty() && id.len() <= 255 && !id.contains(is_forbidden_in_keys)
}

/// Whether no key contains this character.
pub fn is_forbidden_in_keys(letter: char) -> bool {
    letter == char::REPLACEMENT_CHARACTER || letter.is_control()
}

fn is_decimal(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    text.len() <= AMOUNT_MAX_BYTES && digits(whole) && digits(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;

    fn read<T>(text: &str, how: impl FnOnce(&mut Reader, Json<'_>) -> T) -> (T, bool) {
        let mut reader = Reader::default();
        let value = how(&mut reader, json(text));
        (value, reader.notes.contains(&Reason::InvalidValue))
    }

    #[test]
    fn a_time_is_whole_seconds_within_the_years_2000_to_2100() {
        for good in ["946684800", "1767225600.0", "4133980799"] {
            let (time, noted) = read(good, Reader::instant);
            assert!(time.is_some() && !noted, "{good}");
        }
        for odd in ["946684799", "4133980800", "1.5", "0", "-1", "1e99", "99999999999999999999", "\"1767225600\"", "{}"]
        {
            assert_eq!(read(odd, Reader::instant), (None, true), "{odd}");
        }
        assert_eq!(read("null", Reader::instant), (None, false));
    }

    #[test]
    fn an_amount_is_a_plain_decimal_number() {
        for good in ["0", "2000", "-5", "0.000000000001", "1990.5"] {
            assert_eq!(read(&format!("\"{good}\""), Reader::decimal), (Some(good.to_owned()), false));
        }
        for odd in ["", "-", ".5", "5.", "1e3", "NaN", "+1", "1,5", " 1", "1.2.3", "--1", &"9".repeat(65)] {
            assert_eq!(read(&format!("\"{odd}\""), Reader::decimal), (None, true), "{odd}");
        }
        assert_eq!(read("2000", Reader::decimal), (None, true));
    }

    #[test]
    fn a_reference_is_an_id_or_an_object_with_one() {
        assert_eq!(read("\"cus_1\"", Reader::reference), (Some("cus_1".to_owned()), false));
        assert_eq!(read(r#"{"id":"cus_1","deleted":true}"#, Reader::reference), (Some("cus_1".to_owned()), false));
        let long = format!("\"{}\"", "x".repeat(256));
        for odd in ["\"\"", "{}", r#"{"id":5}"#, "5", "[]", r#""a\u001fb""#, &long] {
            assert_eq!(read(odd, Reader::reference), (None, true), "{odd}");
        }
    }

    #[test]
    fn a_key_has_no_control_character() {
        assert!(is_key("sub_1") && is_key("price ä") && is_key(&"x".repeat(255)));
        for odd in ["", "sub\u{1f}x", "sub\n", "\u{7f}", "a\u{9b}", "\u{fffd}", &"x".repeat(256)] {
            assert!(!is_key(odd), "{odd:?}");
        }
    }

    #[test]
    fn a_stub_is_not_a_whole_object() {
        let whole = |text| whole(json(text));
        assert_eq!(whole(r#"{"id":"price_1"}"#).as_deref(), Some("price_1"));
        assert_eq!(whole(r#"{"id":"price_1","deleted":true}"#), None);
        assert_eq!(whole("\"price_1\""), None);
        assert_eq!(whole("null"), None);
    }
}
