//! Configuration errors for the operator: the variable, what is wrong, and the fix.
//!
//! No text contains the value of a secret. Created by [`super::source`], printed by the command line.

use std::fmt;
use std::path::Path;

use super::parse::Expected;
use super::settings::Setting;
use super::value::{FoundValue, Origin};

/// Maximum number of characters of an invalid value that an error repeats.
const QUOTED_CHARS: usize = 40;

/// Why a secret cannot be used, and the fix. Neither text contains a part of the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedSecret {
    /// What is wrong.
    pub wrong: String,
    /// How to fix it.
    pub fix: String,
}

/// One problem of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The variable or flag.
    pub subject: String,
    /// What is wrong.
    pub wrong: String,
    /// How to fix it.
    pub fix: String,
}

impl Problem {
    /// A problem with texts of the caller.
    pub fn new(subject: impl Into<String>, wrong: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { subject: subject.into(), wrong: wrong.into(), fix: fix.into() }
    }

    /// The problem of a required setting that is not set.
    pub fn missing(setting: &Setting, fix: &str) -> Self {
        Self::new(setting.name, "is not set (or empty)", fix)
    }

    pub(super) fn unexpected(setting: &Setting, found: &FoundValue, expected: &Expected) -> Self {
        let Expected { what: expected, hint } = expected;
        let wrong = if found.text.trim().is_empty() {
            "is blank".to_owned()
        } else if setting.secret {
            format!("is not {expected} (its value is not shown)")
        } else {
            format!("{} is not {expected}", quoted(&found.text))
        };
        let fix = match setting.default {
            "" if setting.secret => format!("set it to {expected}{hint}"),
            "" => format!("set it to {expected}{hint}, or omit it"),
            default => format!("set it to {expected}{hint}, or omit it for the default, {default}"),
        };
        Self::new(subject(setting, &found.origin), wrong, fix)
    }

    /// The problem of a secret that its parser refuses.
    pub(super) fn refused(setting: &Setting, found: &FoundValue, refused: RefusedSecret) -> Self {
        Self::new(subject(setting, &found.origin), refused.wrong, refused.fix)
    }

    pub(super) fn set_twice(setting: &Setting) -> Self {
        let file = setting.file_variable();
        Self::new(setting.name, format!("is set, and so is {file}"), "set only one of the two")
    }

    pub(super) fn no_text(variable: &str) -> Self {
        Self::new(variable, "is not UTF-8 text", "set it to plain text")
    }

    pub(super) fn unreadable(variable: &str, path: &Path, error: &std::io::Error) -> Self {
        let wrong = format!("the file {} cannot be read: {error}", path.display());
        Self::new(variable, wrong, "name a text file that this process may read")
    }

    pub(super) fn empty_file(variable: &str, path: &Path) -> Self {
        Self::new(variable, format!("the file {} is empty", path.display()), "write the value into it")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.subject, self.wrong, self.fix)
    }
}

/// All problems of the configuration.
#[derive(Debug, thiserror::Error)]
#[error("{}", .problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    /// In the order in which the settings are read.
    pub problems: Vec<Problem>,
}

/// The name under which the operator set the setting.
pub(super) fn subject(setting: &Setting, origin: &Origin) -> String {
    match (origin, setting.flag) {
        (Origin::Flag, Some(flag)) => format!("--{flag}"),
        (Origin::File(_), _) => setting.file_variable(),
        _ => setting.name.to_owned(),
    }
}

fn quoted(text: &str) -> String {
    let start: String = text.chars().take(QUOTED_CHARS).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", start.escape_debug())
}
