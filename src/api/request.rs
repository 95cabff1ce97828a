//! Reads the parts of a request: ids in the path, query parameters, the JSON body. Every mistake becomes a problem.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes};
use hyper::header::CONTENT_TYPE;
use serde_json::{Map, Number, Value};
use uuid::Uuid;

use super::authenticate::Authenticated;
use super::problem::{Code, FieldError, Problem};

/// Maximum size of a body. The largest has a name of 255 characters.
pub(super) const BODY_LIMIT: usize = 64 * 1024;
/// Maximum time to receive a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The UUID in a path. Another text names no resource.
pub(super) fn id(text: &str, resource: &'static str) -> Result<Uuid, Problem> {
    // the parser also accepts braces, URNs and ids without hyphens, which would be several paths to one resource
    let id = Uuid::try_parse(text).ok().filter(|id| id.as_hyphenated().to_string().eq_ignore_ascii_case(text));
    id.ok_or_else(|| Problem::not_found(resource))
}

/// The Stripe id in a path. Another text names no resource.
pub(super) fn stripe_id<'a>(text: &'a str, resource: &'static str) -> Result<&'a str, Problem> {
    let is_id = text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_id { Ok(text) } else { Err(Problem::not_found(resource)) }
}

/// The JSON object in a body, and its bytes. Unknown fields are ignored.
#[derive(Debug)]
pub(super) struct JsonObject {
    pub(super) fields: Map<String, Value>,
    pub(super) bytes: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for JsonObject {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !content_type.is_some_and(is_json) {
            let detail = "send the body as JSON, with the header Content-Type: application/json";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
        let too_large = || Problem::new(Code::BodyTooLarge, format!("a body has at most {BODY_LIMIT} bytes"));
        if request.body().size_hint().lower() > BODY_LIMIT as u64 {
            return Err(too_large());
        }
        let authenticated = request.extensions().get::<Authenticated>().cloned();
        let body = tokio::time::timeout(BODY_TIMEOUT, Limited::new(request.into_body(), BODY_LIMIT).collect()).await;
        let bytes = match body {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
            Ok(Err(_)) => return Err(Problem::new(Code::MalformedRequest, "the body is incomplete")),
            Err(_) => return Err(Problem::new(Code::BodyTooSlow, "the body did not arrive within 10 s")),
        };
        // not before, so that slow bodies do not keep the slots of the listener
        if let Some(authenticated) = authenticated {
            authenticated.0.cancel();
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(fields)) => Ok(Self { fields, bytes }),
            Ok(_) => Err(Problem::invalid(vec![FieldError {
                pointer: String::new(),
                detail: "must be an object".to_owned(),
            }])),
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                let detail = format!("the body is not valid JSON (line {line}, column {column})");
                Err(Problem::new(Code::MalformedRequest, detail))
            }
        }
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || (essence.len() > 17 && essence[..12].eq_ignore_ascii_case("application/") && essence.ends_with("+json"))
}

/// Reads fields or parameters and collects the mistakes in all of them.
#[derive(Debug, Default)]
pub(super) struct Mistakes(Vec<FieldError>);

impl Mistakes {
    /// Notes a mistake.
    pub(super) fn add(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.0.push(FieldError { pointer: pointer.into(), detail: detail.into() });
    }

    /// The values, if there was no mistake.
    pub(super) fn check<T>(self, values: Option<T>) -> Result<T, Problem> {
        match values {
            Some(values) if self.0.is_empty() => Ok(values),
            _ => Err(Problem::invalid(self.0)),
        }
    }

    /// Reads a part of the body, at this pointer; its mistakes are noted with their whole pointers.
    pub(super) fn within<T>(&mut self, pointer: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let mut inner = Self::default();
        let value = read(&mut inner);
        let errors = inner.0.into_iter();
        self.0.extend(errors.map(|error| FieldError { pointer: format!("{pointer}{}", error.pointer), ..error }));
        value
    }

