//! The connection to the database. Read by every command that uses it.
//!
//! ```text
//! DATABASE_URL ─▶ text (URL or pairs) ─▶ parameters (known? supported?) ─▶ options ─▶ Hosts
//! PG* variables ────────────────────────────────────────────────────────▶    ▲
//!                                                             passfile ──────┘
//! ```
//!
//! As in psql, a parameter that the connection string does not contain comes from its PG* variable. Without a
//! connection string, the PG* variables are enough if one of them names the database's location.

mod options;
mod parameters;
mod passfile;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

use super::error::{self, Problem};
use super::parse::{Expected, Parsed};
use super::settings;
use super::source::Source;
use super::value::FoundValue;
use crate::database::Pooler;
use crate::database::hosts::Hosts;
use parameters::{KnownParameter, Rule};
use text::Parameter;

/// Variables that locate a database: one of them is enough.
const PLACES: [&str; 4] = ["PGHOST", "PGHOSTADDR", "PGDATABASE", "PGSERVICE"];

/// Settings of the connection to PostgreSQL.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// `DATABASE_URL`, or the PG* variables: an external database; `None` with the embedded one.
    pub hosts: Option<Hosts>,
}

impl DatabaseConfig {
    /// Reads the settings; an external database may be absent.
    pub fn read(source: &mut Source) -> Option<Self> {
        let pooler = source.value(&settings::POOLER, pooler);
        let found = source.look_up(&settings::DATABASE_URL).map_err(|problem| source.problem(problem)).ok()?;
        let by_variables = PLACES.iter().any(|name| !source.foreign(name).is_empty());
        if found.is_none() && !by_variables {
            return pooler.map(|_| Self { hosts: None });
        }
        let given = GivenParameters::read(source, found.as_ref()).map_err(|problem| source.problem(problem)).ok()?;
        given.warn(source);
        let hosts = options::hosts(&given, source);
        let (options, timeout) =
            hosts.map_err(|problems| problems.into_iter().for_each(|problem| source.problem(problem))).ok()?;
        Some(Self { hosts: Some(Hosts::new(options, pooler?, timeout)?) })
    }
}

/// Parses the mode of a pooler.
fn pooler(text: &str) -> Parsed<Pooler> {
    match text.trim().to_lowercase().as_str() {
        "session" => Ok(Pooler::Session),
        "transaction" => Ok(Pooler::Transaction),
        _ => Err(Expected::new("session or transaction")),
    }
}

/// Reads the settings for a command that requires a database.
pub fn required(source: &mut Source) -> Option<Hosts> {
    let database = DatabaseConfig::read(source)?;
    if database.hosts.is_none() {
        source.problem(missing("set it to postgres://user:password@host:port/name, or DATABASE_URL_FILE to a file"));
    }
    database.hosts
}

/// Whether `DATABASE_URL` is set to any value.
pub fn is_set(source: &Source) -> bool {
    !matches!(source.look_up(&settings::DATABASE_URL), Ok(None))
}

/// The problem of a missing `DATABASE_URL`, with the fix that fits the command.
pub fn missing(fix: &str) -> Problem {
    Problem::missing(&settings::DATABASE_URL, fix)
}

/// Where a parameter was given.
#[derive(Clone)]
enum Place {
    /// In the connection string of this setting.
    Text(String),
    /// In this PG* variable.
    Variable(&'static str),
}

/// A parameter's value, and where it was given. No `Debug`, because it may be a secret.
struct Value {
    text: String,
    place: Place,
}

/// The parameters, by their names in [`parameters::ALL`]. No `Debug`, because the password is one of them.
struct GivenParameters {
    values: BTreeMap<&'static str, Value>,
    /// Parameters of the connection string that have no effect here.
    ignored: Vec<&'static str>,
    subject: String,
}

impl GivenParameters {
    fn read(source: &Source, found: Option<&FoundValue>) -> Result<Self, Problem> {
        let subject = found.map_or_else(String::new, |found| error::subject(&settings::DATABASE_URL, &found.origin));
        let mut given = Self { values: BTreeMap::new(), ignored: Vec::new(), subject };
        if let Some(found) = found {
            given.read_text(&found.text)?;
        }
        // a host in the connection string overrides both PGHOST and PGHOSTADDR
        let placed = given.values.contains_key("host") || given.values.contains_key("hostaddr");
        for known in parameters::ALL {
            let Some(variable) = known.variable else { continue };
            let text = source.foreign(variable);
            if text.is_empty() || given.values.contains_key(known.name) || placed && known.name.starts_with("host") {
                continue;
            }
            given.take(known, Value { text, place: Place::Variable(variable) })?;
        }
        Ok(given)
    }

