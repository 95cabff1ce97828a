//! The settings that the `outbox` commands use.

use crate::cli::settings::Uses;
use crate::config::settings::SettingGroup;

/// The settings of the `outbox` commands.
#[derive(Debug)]
pub struct Settings;

impl Uses for Settings {
    const SETTING_GROUPS: &'static [SettingGroup] = &[SettingGroup::Database, SettingGroup::Log];
}