    /// An optional field; null counts as absent. `read` returns `None` for a value of another type, which is `wrong`.
    fn optional<'a, T>(
        &mut self,
        fields: &'a Map<String, Value>,
        name: &str,
        wrong: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = fields.get(name).filter(|value| !value.is_null())?;
        let read = read(value);
        if read.is_none() {
            self.add(format!("/{name}"), wrong);
        }
        read
    }

    /// An optional object.
    pub(super) fn optional_object<'a>(
        &mut self,
        fields: &'a Map<String, Value>,
        name: &str,
    ) -> Option<&'a Map<String, Value>> {
        self.optional(fields, name, "must be an object", Value::as_object)
    }

    /// An optional array.
    pub(super) fn optional_array<'a>(&mut self, fields: &'a Map<String, Value>, name: &str) -> Option<&'a [Value]> {
        self.optional(fields, name, "must be an array", |value| value.as_array().map(Vec::as_slice))
    }

    /// An optional field that is true or false.
    pub(super) fn optional_boolean(&mut self, fields: &Map<String, Value>, name: &str) -> Option<bool> {
        self.optional(fields, name, "must be true or false", Value::as_bool)
    }

    /// A required field with one of several words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        fields: &Map<String, Value>,
        name: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let value = fields.get(name).filter(|value| !value.is_null());
        let chosen = choices.iter().find(|(word, _)| value.is_some_and(|value| value == word));
        if let Some((_, choice)) = chosen {
            return Some(*choice);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let wrong = if value.is_none() { "is required" } else { &format!("must be one of {}", words.join(", ")) };
        self.add(format!("/{name}"), wrong);
        None
    }

    /// An optional text with at most `most` characters; null and a blank text count as absent.
    pub(super) fn optional_short(&mut self, fields: &Map<String, Value>, name: &str, most: usize) -> Option<String> {
        let is_absent = match fields.get(name) {
            None | Some(Value::Null) => true,
            Some(value) => value.as_str().is_some_and(|text| text.trim().is_empty()),
        };
        if is_absent { None } else { self.text(fields, name, most) }
    }

    /// A required text field that is not blank, with at most `most` characters; without blanks around it.
    pub(super) fn text(&mut self, fields: &Map<String, Value>, name: &str, most: usize) -> Option<String> {
        let wrong = match fields.get(name) {
            None | Some(Value::Null) => "is required",
            Some(Value::String(text)) if text.trim().is_empty() => "must not be blank",
            Some(Value::String(text)) if text.contains('\0') => "must not contain the character U+0000",
            Some(Value::String(text)) if text.chars().count() > most => {
                self.add(format!("/{name}"), format!("must have at most {most} characters"));
                return None;
            }
            Some(Value::String(text)) => return Some(text.trim().to_owned()),
            Some(_) => "must be a string",
        };
        self.add(format!("/{name}"), wrong);
        None
    }

    /// An optional text field, without blanks around it; a blank text counts as absent.
    pub(super) fn optional_text(&mut self, fields: &Map<String, Value>, name: &str) -> Option<String> {
        let text = self.optional(fields, name, "must be a string", Value::as_str)?.trim();
        Some(text.to_owned()).filter(|text| !text.is_empty())
    }

    /// An optional field with a whole number.
    pub(super) fn optional_whole(&mut self, fields: &Map<String, Value>, name: &str) -> Option<i64> {
        let wrong = match fields.get(name) {
            None | Some(Value::Null) => return None,
            Some(Value::Number(number)) => match whole(number) {
                Some(number) => return Some(number),
                None => "must be a whole number",
            },
            Some(_) => "must be a number",
        };
        self.add(format!("/{name}"), wrong);
        None
    }

    /// A required field with a whole number above zero.
    pub(super) fn amount(&mut self, fields: &Map<String, Value>, name: &str) -> Option<i64> {
        let wrong = match fields.get(name) {
            None | Some(Value::Null) => "is required",
            Some(Value::Number(number)) => match whole(number) {
                Some(amount) if amount > 0 => return Some(amount),
                _ => "must be a whole number from 1 to 9223372036854775807",
            },
            Some(_) => "must be a number",
        };
        self.add(format!("/{name}"), wrong);
        None
    }
}

/// The whole number; `79.0` is one too, in JSON.
fn whole(number: &Number) -> Option<i64> {
    /// From here on, neighbouring whole numbers are the same float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < EXACT);
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
    number.as_i64().or(float.map(|float| float as i64))
}

