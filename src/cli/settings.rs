//! The settings of a command as flags, derived from the registry. Each command names the setting groups that it uses.

use std::marker::PhantomData;

use clap::error::Error;
use clap::{Arg, ArgMatches, Command, FromArgMatches};

use super::output;
use crate::config::settings::{Setting, SettingGroup};
use crate::config::source::Flags;

/// Which settings a command uses.
pub trait Uses {
    /// The groups that the command uses.
    const SETTING_GROUPS: &'static [SettingGroup];

    /// The settings of these groups.
    fn settings() -> impl Iterator<Item = &'static Setting> {
        Self::SETTING_GROUPS.iter().flat_map(|group| group.settings())
    }
}

/// The settings of commands that use the database only.
#[derive(Debug)]
pub struct DatabaseSettings;

impl Uses for DatabaseSettings {
    const SETTING_GROUPS: &'static [SettingGroup] = &[SettingGroup::Database, SettingGroup::Log];
}

/// The settings of commands that remove old data.
#[derive(Debug)]
pub struct RetentionSettings;

impl Uses for RetentionSettings {
    const SETTING_GROUPS: &'static [SettingGroup] =
        &[SettingGroup::Database, SettingGroup::Retention, SettingGroup::Log];
}

/// The settings of commands that compute rows: which accounts are synced, by which rules, and how Stripe is reached.
#[derive(Debug)]
pub struct StripeSettings;

impl Uses for StripeSettings {
    const SETTING_GROUPS: &'static [SettingGroup] =
        &[SettingGroup::Database, SettingGroup::Stripe, SettingGroup::Tls, SettingGroup::Sync, SettingGroup::Log];
}

/// All settings.
#[derive(Debug)]
pub struct AllSettings;

impl Uses for AllSettings {
    const SETTING_GROUPS: &'static [SettingGroup] = SettingGroup::ALL;
}

/// The flags of a command's settings, as given.
#[derive(Debug)]
pub struct SettingArgs<U> {
    flags: Flags,
    of: PhantomData<U>,
}

impl<U> SettingArgs<U> {
    /// The flags given.
    pub fn flags(&self) -> Flags {
        self.flags.clone()
    }
}

impl<U: Uses> clap::Args for SettingArgs<U> {
    fn augment_args(command: Command) -> Command {
        let command = command.after_help(variables::<U>());
        U::settings().filter_map(argument).fold(command, Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<U: Uses> FromArgMatches for SettingArgs<U> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let flags = U::settings()
            .filter(|setting| setting.flag.is_some())
            .filter_map(|setting| Some((setting.name, matches.get_one::<String>(setting.name)?.clone())))
            .collect();
        Ok(Self { flags, of: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn argument(setting: &'static Setting) -> Option<Arg> {
    let default = if setting.default.is_empty() { String::new() } else { format!(" [default: {}]", setting.default) };
    let argument = Arg::new(setting.name)
        .long(setting.flag?)
        .value_name(setting.placeholder)
        .help_heading(setting.group.heading())
        .help(format!("{}\n[env: {}]{default}", setting.help, setting.name));
    Some(if setting.placeholder == "BOOL" {
        // `--livemode` without a value means true
        argument.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        argument
    })
}

/// The text about variables in `--help`. It lists the secrets, because they have no flag.
fn variables<U: Uses>() -> String {
    let mut secrets = U::settings().filter(|setting| setting.secret).map(secret).collect::<String>();
    if !secrets.is_empty() {
        secrets = format!("Secrets, from the environment only:\n{secrets}\n");
    }
    secrets
        + "A flag overrides its variable. To read a value from a file, set NAME_FILE to the\n\
           path of the file instead of NAME."
}

fn secret(setting: &'static Setting) -> String {
    format!("  {}\n{}\n", setting.name, output::wrapped("          ", setting.help))
}
