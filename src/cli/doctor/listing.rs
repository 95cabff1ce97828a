//! The list of all settings with their values and sources; for secrets only whether they are set, and how many.

use serde::Serialize;

use crate::config::receiver;
use crate::config::settings::{self, Setting};
use crate::config::source::Source;
use crate::config::value::{FoundValue, Origin};

/// One line of the listing.
#[derive(Debug, Serialize)]
pub(super) struct ListedSetting {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) source: String,
}

pub(super) fn list(source: &Source) -> Vec<ListedSetting> {
    settings::ALL.iter().map(|setting| listed(setting, source)).collect()
}

fn listed(setting: &'static Setting, source: &Source) -> ListedSetting {
    let (value, from) = match source.look_up(setting) {
        Ok(Some(found)) => (value(setting, &found), origin(setting, &found.origin)),
        Ok(None) => ("not set".to_owned(), String::new()),
        Err(_) => ("invalid, see below".to_owned(), String::new()),
    };
    ListedSetting { name: setting.name, value, source: from }
}

fn value(setting: &Setting, found: &FoundValue) -> String {
    if !setting.secret {
        return found.text.clone();
    }
    if setting.name == settings::WEBHOOK_SECRET.name {
        return match receiver::parse_secrets(&found.text).map_or(0, |secrets| secrets.len()) {
            0 => "set".to_owned(),
            1 => "set (1 entry)".to_owned(),
            entries => format!("set ({entries} entries)"),
        };
    }
    "set".to_owned()
}

fn origin(setting: &Setting, origin: &Origin) -> String {
    match origin {
        Origin::Flag => "flag".to_owned(),
        Origin::Environment => "environment".to_owned(),
        Origin::File(path) => format!("{} {}", setting.file_variable(), path.display()),
        Origin::Default => "default".to_owned(),
    }
}
