//! The alerts, their unit tests and the dashboard, read from `ops/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// The files of the alerts' unit tests.
pub(crate) const UNIT_TESTS: [&str; 2] = ["billing-sync_test.yml", "billing-sync-days_test.yml"];

/// The file of the alerts.
pub(crate) const RULES: &str = "billing-sync.rules.yml";

/// The folder of the files for Prometheus.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/prometheus")
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ops").join(path)).unwrap()
}

/// An alert.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Alert {
    #[serde(rename = "alert")]
    pub(crate) name: String,
    pub(crate) expr: String,
    #[serde(rename = "for")]
    pub(crate) wait: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Alert {
    pub(crate) fn severity(&self) -> &str {
        &self.labels["severity"]
    }

    /// The anchor of its heading in `docs/operations.md`.
    pub(crate) fn runbook(&self) -> Option<&str> {
        self.annotations.get("runbook_url")?.strip_prefix("docs/operations.md#")
    }
}

/// All alerts.
pub(crate) fn alerts() -> Vec<Alert> {
    #[derive(Deserialize)]
    struct Group {
        rules: Vec<Alert>,
    }
    #[derive(Deserialize)]
    struct Rules {
        groups: Vec<Group>,
    }
    let rules: Rules = serde_yaml_ng::from_str(&read(&format!("prometheus/{RULES}"))).unwrap();
    rules.groups.into_iter().flat_map(|group| group.rules).collect()
}

/// A unit test of an alert.
#[derive(Debug, Deserialize)]
pub(crate) struct UnitTest {
    pub(crate) name: String,
    #[serde(rename = "promql_expr_test")]
    pub(crate) checks: Vec<Check>,
}

/// A time of a unit test, and the alerts that fire then.
#[derive(Debug, Deserialize)]
pub(crate) struct Check {
    pub(crate) expr: String,
    #[serde(rename = "exp_samples")]
    pub(crate) firing: Vec<Value>,
}

/// All unit tests of the alerts.
pub(crate) fn unit_tests() -> Vec<UnitTest> {
    #[derive(Deserialize)]
    struct Tests {
        tests: Vec<UnitTest>,
    }
    let tests_of = |file: &&str| serde_yaml_ng::from_str::<Tests>(&read(&format!("prometheus/{file}"))).unwrap().tests;
    UNIT_TESTS.iter().flat_map(tests_of).collect()
}

/// A panel of the dashboard.
#[derive(Debug)]
pub(crate) struct Panel {
    /// Titles of its row and of itself.
    pub(crate) title: String,
    /// Each expression and its legend.
    pub(crate) targets: Vec<(String, String)>,
    /// Left, top, width, height.
    pub(crate) place: [i64; 4],
    pub(crate) json: Value,
}

/// All panels of the dashboard that are not rows.
pub(crate) fn panels() -> Vec<Panel> {
    let dashboard: Value = serde_json::from_str(&read("grafana/billing-sync.json")).unwrap();
    let (mut row, mut panels) = (String::new(), Vec::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        if panel["type"] == "row" {
            title.clone_into(&mut row);
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().unwrap().iter();
        panels.push(Panel {
            title: format!("{row}: {title}"),
            targets: targets.map(|target| (text(&target["expr"]), text(&target["legendFormat"]))).collect(),
            place: ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_i64().unwrap()),
            json: panel.clone(),
        });
    }
    panels
}
