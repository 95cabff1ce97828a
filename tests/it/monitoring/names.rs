//! Every metric, label and label value in an alert or a panel is one that billing-sync exports. Otherwise the alert could
//! never fire, and the panel would be empty.

use std::collections::{BTreeMap, BTreeSet};

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::expression::{OF_PROMETHEUS, grouped_by, inserted, selectors};
use super::files::{alerts, panels, unit_tests};
use crate::support::app::TestApp;
use crate::support::metrics::exported;

/// Labels whose values are not a closed list.
const OPEN: [&str; 3] = ["limit_key", "secret", "version"];

/// Labels that Prometheus adds to every series.
const ADDED: [&str; 2] = ["instance", "job"];

/// The values of each label of each metric.
type Catalogue = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn catalogue(families: &[MetricFamily]) -> Catalogue {
    let mut catalogue = Catalogue::new();
    for family in families {
        let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for label in family.get_metric().iter().flat_map(Metric::get_label) {
            labels.entry(label.name().to_owned()).or_default().insert(label.value().to_owned());
        }
        if family.get_field_type() == MetricType::HISTOGRAM {
            for end in ["_bucket", "_sum", "_count"] {
                let mut labels = labels.clone();
                if end == "_bucket" {
                    labels.insert("le".to_owned(), BTreeSet::new());
                }
                catalogue.insert(format!("{}{end}", family.name()), labels);
            }
        } else {
            catalogue.insert(family.name().to_owned(), labels);
        }
    }
    let of_alert = ["alertname", "alertstate", "severity"];
    for metric in OF_PROMETHEUS {
        let labels = if metric == "ALERTS" { &of_alert[..] } else { &[] };
        let labels = labels.iter().map(|label| ((*label).to_owned(), BTreeSet::new()));
        catalogue.insert(metric.to_owned(), labels.collect());
    }
    catalogue
}

/// The mistakes of an expression, and the labels of its result as far as texts may insert them.
fn check(catalogue: &Catalogue, expr: &str, texts: &[&str]) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut labels: BTreeSet<&str> = ADDED.into();
    for selector in &selectors(expr) {
        let Some(of_metric) = catalogue.get(&selector.metric) else {
            mistakes.push(format!("no metric {}", selector.metric));
            continue;
        };
        labels.extend(of_metric.keys().map(String::as_str));
        for matcher in &selector.matchers {
            let label = matcher.label.as_str();
            let is_checked = !ADDED.contains(&label) && !OPEN.contains(&label) && selector.metric != "ALERTS";
            match of_metric.get(label) {
                Some(values) if is_checked => {
                    let values: Vec<&str> = values.iter().map(String::as_str).collect();
                    let unknown = matcher.unknown(&values);
                    mistakes.extend(unknown.iter().map(|value| format!("no {label}={value} of {}", selector.metric)));
                }
                None if is_checked => mistakes.push(format!("no label {label} of {}", selector.metric)),
                _ => {}
            }
        }
    }
    let groups = grouped_by(expr);
    mistakes.extend(groups.iter().filter(|label| !labels.contains(*label)).map(|label| format!("by ({label})")));
    // an aggregation keeps only its labels
    let aggregates = ["sum", "max", "min", "count"].iter().any(|name| expr.starts_with(name));
    for label in texts.iter().flat_map(|text| inserted(text)) {
        let is_there = if aggregates { groups.contains(&label) } else { labels.contains(label) };
        if !is_there {
            mistakes.push(format!("a text inserts {label}"));
        }
    }
    mistakes
}

