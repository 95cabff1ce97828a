//! What an expression of Prometheus names: selectors with their labels, and labels by which it aggregates.

/// Metrics that Prometheus itself makes.
pub(crate) const OF_PROMETHEUS: [&str; 4] = ["ALERTS", "scrape_duration_seconds", "scrape_samples_scraped", "up"];

/// A selector of series: `billing_sync_jobs{kind="fetch"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    pub(crate) matchers: Vec<Matcher>,
    /// As written.
    pub(crate) text: String,
}

/// A condition on a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Matcher {
    pub(crate) label: String,
    /// The values that the condition names; of a regular expression, its alternatives.
    pub(crate) values: Vec<String>,
}

/// The selectors of an expression.
pub(crate) fn selectors(expr: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    let mut rest = expr;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_alphabetic() || letter == '_') {
        rest = &rest[start..];
        let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let end = rest.find(|letter| !is_of_name(letter)).unwrap_or(rest.len());
        let metric = &rest[..end];
        if !metric.starts_with("billing_sync_") && !OF_PROMETHEUS.contains(&metric) {
            rest = &rest[end..];
            continue;
        }
        let braces = rest[end..].strip_prefix('{').map(|rest| rest.split_once('}').unwrap().0);
        let length = end + braces.map_or(0, |braces| braces.len() + 2);
        let matchers = braces.map(matchers).unwrap_or_default();
        found.push(Selector { metric: metric.to_owned(), matchers, text: rest[..length].to_owned() });
        rest = &rest[length..];
    }
    found
}

/// Parses `a="x", b=~"y|z"`.
fn matchers(braces: &str) -> Vec<Matcher> {
    let parts: Vec<&str> = braces.split('"').collect();
    let matcher = |pair: &[&str]| {
        let label = pair[0].trim_matches([',', ' ', '=', '!', '~']).to_owned();
        Matcher { label, values: pair[1].split('|').map(str::to_owned).collect() }
    };
    parts.chunks_exact(2).map(matcher).collect()
}

impl Matcher {
    /// The named values of which none of `existing` is one. A value may end with `.*`.
    pub(crate) fn unknown<'a>(&'a self, existing: &[&str]) -> Vec<&'a str> {
        let exists = |value: &str| match value.strip_suffix(".*") {
            Some(beginning) => existing.iter().any(|one| one.starts_with(beginning)),
            None => existing.contains(&value),
        };
        self.values.iter().map(String::as_str).filter(|value| !exists(value)).collect()
    }
}

/// The labels of all `by (…)` of an expression.
pub(crate) fn grouped_by(expr: &str) -> Vec<&str> {
    let lists = expr.split("by (").skip(1).map(|rest| rest.split(')').next().unwrap_or_default());
    lists.flat_map(|list| list.split(',')).map(str::trim).collect()
}

/// The labels that a text inserts: `{{kind}}` of a legend, `{{ $labels.kind }}` of an alert.
pub(crate) fn inserted(text: &str) -> Vec<&str> {
    let insertions = text.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap_or_default().trim());
    insertions.filter_map(|name| name.strip_prefix("$labels.").or((!name.starts_with('$')).then_some(name))).collect()
}

#[test]
fn selectors_are_found_with_their_labels() {
    let expr = r#"sum by (kind, x) (rate(billing_sync_a{kind!~"b|c.*", x="sum"}[5m])) / up == 1 or vector(0)"#;
    let matcher = |label: &str, values: &[&str]| Matcher {
        label: label.to_owned(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    let [first, second] = &selectors(expr)[..] else { panic!("{:?}", selectors(expr)) };
    assert_eq!(first.text, r#"billing_sync_a{kind!~"b|c.*", x="sum"}"#);
    assert_eq!(first.matchers, [matcher("kind", &["b", "c.*"]), matcher("x", &["sum"])]);
    assert_eq!((second.metric.as_str(), second.text.as_str()), ("up", "up"));
    assert_eq!(first.matchers[0].unknown(&["b", "cd"]), Vec::<&str>::new());
    assert_eq!(first.matchers[0].unknown(&["bb", "d"]), ["b", "c.*"]);
    assert_eq!(grouped_by(expr), ["kind", "x"]);
    assert_eq!(inserted("{{a}} {{ $labels.b }} {{ $value | humanize }}"), ["a", "b"]);
}
