//! The query of a request.

use url::form_urlencoded;

pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query; an array may be written with or without numbers (`expand[]`, `expand[0]`).
    pub(crate) fn parse(text: &str) -> Self {
        let pair = |(name, value): (_, std::borrow::Cow<'_, str>)| (without_number(name), value.into_owned());
        Self(form_urlencoded::parse(text.as_bytes()).map(pair).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn without_number(name: std::borrow::Cow<'_, str>) -> String {
    match name.strip_suffix(']').and_then(|name| name.rsplit_once('[')) {
        Some((name, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => format!("{name}[]"),
        _ => name.into_owned(),
    }
}
