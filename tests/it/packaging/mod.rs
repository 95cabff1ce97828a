//! The files in `ops/` that start billing-sync start it with valid arguments and settings, and fit the image and each
//! other. `.ci/check-ops` checks the same files against the schemas of Kubernetes, Compose and systemd.

mod compose;
mod kubernetes;
mod systemd;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use billing_sync::cli::Cli;
use billing_sync::config::settings::{self, Setting};
use billing_sync::config::shutdown::ShutdownConfig;
use billing_sync::config::source::Source;
use billing_sync::config::unknown;
use clap::Parser;
use serde::Deserialize;
use serde_json::Value;

type Environment = BTreeMap<String, String>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents of a YAML file, with merged keys (`<<`).
fn yaml(path: &str) -> Vec<Value> {
    let text = read(path);
    let documents = serde_yaml_ng::Deserializer::from_str(&text).map(|document| {
        let mut document =
            serde_yaml_ng::Value::deserialize(document).unwrap_or_else(|error| panic!("{path}: {error}"));
        document.apply_merge().unwrap();
        serde_json::to_value(document).unwrap()
    });
    documents.collect()
}

/// The value at a path such as `spec.ports`; null if there is none.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, key| &value[key])
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The texts of a list, which may be absent.
fn texts(value: &Value) -> Vec<&str> {
    list(value).iter().map(|text| text.as_str().unwrap()).collect()
}

/// The instructions of the Dockerfile with this name, without it. Continued lines are joined.
fn instructions(name: &str) -> Vec<String> {
    let text = read("Dockerfile").replace("\\\n", " ");
    text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned)).collect()
}

/// The environment that the image sets.
fn image_environment() -> Environment {
    let set = instructions("ENV").join(" ");
    set.split_whitespace()
        .map(|set| set.split_once('=').unwrap())
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

/// A process as a file of `ops/` starts it.
struct Process {
    /// The file, and where in it, for messages.
    place: String,
    arguments: Vec<String>,
    environment: Environment,
    /// Paths of the files that are mounted for it and contain secrets.
    secret_files: Vec<String>,
}

impl Process {
    /// Parses the arguments and reads the settings as the process would at its start, without running it. Returns the
    /// settings.
    fn checked(&self) -> Source {
        let place = &self.place;
        let program = std::iter::once("billing-sync").chain(self.arguments.iter().map(String::as_str));
        let cli = Cli::try_parse_from(program).unwrap_or_else(|error| panic!("{place}: {error}"));
        let folder = tempfile::tempdir().unwrap();
        let environment = self.environment.iter().map(|(name, value)| {
            let value =
                name.strip_suffix("_FILE").map_or_else(|| value.clone(), |of| self.secret(of, value, folder.path()));
            (name.clone(), value.into())
        });
        let mut source = Source::new(cli.flags(), environment);
        let checked = source.collect(|source| {
            let log = cli.log(source);
            let task = cli.plan(source);
            log.zip(task).map(|_| ())
        });
        checked.unwrap_or_else(|error| panic!("{place}: {error}"));
        let warnings: Vec<String> = unknown::warnings(&source).into_iter().chain(source.warnings().to_vec()).collect();
        assert!(warnings.is_empty(), "{place}: {warnings:?}");
        source
    }

    /// Writes an example of a secret, instead of the file that is mounted. Returns its path.
    fn secret(&self, name: &str, path: &str, folder: &Path) -> String {
        assert!(self.secret_files.iter().any(|file| file == path), "{}: {path} is not mounted", self.place);
        let example = match name {
            "DATABASE_URL" => "postgres://user:password@db.example.com/name",
            "STRIPE_WEBHOOK_SECRET" => "whsec_example0example0example0",
            "STRIPE_SECRET_KEY" => "rk_test_example0example0example0",
            _ => panic!("{}: {name} is not a known secret", self.place),
        };
        let file = folder.join(name);
        fs::write(&file, example).unwrap();
        file.to_str().unwrap().to_owned()
    }
}

/// The port of a listener.
fn port(source: &Source, listen: &Setting) -> u64 {
    let address = source.look_up(listen).unwrap().unwrap().text;
    address.rsplit(':').next().unwrap().parse().unwrap()
}

/// A listener in a container must be reachable from outside of it.
fn assert_reachable(place: &str, source: &Source) {
    for listen in [&settings::LISTEN, &settings::OPS_LISTEN] {
        let address = source.look_up(listen).unwrap().unwrap().text;
        assert!(address.starts_with("0.0.0.0:"), "{place}: {} is {address}", listen.name);
    }
}

/// The supervisor kills the process only after it has had its time to finish.
fn assert_time_to_finish(place: &str, source: &mut Source, kill_after: Duration) -> ShutdownConfig {
    let shutdown = source.collect(ShutdownConfig::read).unwrap();
    assert!(
        shutdown.timeout < kill_after,
        "{place}: killed after {kill_after:?}, but it may take {:?}",
        shutdown.timeout
    );
    shutdown
}

#[test]
fn the_image_is_not_root_and_checks_its_own_health() {
    let user = instructions("USER").pop().unwrap();
    assert!(user.parse::<u32>().is_ok_and(|user| user > 0), "USER {user}");
    let entry: Vec<String> = serde_json::from_str(&instructions("ENTRYPOINT").pop().unwrap()).unwrap();
    let health = instructions("HEALTHCHECK").pop().unwrap();
    let check: Vec<String> = serde_json::from_str(health.split_once("CMD ").unwrap().1).unwrap();
    assert_eq!(check[..1], entry, "the health check runs another program");
    let arguments = check[1..].to_vec();
    let health =
        Process { place: "Dockerfile".into(), arguments, environment: image_environment(), secret_files: Vec::new() };
    let source = health.checked();
    assert_reachable("Dockerfile", &source);
    let exposed = instructions("EXPOSE").join(" ");
    let listens = [&settings::LISTEN, &settings::API_LISTEN, &settings::OPS_LISTEN];
    assert_eq!(exposed, listens.map(|listen| port(&source, listen).to_string()).join(" "));
}
