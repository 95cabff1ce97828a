//! The settings that `explain` uses.

use crate::cli::settings::Uses;
use crate::config::settings::SettingGroup;

/// The settings of `explain`.
#[derive(Debug)]
pub struct Settings;

impl Uses for Settings {
    const SETTING_GROUPS: &'static [SettingGroup] = &[SettingGroup::Database, SettingGroup::Log];
}
