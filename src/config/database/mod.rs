//! How to reach the database. Read by every command that talks to it.
//!
//! ```text
//! DATABASE_URL ─▶ text (URL or pairs) ─▶ parameters (known? supported?) ─▶ options ─▶ Hosts
//! PG* variables ────────────────────────────────────────────────────────▶    ▲
//!                                                             passfile ──────┘
//! ```
//!
//! As in psql, a parameter that the connection string does not name comes from its PG* variable. Without a connection
//! string those alone are enough, where one of them says where the database is.

mod options;
mod parameters;
mod passfile;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

use super::error::{self, Problem};
use super::settings;
use super::source::{Found, Source};
use crate::database::hosts::Hosts;
use parameters::{Known, Rule};
use text::Parameter;

/// Variables that say where a database is: one of them is enough.
const PLACES: [&str; 4] = ["PGHOST", "PGHOSTADDR", "PGDATABASE", "PGSERVICE"];

/// Settings of the connection to PostgreSQL.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// `DATABASE_URL`, or the PG* variables: an external database; none with the embedded one.
    pub hosts: Option<Hosts>,
}

impl DatabaseConfig {
    /// Reads the settings; an external database may be absent.
    pub fn read(source: &mut Source) -> Option<Self> {
        let found = source.look_up(&settings::DATABASE_URL).map_err(|problem| source.problem(problem)).ok()?;
        let by_variables = PLACES.iter().any(|name| !source.foreign(name).is_empty());
        if found.is_none() && !by_variables {
            return Some(Self { hosts: None });
        }
        let given = Given::read(source, found.as_ref()).map_err(|problem| source.problem(problem)).ok()?;
        given.warn(source);
        let hosts = options::hosts(&given, source);
        hosts
            .map_err(|problems| problems.into_iter().for_each(|problem| source.problem(problem)))
            .ok()
            .map(|hosts| Self { hosts: Some(hosts) })
    }
}

/// Reads the settings alone, for a command that cannot do without a database.
pub fn required(source: &mut Source) -> Option<Hosts> {
    let database = DatabaseConfig::read(source)?;
    if database.hosts.is_none() {
        source.problem(missing("set it to postgres://user:password@host:port/name, or DATABASE_URL_FILE to a file"));
    }
    database.hosts
}

/// Whether `DATABASE_URL` is set, to whatever.
pub fn is_set(source: &Source) -> bool {
    !matches!(source.look_up(&settings::DATABASE_URL), Ok(None))
}

/// The problem of an absent `DATABASE_URL`, with the mend that fits the command.
pub fn missing(mend: &str) -> Problem {
    Problem::missing(&settings::DATABASE_URL, mend)
}

/// Where a parameter was given.
#[derive(Clone)]
enum Place {
    /// In the connection string; the setting's name.
    Text(String),
    /// In the variable of its own.
    Variable(&'static str),
}

/// A parameter's value, and where it was given. No `Debug`: it may be a secret.
struct Value {
    text: String,
    place: Place,
}

/// The parameters, by their names in our table. No `Debug`: the password is one.
struct Given {
    values: BTreeMap<&'static str, Value>,
    /// Those of the connection string that have no effect here.
    ignored: Vec<&'static str>,
    subject: String,
}

impl Given {
    fn read(source: &Source, found: Option<&Found>) -> Result<Self, Problem> {
        let subject = found.map_or_else(String::new, |found| error::subject(&settings::DATABASE_URL, &found.origin));
        let mut given = Self { values: BTreeMap::new(), ignored: Vec::new(), subject };
        if let Some(found) = found {
            given.read_text(&found.text)?;
        }
        // a host of the connection string replaces both variables that name one
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
        // behind `password=`, and in what is perhaps no connection string at all, a name may be a piece of a secret
        let may_name = text.trim().starts_with("postgres") && !text.contains("password");
        for (at, Parameter { name, value }) in parameters.into_iter().enumerate() {
            let Some(known) = parameters::find(&name) else {
                return Err(self.unknown(&name, at + 1, may_name));
            };
            let known = if let Rule::Alias(of) = known.rule { parameters::find(of).unwrap_or(known) } else { known };
            // the host of a URL, empty or not, is replaced by the parameter `host`, as in libpq
            if self.values.contains_key(known.name) && known.name != "host" {
                let wrong = format!("names the parameter {} twice (its value is not shown)", known.name);
                return Err(Problem::new(&self.subject, wrong, "leave one of them out; write & of a password as %26"));
            }
            self.take(known, Value { text: value, place: Place::Text(self.subject.clone()) })?;
        }
        Ok(())
    }

    fn take(&mut self, known: &'static Known, value: Value) -> Result<(), Problem> {
        match known.rule {
            Rule::Only(values, _) if values.contains(&value.text.to_lowercase().as_str()) => {}
            Rule::Only(_, fix) => return Err(value.problem(known.name, "asks for what is not supported", fix)),
            Rule::Refused(fix) => return Err(value.problem(known.name, "is not supported", fix)),
            Rule::NoEffect => self.ignored.push(known.name),
            // an empty value is none, as in libpq
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
            Some(nearest) => format!("leave it out, or did you mean {nearest}?"),
            None => "leave it out; write & as %26 and = as %3D where they are part of a value".to_owned(),
        };
        Problem::new(&self.subject, format!("has {which} that is not known (its value is not shown)"), fix)
    }

    fn warn(&self, source: &mut Source) {
        if !self.ignored.is_empty() {
            let (subject, names) = (&self.subject, self.ignored.join(", "));
            source.warn(format!("{subject} has parameters without effect here: {names}; they can be left out"));
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.text.as_str())
    }

    /// What is wrong with the value of a parameter that was given.
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
