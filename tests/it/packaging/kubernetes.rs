//! `ops/kubernetes/`: the manifests fit the program, the image and each other.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use billing_sync::config::settings;
use serde_json::{Map, Value, json};

use super::{
    Environment, Process, assert_reachable, assert_time_to_finish, at, image_environment, instructions, list, port,
    read, root, texts, yaml,
};

const FOLDER: &str = "ops/kubernetes";

/// The manifests that the kustomization applies.
fn manifests() -> Vec<Value> {
    let kustomization = yaml(&format!("{FOLDER}/kustomization.yaml")).pop().unwrap();
    let mut applied = BTreeSet::from(["kustomization.yaml".to_owned()]);
    applied.extend(texts(&kustomization["resources"]).into_iter().map(str::to_owned));
    let files = fs::read_dir(root().join(FOLDER)).unwrap();
    let files: BTreeSet<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(applied, files, "the kustomization must apply every file");
    applied.remove("kustomization.yaml");
    applied.iter().flat_map(|file| yaml(&format!("{FOLDER}/{file}"))).collect()
}

fn of_kind<'a>(manifests: &'a [Value], kind: &str) -> &'a Value {
    manifests.iter().find(|manifest| manifest["kind"] == kind).unwrap_or_else(|| panic!("there is no {kind}"))
}

/// The manifests that create pods.
fn workloads(manifests: &[Value]) -> Vec<&Value> {
    let found: Vec<&Value> =
        manifests.iter().filter(|manifest| at(manifest, "spec.template.spec").is_object()).collect();
    assert_eq!(found.len(), 2, "a Deployment and a Job are expected");
    found
}

/// The keys of the Secret that the documentation creates.
fn documented_secrets() -> Vec<String> {
    let page = read("docs/operations.md");
    let command = page.split("create secret generic billing-sync").nth(1).unwrap();
    let command = command.split("\n```").next().unwrap();
    command.split("--from-file=").skip(1).map(|key| key.split(['=', ' ', '\n']).next().unwrap().to_owned()).collect()
}

/// The files that the pod mounts for the container, all from Secrets.
fn secret_files(pod: &Value, container: &Value) -> Vec<String> {
    let mut files = Vec::new();
    for mount in list(&container["volumeMounts"]) {
        let volume = list(&pod["volumes"]).iter().find(|volume| volume["name"] == mount["name"]).unwrap();
        let secret = &volume["secret"];
        assert_eq!(secret["secretName"], "billing-sync");
        let keys = documented_secrets();
        for item in list(&secret["items"]) {
            assert!(keys.iter().any(|key| item["key"] == *key), "the documented Secret has no {}", item["key"]);
        }
        let items = list(&secret["items"]).iter().map(|item| item["path"].as_str().unwrap().to_owned()).collect();
        let paths: Vec<String> = if secret["items"].is_null() { keys } else { items };
        files.extend(paths.into_iter().map(|path| format!("{}/{path}", mount["mountPath"].as_str().unwrap())));
    }
    files
}

/// The process of each container. The environment of the image counts too.
fn process(manifest: &Value) -> Process {
    let pod = at(manifest, "spec.template.spec");
    let [container] = list(&pod["containers"]) else { panic!("one container is expected") };
    assert!(pod["initContainers"].is_null() && container["envFrom"].is_null() && container["command"].is_null());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of_pod = list(&container["env"]).iter().map(|variable| (text(&variable["name"]), text(&variable["value"])));
    Process {
        place: format!("{FOLDER}: {}", manifest["kind"]),
        arguments: texts(&container["args"]).into_iter().map(str::to_owned).collect(),
        environment: image_environment().into_iter().chain(of_pod).collect::<Environment>(),
        secret_files: secret_files(pod, container),
    }
}

#[test]
fn every_pod_starts_with_its_arguments_settings_and_secrets() {
    for manifest in workloads(&manifests()) {
        process(manifest).checked();
    }
}

