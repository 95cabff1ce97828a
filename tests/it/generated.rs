//! `docs/settings.md` and `docs/metrics.md` are generated from the code, and `docs/alerts.md` from the rules of
//! Prometheus. These tests check them; regenerate them with
//! `INSTA_UPDATE=always cargo test --locked --test it -- generated::`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{env, fs};

use billing_sync::config::settings::{Setting, SettingGroup};
use prometheus::proto::{Metric, MetricFamily, MetricType};

use crate::monitoring::files::{Alert, alerts};
use crate::support::app::TestApp;
use crate::support::metrics;

/// Values of a label are listed up to this number; more are described only in the help text.
const MOST_VALUES: usize = 12;

/// Compares a page with the code, or writes it.
fn hold(name: &str, current: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    #[expect(clippy::disallowed_methods, reason = "tests have no configuration but the environment")]
    let update = env::var("INSTA_UPDATE");
    if update.is_ok_and(|update| update == "always") {
        fs::write(&path, current).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == current,
        "docs/{name} does not match the code: INSTA_UPDATE=always cargo test --locked --test it -- generated::"
    );
}

#[test]
fn the_page_of_settings_is_current() {
    let mut page = "# Settings\n\n\
        Generated from `src/config/settings.rs`: do not edit.\n\n\
        Set each as an environment variable or as a flag; the flag wins. `NAME_FILE` names a file that holds the value, as\n\
        container platforms mount secrets. Secrets have no flag, because every user of a machine can read arguments. All\n\
        configuration errors are reported together. `--help` of a command lists the settings that it uses, and\n\
        `billing-sync doctor` shows the values in effect and where each one comes from.\n"
        .to_owned();
    let mut heading = "";
    for group in SettingGroup::ALL {
        if group.heading() != heading {
            heading = group.heading();
            page.extend(["\n## ", heading, "\n\n| variable | flag | default | effect |\n| --- | --- | --- | --- |\n"]);
        }
        page.extend(group.settings().map(row_of_setting));
    }
    hold("settings.md", &page);
}

fn row_of_setting(setting: &Setting) -> String {
    let flag = setting.flag.map_or_else(|| "– (secret)".to_owned(), |flag| format!("`--{flag}`"));
    let default = if setting.default.is_empty() { "–".to_owned() } else { format!("`{}`", setting.default) };
    format!("| `{}` | {flag} | {default} | {} |\n", setting.name, setting.help)
}

#[tokio::test]
async fn the_page_of_metrics_is_current() {
    let app = TestApp::start().await;
    let families = metrics::exported(&app).await;
    app.finish().await;
    let mut page = "# Metrics\n\n\
        Generated from the code: do not edit. `serve` answers `/metrics` at `BILLING_SYNC_OPS_LISTEN`.\n\n\
        Counters and histograms are of one process: use `sum()`. Gauges read from the database are the same in all\n\
        processes: use `max()`. A process exports the metrics of its roles. [alerts.md](alerts.md) lists the alerts.\n\n\
        | metric | type | meaning |\n| --- | --- | --- |\n"
        .to_owned();
    page.extend(families.iter().map(row_of_metric));
    hold("metrics.md", &page);
}

fn row_of_metric(family: &MetricFamily) -> String {
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for label in family.get_metric().iter().flat_map(Metric::get_label) {
        labels.entry(label.name().to_owned()).or_default().insert(label.value().to_owned());
    }
    let open = ["limit_key", "secret", "version"];
    let values = labels.iter().filter(|(name, values)| values.len() <= MOST_VALUES && !open.contains(&name.as_str()));
    let values = values.map(|(name, values)| {
        let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
        format!(" `{name}`: {}.", values.join(", "))
    });
    let kind = match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        other => panic!("{other:?}"),
    };
    let names: Vec<&str> = labels.keys().map(String::as_str).collect();
    let names = if names.is_empty() { String::new() } else { format!("{{{}}}", names.join(",")) };
    format!(
        "| `{}{names}` | {kind} | {}.{} |\n",
        family.name(),
        family.help().trim_end_matches('.'),
        values.collect::<String>()
    )
}

#[test]
fn the_page_of_alerts_is_current() {
    let mut page = "# Alerts\n\n\
        Generated from `ops/prometheus/billing-sync.rules.yml`: do not edit.\n\n\
        An alert fires when its condition has been true for the time in the column `for`. `critical`: wake an operator.\n\
        `warning`: look at it on the next working day. [operations.md](operations.md#alerts) explains how to load the\n\
        rules.\n\n\
        | alert | severity | condition | for | see |\n| --- | --- | --- | --- | --- |\n"
        .to_owned();
    page.extend(alerts().iter().map(row_of_alert));
    hold("alerts.md", &page);
}

fn row_of_alert(alert: &Alert) -> String {
    let condition = alert.expr.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    let runbook = alert.runbook().unwrap_or_else(|| panic!("{} has no runbook in docs/operations.md", alert.name));
    // the link is checked with all links of the pages
    let (name, severity, wait) = (&alert.name, alert.severity(), &alert.wait);
    format!("| `{name}` | {severity} | `{condition}` | {wait} | [runbook](operations.md#{runbook}) |\n")
}
