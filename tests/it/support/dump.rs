//! A plain dump of a whole database by `pg_dump`, and a search in it.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::cluster::TestDatabase;
use super::postgres;

/// The lines of a dump, each with the table whose row it is, or nothing for the definitions.
pub(crate) struct Dump {
    lines: Vec<(String, String)>,
}

impl Dump {
    /// Everything in the database: definitions and rows.
    pub(crate) fn of(database: &TestDatabase) -> Self {
        Self::parse(&postgres::run("pg_dump", &[&database.url]))
    }

    fn parse(text: &str) -> Self {
        let mut table = String::new();
        let mut lines = Vec::new();
        for line in text.lines() {
            if let Some(copied) = line.strip_prefix("COPY ") {
                copied.split_whitespace().next().unwrap_or_default().clone_into(&mut table);
            } else if line == "\\." {
                table.clear();
            }
            lines.push((table.clone(), line.to_owned()));
        }
        Self { lines }
    }

    /// The lines with this text in any form, by table. The names of monthly partitions are those of their parent.
    pub(crate) fn find(&self, text: &str) -> BTreeMap<String, Vec<&str>> {
        let forms = Forms::of(text);
        let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (table, line) in self.lines.iter().filter(|(_, line)| forms.are_in(line)) {
            let name = table.strip_prefix("billing.").unwrap_or(table);
            let parent = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '_');
            found.entry(parent.trim_end_matches("_default").to_owned()).or_default().push(line);
        }
        found
    }

    /// The tables with any of these texts.
    pub(crate) fn tables_with(&self, texts: &[String]) -> BTreeSet<String> {
        texts.iter().flat_map(|text| self.find(text).into_keys()).collect()
    }
}

/// The forms in which a text can be in a dump.
struct Forms {
    /// In any case.
    plain: Vec<String>,
    base64: Vec<String>,
}

impl Forms {
    fn of(text: &str) -> Self {
        let small = text.to_lowercase();
        let escaped = |text: &str| text.encode_utf16().map(escape).collect::<String>().to_lowercase();
        let percent: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        // the bytes of the text may begin at any of three positions in a group of four digits
        let base64 = (0..3)
            .flat_map(|before| [base64_of(&STANDARD_NO_PAD, before, text), base64_of(&URL_SAFE_NO_PAD, before, text)]);
        let plain =
            vec![hex::encode(text), hex::encode(&small), percent.to_lowercase(), escaped(text), escaped(&small), small];
        Self { plain, base64: base64.collect() }
    }

    fn are_in(&self, line: &str) -> bool {
        let bytes = bytes_of(line);
        [line, bytes.as_str()].into_iter().any(|text| {
            let small = text.to_lowercase();
            self.plain.iter().any(|form| small.contains(form)) || self.base64.iter().any(|form| text.contains(form))
        })
    }
}

/// A letter as in JSON with escapes.
fn escape(unit: u16) -> String {
    match char::from_u32(unit.into()) {
        Some(letter) if letter.is_ascii() => letter.to_string(),
        _ => format!("\\u{unit:04x}"),
    }
}

/// The digits that depend on the text only, if `before` bytes are before it.
fn base64_of(engine: &impl base64::Engine, before: usize, text: &str) -> String {
    let digits = engine.encode([&vec![0; before], text.as_bytes()].concat());
    let whole = (before + text.len()) * 8 / 6;
    digits[(before * 8).div_ceil(6)..whole].to_owned()
}

/// The content of the values of type `bytea` in a line.
fn bytes_of(line: &str) -> String {
    let values = line.split("\\\\x").skip(1).map(|rest| {
        let end = rest.find(|letter: char| !letter.is_ascii_hexdigit()).unwrap_or(rest.len());
        String::from_utf8_lossy(&hex::decode(&rest[..end]).unwrap()).into_owned()
    });
    values.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_text_is_found_in_every_form() {
    let text = "Žofie Zqvarna";
    let hex = |text: &str| format!("1\t\\\\x{}\tt", hex::encode(text));
    let json = r#"{"name":"\u017Dofie Zqvarna"}"#;
    let base64 = |before: &str| STANDARD_NO_PAD.encode(format!("{before}žofie{text}, Lisboa"));
    let lines = [
        text.to_owned(),
        text.to_uppercase(),
        hex(text),
        hex(json),
        json.to_owned(),
        "name=%C5%BDofie+Zqvarna&email=".to_owned(),
        base64(""),
        base64("a"),
        hex(&base64("ab")),
    ];
    for line in lines {
        let dump = Dump::parse(&format!("COPY billing.events_2026_01 (a) FROM stdin;\n{line}\n\\.\n"));
        assert_eq!(dump.find(text).keys().collect::<Vec<_>>(), ["events"], "{line}");
        assert_eq!(dump.find("Zqbarna").len(), 0, "{line}");
    }
}