/// The query parameters of a request. Unknown ones are ignored; of a repeated one, the last counts.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of a URI.
    pub(super) fn new(query: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// The parameter, if it is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let values = self.0.iter().rev().find(|(key, _)| key == name);
        values.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A whole number within bounds; `default` if it is absent or wrong.
    pub(super) fn whole(&self, name: &str, (least, most): (i64, i64), default: i64, mistakes: &mut Mistakes) -> i64 {
        let Some(text) = self.get(name) else { return default };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.unwrap_or_else(|| {
            mistakes.add(format!("query {name}"), format!("must be a whole number from {least} to {most}"));
            default
        })
    }

    /// A text with at most `most` characters; `None` if it is absent or wrong.
    pub(super) fn text(&self, name: &str, most: usize, mistakes: &mut Mistakes) -> Option<String> {
        let text = self.get(name)?;
        if text.chars().count() > most || text.contains('\0') {
            mistakes.add(format!("query {name}"), format!("must have at most {most} characters, without U+0000"));
            return None;
        }
        Some(text.to_owned())
    }

    /// Whole numbers separated by commas; `None` if they are absent or wrong.
    pub(super) fn numbers(&self, name: &str, mistakes: &mut Mistakes) -> Option<Vec<i64>> {
        let text = self.get(name)?;
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
        let numbers: Option<Vec<i64>> = text.split(',').map(number).collect();
        if numbers.is_none() {
            mistakes.add(format!("query {name}"), "must be whole numbers separated by commas");
        }
        numbers
    }

    /// One of several words, in exactly this spelling; `default` if it is absent or wrong.
    pub(super) fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)], default: T, mistakes: &mut Mistakes) -> T {
        let Some(text) = self.get(name) else { return default };
        let chosen = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        chosen.unwrap_or_else(|| {
            let words = choices.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            mistakes.add(format!("query {name}"), format!("must be one of {words}"));
            default
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let text = "113c0b32-ed6c-4421-b7da-d1faf238eb56";
        assert_eq!(id(text, "workspace").unwrap().to_string(), text);
        assert!(id(&text.to_uppercase(), "workspace").is_ok());
        for wrong in ["", "1", &text.replace('-', ""), &format!("{{{text}}}"), &format!("urn:uuid:{text}"), "x\0"] {
            assert_eq!(id(wrong, "workspace").unwrap_err().code, Code::NotFound, "{wrong}");
        }
    }

    #[test]
    fn json_has_several_media_types() {
        for right in ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"] {
            assert!(is_json(right), "{right}");
        }
        for wrong in ["", "text/json", "application/x-www-form-urlencoded", "application/jsonp", "application/+json"] {
            assert!(!is_json(wrong), "{wrong}");
        }
    }

    fn problem(check: impl FnOnce(&mut Mistakes)) -> Vec<(String, String)> {
        let mut mistakes = Mistakes::default();
        check(&mut mistakes);
        mistakes.0.into_iter().map(|error| (error.pointer, error.detail)).collect()
    }

    #[test]
    fn a_wrong_field_is_named() {
        let fields =
            json!({ "blank": " ", "number": 1, "long": "ab", "nul": "a\0b", "half": 1.5, "zero": 0, "text": "1" });
        let fields = fields.as_object().unwrap();
        for (name, detail) in [
            ("missing", "is required"),
            ("blank", "must not be blank"),
            ("number", "must be a string"),
            ("long", "must have at most 1 characters"),
        ] {
            let found = problem(|mistakes| assert!(mistakes.text(fields, name, 1).is_none()));
            assert_eq!(found, [(format!("/{name}"), detail.to_owned())]);
        }
        assert_eq!(problem(|mistakes| assert!(mistakes.text(fields, "nul", 9).is_none())).len(), 1);
        for name in ["missing", "half", "zero", "text"] {
            assert_eq!(problem(|mistakes| assert!(mistakes.amount(fields, name).is_none())).len(), 1, "{name}");
        }
        assert_eq!(Mistakes::default().amount(fields, "number"), Some(1));
    }

    #[test]
    fn parameters_have_defaults_and_bounds() {
        let query = Query::new(Some("size=5&page=0&page=2&teams=1,2&order=up&empty="));
        let mut mistakes = Mistakes::default();
        assert_eq!(query.whole("size", (1, 100), 20, &mut mistakes), 5);
        assert_eq!(query.whole("page", (1, 9), 1, &mut mistakes), 2);
        assert_eq!(query.whole("empty", (1, 9), 7, &mut mistakes), 7);
        assert_eq!(query.numbers("teams", &mut mistakes), Some(vec![1, 2]));
        assert_eq!(query.numbers("none", &mut mistakes), None);
        assert!(mistakes.0.is_empty());
        assert_eq!(query.whole("size", (1, 4), 1, &mut mistakes), 1);
        assert_eq!(query.choice("order", &[("asc", 1), ("desc", 2)], 1, &mut mistakes), 1);
        let problem = mistakes.check(Some(())).unwrap_err();
        assert_eq!(problem.detail, "correct query size, query order");
    }
}
