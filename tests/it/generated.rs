//! `docs/settings.md` and `docs/metrics.md` are generated from the code. These tests check them; regenerate them with
//! `INSTA_UPDATE=always cargo test --locked --test it -- generated::`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{env, fs};

use billing_sync::client::{self, Write};
use billing_sync::config::settings::{Setting, SettingGroup};
use billing_sync::domain::renewal::Renewed;
use billing_sync::metrics::database;
use billing_sync::metrics::process::ProcessMetrics;
use billing_sync::metrics::writes::WriteMetrics;
use prometheus::Registry;
use prometheus::proto::{Metric, MetricFamily, MetricType};

use crate::support::app::TestApp;

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
    let registry = Registry::new();
    let metrics = ProcessMetrics::new(&registry).unwrap();
    client::metrics(&registry, &Write::OPERATIONS).unwrap();
    billing_sync::api::metrics(&registry).unwrap();
    WriteMetrics::new(&registry, &Write::OPERATIONS).unwrap();
    // these have no series before their first value
    metrics.limits_renewed(&Renewed {
        outcome: "renewed".to_owned(),
        limit_key: "words".to_owned(),
        renewals: 1,
        corrections: 0,
        spilled_over: 1,
        expired: 1,
        delays: Vec::new(),
    });
    sqlx::query("INSERT INTO billing.reconcile_state (account, compared_until) VALUES ('', clock_timestamp())")
        .execute(&app.pool)
        .await
        .unwrap();
    let mut families = registry.gather();
    families.extend(database::gather(&app.pool).await);
    app.finish().await;
    assert!(families.len() > 30, "only {} metrics were found", families.len());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    let mut page = "# Metrics\n\n\
        Generated from the code: do not edit. `serve` answers `/metrics` at `BILLING_SYNC_OPS_LISTEN`.\n\n\
        Counters and histograms are of one process: use `sum()`. Gauges read from the database are the same in all\n\
        processes: use `max()`. [operations.md](operations.md#metrics) lists those that need an alert.\n\n\
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
    let open = ["limit_key", "version"];
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