#[tokio::test]
async fn every_name_in_alerts_and_dashboard_is_exported() {
    let app = TestApp::start().await;
    let catalogue = catalogue(&exported(&app).await);
    app.finish().await;
    for (expr, text, mistake) in [
        ("max(billing_sync_outbox_event)", "", "no metric billing_sync_outbox_event"),
        ("max(billing_sync_jobs{kind=\"fetsh\"})", "", "no kind=fetsh of billing_sync_jobs"),
        ("max(billing_sync_jobs{kinds=\"fetch\"})", "", "no label kinds of billing_sync_jobs"),
        ("max by (kinds) (billing_sync_jobs)", "", "by (kinds)"),
        ("max(billing_sync_jobs)", "{{ $labels.kind }}", "a text inserts kind"),
    ] {
        assert_eq!(check(&catalogue, expr, &[text]), [mistake], "{expr}");
    }

    let (mut mistakes, mut used) = (Vec::new(), BTreeSet::new());
    for alert in alerts() {
        let texts: Vec<&str> = alert.annotations.values().map(String::as_str).collect();
        mistakes.extend(check(&catalogue, &alert.expr, &texts).into_iter().map(|one| format!("{}: {one}", alert.name)));
    }
    for panel in panels() {
        for (expr, legend) in &panel.targets {
            let found = check(&catalogue, expr, &[legend]);
            mistakes.extend(found.into_iter().map(|one| format!("{}: {one}", panel.title)));
            used.extend(selectors(expr).into_iter().map(|selector| selector.metric));
        }
    }
    assert_eq!(mistakes, Vec::<String>::new());

    let family =
        |name: &str| ["_bucket", "_sum", "_count"].iter().find_map(|end| Some(name.strip_suffix(end)?.to_owned()));
    let used: BTreeSet<String> = used.into_iter().map(|name| family(&name).unwrap_or(name)).collect();
    let unused = catalogue.keys().map(|name| family(name).unwrap_or_else(|| name.clone()));
    let unused: BTreeSet<String> = unused.filter(|name| !used.contains(name)).collect();
    assert_eq!(unused, BTreeSet::new(), "metrics that no panel shows");
}

#[test]
fn every_alert_is_described_and_has_unit_tests() {
    let tests = unit_tests();
    let mut names = BTreeSet::new();
    for alert in alerts() {
        let name = &alert.name;
        assert!(names.insert(name.clone()), "{name} is defined twice");
        assert!(name.starts_with("BillingSync"), "{name}: the dashboard shows alerts by this beginning");
        assert!(["critical", "warning"].contains(&alert.severity()), "{name}: {}", alert.severity());
        for annotation in ["summary", "description", "runbook_url"] {
            let text = alert.annotations.get(annotation).map_or("", String::as_str);
            assert!(!text.trim().is_empty(), "{name} has no {annotation}");
        }
        // each check names its alert, so a test cannot pass with the alert of another one
        let of_alert = tests.iter().filter(|test| test.name.starts_with(&format!("{name}: ")));
        let checks: Vec<_> = of_alert.flat_map(|test| &test.checks).collect();
        let expected = format!("ALERTS{{alertname=\"{name}\", alertstate=\"firing\"}}");
        assert!(checks.iter().all(|check| check.expr == expected), "{name}: {checks:?}");
        assert!(checks.iter().any(|check| check.firing.is_empty()), "{name} has no test at which it does not fire");
        assert!(checks.iter().any(|check| !check.firing.is_empty()), "{name} has no test at which it fires");
    }
    for test in tests {
        let name = test.name.split(':').next().unwrap();
        assert!(names.contains(name), "there is no alert {name}");
    }
    assert!(names.len() > 30, "only {} alerts were found", names.len());
}

#[test]
fn the_panels_are_arranged_and_use_the_variable_of_the_data_source() {
    let panels = panels();
    let ids: BTreeSet<String> = panels.iter().map(|panel| panel.json["id"].to_string()).collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    assert!(panels.len() > 50, "only {} panels were found", panels.len());
    for (at, panel) in panels.iter().enumerate() {
        let (title, [x, y, width, height]) = (&panel.title, panel.place);
        assert!(x >= 0 && x + width <= 24, "{title} is wider than the dashboard");
        for other in &panels[..at] {
            let [left, top, wide, high] = other.place;
            let is_apart = x >= left + wide || left >= x + width || y >= top + high || top >= y + height;
            assert!(is_apart, "{title} covers {}", other.title);
        }
        assert!(!panel.targets.is_empty(), "{title} shows nothing");
        let sources = panel.json["targets"].as_array().unwrap().iter().chain([&panel.json]);
        for source in sources {
            assert_eq!(source["datasource"]["uid"], "${datasource}", "{title}");
        }
        for (expr, _) in &panel.targets {
            // a fixed window would be shorter than the scrape interval of some installations
            let is_fixed = expr.contains("rate(") && !expr.contains("[$__rate_interval]");
            assert!(!is_fixed, "{title}: {expr}");
        }
    }
}