    fn read_text(&mut self, text: &str) -> Result<(), Problem> {
        if text.trim().is_empty() {
            return Err(Problem::new(&self.subject, "is blank", "set it to postgres://user:password@host:port/name"));
        }
        let parameters = text::parameters(text);
        let parameters = parameters.map_err(|error| Problem::new(&self.subject, error.wrong, error.fix))?;
        // with `password=`, or in text that may not be a connection string, a name may be part of a secret
        let may_name = text.trim().starts_with("postgres") && !text.contains("password");
        for (at, Parameter { name, value }) in parameters.into_iter().enumerate() {
            let Some(known) = parameters::find(&name) else {
                return Err(self.unknown(&name, at + 1, may_name));
            };
            let known = if let Rule::Alias(of) = known.rule { parameters::find(of).unwrap_or(known) } else { known };
            // the parameter `host` overrides the host of a URL, as in libpq
            if self.values.contains_key(known.name) && known.name != "host" {
                let wrong = format!("names the parameter {} twice (its value is not shown)", known.name);
                return Err(Problem::new(&self.subject, wrong, "omit one of them; write & in a password as %26"));
            }
            self.take(known, Value { text: value, place: Place::Text(self.subject.clone()) })?;
        }
        Ok(())
    }

    fn take(&mut self, known: &'static KnownParameter, value: Value) -> Result<(), Problem> {
        match known.rule {
            Rule::Only(values, _) if values.contains(&value.text.to_lowercase().as_str()) => {}
            Rule::Only(_, fix) => return Err(value.problem(known.name, "has a value that is not supported", fix)),
            Rule::Refused(fix) => return Err(value.problem(known.name, "is not supported", fix)),
            Rule::NoEffect => self.ignored.push(known.name),
            // an empty value counts as not given, as in libpq
            Rule::Used | Rule::Alias(_) if value.text.is_empty() => {}
            Rule::Used | Rule::Alias(_) => {
                self.values.insert(known.name, value);
            }
        }
        Ok(())
    }

    fn unknown(&self, name: &str, at: usize, may_name: bool) -> Problem {
        let which = if may_name { format!("a parameter {name:?}") } else { format!("a parameter (number {at})") };
        let fix = match parameters::nearest(name) {
            Some(nearest) => format!("omit it, or use the similar parameter {nearest}"),
            None => "omit it; write & as %26 and = as %3D if they are part of a value".to_owned(),
        };
        Problem::new(&self.subject, format!("has {which} that is unknown (its value is not shown)"), fix)
    }

    fn warn(&self, source: &mut Source) {
        if !self.ignored.is_empty() {
            let (subject, names) = (&self.subject, self.ignored.join(", "));
            source.warn(format!("{subject} has parameters without effect here: {names}; they can be omitted"));
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.text.as_str())
    }

    /// A problem with the value of a given parameter.
    fn problem(&self, name: &'static str, wrong: &str, fix: &str) -> Problem {
        match self.values.get(name) {
            Some(value) => value.problem(name, wrong, fix),
            None => Problem::new(settings::DATABASE_URL.name, format!("{name} {wrong}"), fix),
        }
    }
}

impl Value {
    fn problem(&self, name: &str, wrong: &str, fix: &str) -> Problem {
        match &self.place {
            Place::Text(subject) => Problem::new(subject, format!("the parameter {name} {wrong}"), fix),
            Place::Variable(variable) => Problem::new(*variable, wrong, fix),
        }
    }
}
