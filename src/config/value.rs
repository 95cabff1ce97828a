//! The text of a setting, and where it was found.

use std::path::PathBuf;

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// The environment variable.
    Environment,
    /// The file that the `_FILE` variable names.
    File(PathBuf),
    /// The default in the registry.
    Default,
}

/// A value as text, and its source. No `Debug`, because the text may be a secret.
pub struct FoundValue {
    /// The text, without a file's final newline.
    pub text: String,
    /// The source.
    pub origin: Origin,
}