#[test]
fn every_pod_has_no_more_rights_than_it_needs() {
    let user: u64 = instructions("USER").pop().unwrap().parse().unwrap();
    let manifests = manifests();
    for manifest in workloads(&manifests) {
        let pod = at(manifest, "spec.template.spec");
        for (path, expected) in [
            ("serviceAccountName", &of_kind(&manifests, "ServiceAccount")["metadata"]["name"]),
            ("automountServiceAccountToken", &json!(false)),
            ("enableServiceLinks", &json!(false)),
            ("securityContext.runAsNonRoot", &json!(true)),
            ("securityContext.runAsUser", &json!(user)),
            // the group of the mounted secrets
            ("securityContext.fsGroup", &json!(user)),
            ("securityContext.seccompProfile.type", &json!("RuntimeDefault")),
        ] {
            assert_eq!(at(pod, path), expected, "{}: {path}", manifest["kind"]);
        }
        for container in list(&pod["containers"]) {
            for (path, expected) in [
                ("securityContext.allowPrivilegeEscalation", json!(false)),
                ("securityContext.readOnlyRootFilesystem", json!(true)),
                ("securityContext.capabilities", json!({ "drop": ["ALL"] })),
            ] {
                assert_eq!(*at(container, path), expected, "{}: {path}", manifest["kind"]);
            }
            for resource in ["requests.cpu", "requests.memory", "limits.memory"] {
                assert!(at(&container["resources"], resource).is_string(), "{}: {resource}", manifest["kind"]);
            }
            assert_eq!(container["image"], "billing-sync", "the kustomization sets the image of this name");
        }
    }
}

/// Whether the selector of another manifest selects the pods of this one.
fn selects(selector: &Value, workload: &Value) -> bool {
    let labels = at(workload, "spec.template.metadata.labels");
    let selector: &Map<String, Value> = selector.as_object().unwrap();
    !selector.is_empty() && selector.iter().all(|(name, value)| labels[name] == *value)
}

#[test]
fn selectors_select_the_deployment_only() {
    let manifests = manifests();
    for selector in [
        at(of_kind(&manifests, "Deployment"), "spec.selector.matchLabels"),
        at(of_kind(&manifests, "PodDisruptionBudget"), "spec.selector.matchLabels"),
        at(of_kind(&manifests, "Service"), "spec.selector"),
    ] {
        assert!(selects(selector, of_kind(&manifests, "Deployment")), "{selector}");
        assert!(!selects(selector, of_kind(&manifests, "Job")), "{selector}");
    }
}

#[test]
fn ports_and_probes_are_those_of_the_program() {
    let manifests = manifests();
    let deployment = of_kind(&manifests, "Deployment");
    let source = process(deployment).checked();
    assert_reachable(FOLDER, &source);
    let (webhooks, ops) = (port(&source, &settings::LISTEN), port(&source, &settings::OPS_LISTEN));
    let container = &at(deployment, "spec.template.spec.containers")[0];
    let ports = json!([{ "name": "webhooks", "containerPort": webhooks }, { "name": "ops", "containerPort": ops }]);
    assert_eq!(container["ports"], ports);
    for (probe, path) in [("readinessProbe", "/readyz"), ("livenessProbe", "/livez")] {
        assert_eq!(container[probe]["httpGet"], json!({ "path": path, "port": "ops" }));
    }
    let annotations = at(deployment, "spec.template.metadata.annotations");
    assert_eq!(annotations["prometheus.io/port"], ops.to_string());
    assert_eq!(annotations["prometheus.io/path"], "/metrics");
    let service = list(at(of_kind(&manifests, "Service"), "spec.ports"));
    assert_eq!(service.iter().map(|port| &port["targetPort"]).collect::<Vec<_>>(), ["webhooks"], "only the webhooks");
}

#[test]
fn a_pod_that_ends_gets_no_more_requests_and_has_time_to_finish() {
    let manifests = manifests();
    let deployment = of_kind(&manifests, "Deployment");
    let pod = at(deployment, "spec.template.spec");
    let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
    let shutdown = assert_time_to_finish(FOLDER, &mut process(deployment).checked(), grace);
    let probe = &pod["containers"][0]["readinessProbe"];
    let seconds = |name: &str| probe[name].as_u64().unwrap();
    let not_ready =
        Duration::from_secs(seconds("periodSeconds") * seconds("failureThreshold") + seconds("timeoutSeconds"));
    assert!(shutdown.drain_delay > not_ready, "the probe may need {not_ready:?}");
}
