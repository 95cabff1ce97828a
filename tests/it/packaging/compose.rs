//! `ops/compose.yaml`, and the files of Prometheus and Grafana that it mounts.

use billing_sync::config::settings;
use billing_sync::receiver::PATH;
use serde_json::{Map, Value};

use super::{
    Environment, Process, assert_reachable, assert_time_to_finish, at, image_environment, list, port, root, texts, yaml,
};

const FILE: &str = "ops/compose.yaml";

fn compose() -> Value {
    yaml(FILE).pop().unwrap()
}

fn services(compose: &Value) -> &Map<String, Value> {
    compose["services"].as_object().unwrap()
}

/// The text with the defaults of its variables: `${NAME:-default}`.
fn interpolated(text: &str) -> String {
    let mut parts = text.split("${");
    let mut result = parts.next().unwrap().to_owned();
    for part in parts {
        let (variable, rest) = part.split_once('}').unwrap();
        result.push_str(variable.split_once(":-").expect("a variable without a default").1);
        result.push_str(rest);
    }
    result
}

/// The process of a service that runs billing-sync.
fn process(compose: &Value, name: &str) -> Process {
    let service = &compose["services"][name];
    let own = service["environment"].as_object().unwrap();
    let own = own.iter().map(|(name, value)| (name.clone(), interpolated(value.as_str().unwrap())));
    Process {
        place: format!("{FILE}: {name}"),
        arguments: texts(&service["command"]).into_iter().map(str::to_owned).collect(),
        environment: image_environment().into_iter().chain(own).collect::<Environment>(),
        secret_files: Vec::new(),
    }
}

/// The mounts of a service: what is mounted, and where.
fn mounts(service: &Value) -> Vec<(&str, &str)> {
    let parts = texts(&service["volumes"]).into_iter().map(|mount| mount.split(':').collect::<Vec<_>>());
    parts.map(|parts| (parts[0], parts[1])).collect()
}

#[test]
fn every_process_starts_with_its_arguments_and_settings() {
    let compose = compose();
    let mut found = Vec::new();
    for (name, _) in services(&compose).iter().filter(|(_, service)| service["image"] == "billing-sync") {
        process(&compose, name).checked();
        found.push(name);
    }
    assert_eq!(found, ["billing-sync", "events", "migrate"]);
    let mut source = process(&compose, "billing-sync").checked();
    assert_reachable(FILE, &source);
    let grace = compose["services"]["billing-sync"]["stop_grace_period"].as_str().unwrap();
    assert_time_to_finish(FILE, &mut source, humantime::parse_duration(grace).unwrap());
}

#[test]
fn everything_mounted_exists() {
    let compose = compose();
    for (name, service) in services(&compose) {
        for (source, _) in mounts(service) {
            if source.starts_with('.') {
                assert!(root().join("ops").join(source).exists(), "{FILE}: {name}: there is no {source}");
            } else {
                assert!(
                    compose["volumes"].get(source).is_some(),
                    "{FILE}: {name}: the volume {source} is not declared"
                );
            }
        }
    }
}

#[test]
fn every_port_is_open_to_this_machine_only() {
    let compose = compose();
    for (name, service) in services(&compose) {
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{FILE}: {name}: {port}");
        }
    }
}

#[test]
fn sample_events_exist_and_reach_the_receiver_with_its_secret() {
    let compose = compose();
    let (receiver, events) = (process(&compose, "billing-sync"), process(&compose, "events"));
    let webhooks = port(&receiver.checked(), &settings::LISTEN);
    let to = format!("--to=http://billing-sync:{webhooks}{PATH}");
    assert!(events.arguments.contains(&to), "{:?}", events.arguments);
    assert_eq!(events.environment["STRIPE_WEBHOOK_SECRET"], receiver.environment["STRIPE_WEBHOOK_SECRET"]);
    let [(source, target)] = mounts(&compose["services"]["events"])[..] else { panic!("one mount is expected") };
    let files: Vec<&String> = events.arguments.iter().filter(|argument| argument.starts_with('/')).collect();
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        let name = file.strip_prefix(target).unwrap().trim_start_matches('/');
        assert!(root().join("ops").join(source).join(name).exists(), "{FILE}: there is no {file}");
    }
}

#[test]
fn prometheus_scrapes_billing_sync_and_grafana_reads_prometheus() {
    let compose = compose();
    let ops = port(&process(&compose, "billing-sync").checked(), &settings::OPS_LISTEN);
    let file = "prometheus-compose.yml";
    let prometheus = &compose["services"]["prometheus"];
    assert!(texts(&prometheus["command"]).contains(&format!("--config.file=/etc/prometheus/{file}").as_str()));
    assert!(mounts(prometheus).contains(&("./prometheus", "/etc/prometheus")));
    let prometheus = yaml(&format!("ops/prometheus/{file}")).pop().unwrap();
    let targets = &prometheus["scrape_configs"][0]["static_configs"][0]["targets"];
    assert_eq!(texts(targets), [format!("billing-sync:{ops}")]);
    let sources = yaml("ops/grafana/provisioning/datasources/prometheus.yml").pop().unwrap();
    assert_eq!(sources["datasources"][0]["url"], "http://prometheus:9090");
    let providers = yaml("ops/grafana/provisioning/dashboards/billing-sync.yml").pop().unwrap();
    let path = at(&providers["providers"][0], "options.path").as_str().unwrap();
    assert!(mounts(&compose["services"]["grafana"]).contains(&("./grafana", path)), "{path} is not mounted");
    let home = at(&compose["services"]["grafana"], "environment.GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH");
    assert_eq!(*home, format!("{path}/billing-sync.json"));
}

#[test]
fn services_wait_only_for_services_that_exist() {
    let compose = compose();
    for (name, service) in services(&compose) {
        let conditions: Vec<&String> = service["depends_on"].as_object().into_iter().flat_map(Map::keys).collect();
        let plain = list(&service["depends_on"]).iter().map(|other| other.as_str().unwrap());
        for other in conditions.into_iter().map(String::as_str).chain(plain) {
            let other_service = services(&compose).get(other);
            let other_service = other_service.unwrap_or_else(|| panic!("{FILE}: {name} waits for {other}"));
            let waits_for_health = service["depends_on"][other]["condition"] == "service_healthy";
            let has_check = other_service["healthcheck"]["test"].is_array() || other == "billing-sync";
            assert!(!waits_for_health || has_check, "{FILE}: {name} waits for {other}, which has no health check");
        }
    }
}
