//! Settings of the embedded PostgreSQL. Read by `serve --embedded` and `demo`, used by `crate::embedded`.

use std::path::PathBuf;

use super::parse;
use super::settings;
use super::source::Source;
use crate::embedded::Options;

/// Settings of the embedded PostgreSQL.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// `BILLING_SYNC_DATA_DIR`, default `./.billing-sync`.
    pub data_dir: PathBuf,
    /// `BILLING_SYNC_PG_BIN`: the directory of `initdb` and `postgres`; `None`: search the usual places.
    pub pg_bin: Option<PathBuf>,
    /// `PATH`: searched before the usual places.
    pub search_path: String,
}

impl EmbeddedConfig {
    /// Reads the settings of the embedded PostgreSQL.
    pub fn read(source: &mut Source) -> Option<Self> {
        let data_dir = source.value(&settings::DATA_DIR, parse::path);
        let pg_bin = source.optional(&settings::PG_BIN, parse::path);
        Some(Self { data_dir: data_dir?, pg_bin: pg_bin?, search_path: source.foreign("PATH") })
    }

    /// The settings as options of [`crate::embedded`].
    pub fn options(&self) -> Options {
        Options {
            data_dir: self.data_dir.clone(),
            pg_bin: self.pg_bin.clone(),
            search_path: self.search_path.clone(),
            settings: Vec::new(),
        }
    }
}
