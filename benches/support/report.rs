//! The result of a benchmark: a table on the terminal, and the same as JSON in `target/bench/NAME.json`.

use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Target of a figure. Nothing is asserted, because results depend on the machine and the time.
#[derive(Clone, Copy)]
pub(crate) enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

impl Aim {
    fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(bound) => figure >= bound,
            Self::AtMost(bound) => figure <= bound,
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => f.pad(&format!(">= {bound}")),
            Self::AtMost(bound) => f.pad(&format!("<= {bound}")),
        }
    }
}

struct Row {
    what: String,
    figure: f64,
    unit: &'static str,
    /// Name of the ceiling, its value in the same run, and figure / ceiling.
    ceiling: Option<(String, f64, f64)>,
    aim: Option<Aim>,
}

/// The report so far.
pub(crate) struct Report {
    name: &'static str,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, rows: Vec::new() }
    }

    /// Adds a figure without a ceiling; the aim, if any, is for the figure itself.
    pub(crate) fn figure(
        &mut self,
        what: impl Into<String>,
        figure: f64,
        unit: &'static str,
        aim: impl Into<Option<Aim>>,
    ) {
        self.add(Row { what: what.into(), figure, unit, ceiling: None, aim: aim.into() });
    }

    /// Adds a figure with a ceiling of the same run in the same unit; the aim, if any, is for figure / ceiling.
    pub(crate) fn ratio(
        &mut self,
        what: impl Into<String>,
        figure: f64,
        unit: &'static str,
        (ceiling_is, ceiling): (&str, f64),
        aim: impl Into<Option<Aim>>,
    ) {
        let ceiling = Some((ceiling_is.to_owned(), ceiling, figure / ceiling));
        self.add(Row { what: what.into(), figure, unit, ceiling, aim: aim.into() });
    }

    /// Prints the row at once, because a benchmark takes long.
    fn add(&mut self, row: Row) {
        println!("{}", line(&row));
        self.rows.push(row);
    }

    /// Prints the whole table again, and writes the JSON.
    pub(crate) fn finish(self) {
        println!("\n{}", self.name);
        for row in &self.rows {
            println!("{}", line(row));
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench").join(format!("{}.json", self.name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let rows: Vec<Value> = self.rows.iter().map(as_json).collect();
        fs::write(&path, format!("{:#}\n", json!({"bench": self.name, "rows": rows}))).unwrap();
        println!("\nwritten to {}", path.display());
    }
}

fn line(row: &Row) -> String {
    let aim = row.aim.map(|aim| format!("{aim:6} {}", if aim.is_met(judged(row)) { "reached" } else { "missed" }));
    let figure = format!("{} {}", short(row.figure), row.unit);
    let beside = row
        .ceiling
        .as_ref()
        .map_or_else(String::new, |(is, ceiling, ratio)| format!("{ratio:.2} x {} ({is})", short(*ceiling)));
    format!("  {:44} {figure:>20}  {beside:44} {}", row.what, aim.unwrap_or_default()).trim_end().to_owned()
}

/// The value that the aim is for.
fn judged(row: &Row) -> f64 {
    row.ceiling.as_ref().map_or(row.figure, |(_, _, ratio)| *ratio)
}

fn as_json(row: &Row) -> Value {
    let (ceiling_is, ceiling, ratio) = match &row.ceiling {
        Some((is, ceiling, ratio)) => (json!(is), json!(ceiling), json!(ratio)),
        None => (Value::Null, Value::Null, Value::Null),
    };
    let (aim, met) = (row.aim.map(|aim| aim.to_string()), row.aim.map(|aim| aim.is_met(judged(row))));
    json!({"what": row.what, "figure": row.figure, "unit": row.unit, "ceiling": ceiling, "ceiling_is": ceiling_is,
        "ratio": ratio, "aim": aim, "reached": met})
}

/// Formats with at least three significant digits.
fn short(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        large if large >= 100.0 => format!("{figure:.0}"),
        middle if middle >= 1.0 => format!("{figure:.2}"),
        _ => format!("{figure:.4}"),
    }
}
