//! Finds values: flag, else environment, else `NAME_FILE`, else default. The only reader of the environment.
//!
//! Every problem is collected, so that an operator can fix all of them at once. An empty variable counts as not set,
//! because `NAME=${NAME}` in a compose file sets it if the outer variable is not set. Called by the structs of
//! [`crate::config`]; knows nothing of the meaning of a value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::error::{ConfigError, Problem, RefusedSecret};
use super::parse::Parsed;
use super::settings::{self, Setting};
use super::value::{FoundValue, Origin};
use crate::base::file;

/// Flags given on the command line, by the setting's name.
pub type Flags = BTreeMap<&'static str, String>;

/// The flags and the environment of one process. No `Debug`, because it contains secrets.
pub struct Source {
    flags: Flags,
    environment: BTreeMap<String, OsString>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Source {
    /// The given flags, and the environment of this process.
    pub fn process(flags: Flags) -> Self {
        // no setting has a name that is not UTF-8
        let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self::new(flags, named)
    }

    /// The given flags and environment.
    pub fn new(flags: Flags, environment: impl IntoIterator<Item = (String, OsString)>) -> Self {
        let mut environment: BTreeMap<_, _> = environment.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        // both cases are in use for these; if both are set, upper case wins, as in Go
        for setting in [&settings::HTTPS_PROXY, &settings::ALL_PROXY, &settings::NO_PROXY] {
            if let Some(value) = environment.remove(&setting.name.to_lowercase()) {
                environment.entry(setting.name.to_owned()).or_insert(value);
            }
        }
        Self { flags, environment, problems: Vec::new(), warnings: Vec::new() }
    }

    /// Runs `read`, which reads values, and returns its result or all its problems.
    ///
    /// # Errors
    /// All problems at once.
    pub fn collect<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Result<T, ConfigError> {
        let outer = std::mem::take(&mut self.problems);
        let value = read(self);
        let problems = std::mem::replace(&mut self.problems, outer);
        match value {
            Some(value) if problems.is_empty() => Ok(value),
            _ => Err(ConfigError { problems }),
        }
    }

    /// The value of a required setting; `None` after noting a problem.
    pub fn required<T>(&mut self, setting: &Setting, fix: &str, parse: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        let value = self.optional(setting, parse)?;
        if value.is_none() {
            self.problem(Problem::missing(setting, fix));
        }
        value
    }

    /// The value of a setting that has a default.
    pub fn value<T>(&mut self, setting: &Setting, parse: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        self.required(setting, "set it", parse)
    }

    /// The value of an optional setting, `Some(None)` if it is not set; `None` after noting a problem.
    pub fn optional<T>(&mut self, setting: &Setting, parse: impl Fn(&str) -> Parsed<T>) -> Option<Option<T>> {
        let read = self.look_up(setting).and_then(|found| {
            let Some(found) = found else { return Ok(None) };
            parse(&found.text).map(Some).map_err(|expected| Problem::unexpected(setting, &found, &expected))
        });
        read.map_err(|problem| self.problem(problem)).ok()
    }

    /// The value of an optional secret, as [`Self::optional`]. Its parser describes what is wrong.
    pub fn secret<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, RefusedSecret>,
    ) -> Option<Option<T>> {
        let read = self.look_up(setting).and_then(|found| {
            let Some(found) = found else { return Ok(None) };
            parse(&found.text).map(Some).map_err(|refused| Problem::refused(setting, &found, refused))
        });
        read.map_err(|problem| self.problem(problem)).ok()
    }

    /// Notes a problem that does not concern a single value, for example two values that contradict each other. Each is
    /// noted once, although the settings of Stripe's API and of the workspace API both read the proxy.
    pub fn problem(&mut self, problem: Problem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Notes a warning that does not prevent the start: a sentence that names the variable.
    pub fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// The warnings noted so far.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// A variable that is not a setting of billing-sync; empty if it is not set.
    pub fn foreign(&self, name: &str) -> String {
        self.environment.get(name).map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Names of all variables that are set and not empty.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        self.environment.keys().map(String::as_str)
    }

    /// The text of a setting and its source; `None` if it is not set and has no default.
    ///
    /// # Errors
    /// If both variables are set, the file cannot be read, or the value is not text.
    pub fn look_up(&self, setting: &Setting) -> Result<Option<FoundValue>, Problem> {
        if let Some(flag) = self.flags.get(setting.name) {
            return Ok(Some(FoundValue { text: flag.clone(), origin: Origin::Flag }));
        }
        let file_variable = setting.file_variable();
        match (self.environment.get(setting.name), self.environment.get(&file_variable)) {
            (Some(_), Some(_)) => Err(Problem::set_twice(setting)),
            (Some(value), None) => {
                let text = value.to_str().ok_or_else(|| Problem::no_text(setting.name))?.to_owned();
                Ok(Some(FoundValue { text, origin: Origin::Environment }))
            }
            (None, Some(path)) => from_file(&file_variable, PathBuf::from(path)).map(Some),
            (None, None) => {
                let default = FoundValue { text: setting.default.to_owned(), origin: Origin::Default };
                Ok(Some(default).filter(|found| !found.text.is_empty()))
            }
        }
    }
}

fn from_file(variable: &str, path: PathBuf) -> Result<FoundValue, Problem> {
    let content =
        file::read_text(&path, file::MAX_VALUE_BYTES).map_err(|error| Problem::unreadable(variable, &path, &error))?;
    let text = content.strip_suffix('\n').map_or(content.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() {
        // an empty variable may come from a compose file; an empty mounted file is a lost secret
        return Err(Problem::empty_file(variable, &path));
    }
    Ok(FoundValue { text: text.to_owned(), origin: Origin::File(path) })
}

#[cfg(test)]
mod tests;
