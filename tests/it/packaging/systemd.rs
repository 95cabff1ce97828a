//! `ops/systemd/`: the unit and the example of its settings.

use std::time::Duration;

use super::{Environment, Process, assert_time_to_finish, read};

const UNIT: &str = "ops/systemd/billing-sync.service";
const SETTINGS: &str = "ops/systemd/billing-sync.env";

/// The values of a key of the unit, in their order.
fn values(key: &str) -> Vec<String> {
    let unit = read(UNIT);
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned)).collect()
}

fn assignments<'a>(lines: impl Iterator<Item = &'a str>) -> Environment {
    lines.map(|line| line.split_once('=').unwrap()).map(|(name, value)| (name.into(), value.into())).collect()
}

#[test]
fn the_unit_starts_with_the_example_of_its_settings() {
    let settings = read(SETTINGS);
    let mut environment = assignments(settings.lines().filter(|line| !line.starts_with('#') && !line.is_empty()));
    assert!(environment.len() > 3, "{SETTINGS} contains {} settings", environment.len());
    environment.extend(assignments(values("Environment").iter().map(String::as_str)));
    let credentials = values("LoadCredential");
    let folder = |credential: &String| credential.split(':').nth(1).unwrap().rsplit_once('/').unwrap().0.to_owned();
    let file = values("EnvironmentFile").pop().unwrap();
    assert!(credentials.iter().all(|credential| file == format!("-{}/billing-sync.env", folder(credential))), "{file}");
    let starts: Vec<String> =
        ["ExecStartPre", "ExecStart", "ExecReload", "ExecStop"].iter().flat_map(|key| values(key)).collect();
    assert_eq!(starts.len(), 1, "{starts:?}");
    let arguments = starts[0].strip_prefix("/usr/local/bin/billing-sync ").unwrap();
    let process = Process {
        place: UNIT.to_owned(),
        arguments: arguments.split(' ').map(str::to_owned).collect(),
        environment,
        secret_files: credentials
            .iter()
            .map(|credential| format!("%d/{}", credential.split(':').next().unwrap()))
            .collect(),
    };
    let seconds = values("TimeoutStopSec").pop().unwrap().parse().unwrap();
    assert_time_to_finish(UNIT, &mut process.checked(), Duration::from_secs(seconds));
}
