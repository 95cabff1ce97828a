//! Every fixture becomes the rows that a person has reviewed.
//!
//! Owns the walk over `fixtures/events`: a fixture without a snapshot fails, and so does a snapshot without a fixture.
//! What each fixture pins is told in `fixtures/README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use billing_sync::domain::contact::BillingContact;
use billing_sync::domain::event::Reason;
use billing_sync::domain::plan::PricingPlan;
use billing_sync::domain::subscription::Subscription;
use billing_sync::projection::{self, Rules};
use billing_sync::stripe::json::Json;
use billing_sync::stripe::views::customer::CustomerView;
use billing_sync::stripe::views::item::embedded;
use billing_sync::stripe::views::price::PriceView;
use billing_sync::stripe::views::subscription::SubscriptionView;
use serde::Serialize;
use time::OffsetDateTime;

const RULES: Rules = Rules { past_due_active: true };

/// One file under `fixtures/events/<api version>/<event type>[.<what is special>].json`.
struct Fixture {
    version: String,
    name: String,
    text: String,
}

impl Fixture {
    fn event(&self) -> Json<'_> {
        Json::parse(&self.text).unwrap()
    }

    fn object(&self) -> Json<'_> {
        self.event().get("data").get("object")
    }

    fn snapshot_name(&self) -> String {
        format!("{}__{}", self.version, self.name)
    }
}

/// The rows of one event, in the order in which the structs name their columns.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Rows {
    Contact { row: Box<BillingContact>, notes: Vec<&'static str> },
    Subscription { row: Box<Subscription>, notes: Vec<&'static str>, plans: Vec<Plan> },
}

#[derive(Serialize)]
struct Plan {
    embedded_as: &'static str,
    row: PricingPlan,
    notes: Vec<&'static str>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn fixtures() -> Vec<Fixture> {
    let versions = files(&folder("fixtures/events"));
    let read = |path: PathBuf| Fixture {
        version: path.parent().and_then(Path::file_name).unwrap().to_str().unwrap().to_owned(),
        name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(&path).unwrap(),
    };
    versions.iter().flat_map(|version| files(version)).map(read).collect()
}

fn words(notes: &BTreeSet<Reason>) -> Vec<&'static str> {
    notes.iter().map(|reason| reason.as_str()).collect()
}

/// The newest customer of each id among the fixtures, as a mirror would hold them.
fn customers(fixtures: &[Fixture]) -> BTreeMap<String, CustomerView> {
    let of_customers = fixtures.iter().filter(|fixture| fixture.object().get("object").text().unwrap() == "customer");
    let mut by_age: Vec<_> = of_customers.collect();
    by_age.sort_by_key(|fixture| fixture.event().get("created").integer());
    by_age
        .iter()
        .map(|fixture| CustomerView::read(fixture.object()).unwrap())
        .map(|view| (view.id.clone(), view))
        .collect()
}

fn contact(fixture: &Fixture) -> Rows {
    let created = OffsetDateTime::from_unix_timestamp(fixture.event().get("created").integer().unwrap()).unwrap();
    let deleted_at = (fixture.event().get("type").text().unwrap() == "customer.deleted").then_some(created);
    let projected = projection::contact("", &CustomerView::read(fixture.object()).unwrap(), deleted_at);
    Rows::Contact { notes: words(&projected.notes), row: Box::new(projected.row) }
}

fn subscription(fixture: &Fixture, customers: &BTreeMap<String, CustomerView>) -> Rows {
    let view = SubscriptionView::read(fixture.object()).unwrap();
    let projected = projection::subscription("", &view, customers.get(&view.customer_id), &RULES);
    let plans = embedded(fixture.object()).into_iter().map(|price| {
        let view = PriceView::read(price.content).unwrap();
        Plan { embedded_as: price.object_type, row: projection::plan("", &view), notes: words(&view.notes) }
    });
    Rows::Subscription { notes: words(&projected.notes), row: Box::new(projected.row), plans: plans.collect() }
}

#[test]
fn every_fixture_becomes_the_rows_that_were_reviewed() {
    let fixtures = fixtures();
    let customers = customers(&fixtures);
    for fixture in &fixtures {
        let rows = match fixture.object().get("object").text().as_deref() {
            Some("customer") => contact(fixture),
            Some("subscription") => subscription(fixture, &customers),
            other => panic!("{}: no projection of {other:?}", fixture.snapshot_name()),
        };
        let description = format!("fixtures/events/{}/{}.json", fixture.version, fixture.name);
        insta::with_settings!({ description => description, omit_expression => true }, {
            insta::assert_json_snapshot!(fixture.snapshot_name(), rows);
        });
    }
}

#[test]
fn no_snapshot_is_left_without_its_fixture() {
    let expected: BTreeSet<_> =
        fixtures().iter().map(|fixture| format!("it__projection__{}.snap", fixture.snapshot_name())).collect();
    let snapshots = files(&folder("tests/it/snapshots")).into_iter();
    let snapshots = snapshots.filter(|path| path.extension().is_some_and(|extension| extension == "snap"));
    let names = snapshots.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    let found: BTreeSet<_> = names.filter(|name| name.starts_with("it__projection__")).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_fixture_is_an_event_of_its_folders_version_and_its_names_type() {
    let fixtures = fixtures();
    for fixture in &fixtures {
        let (event, name) = (fixture.event(), &fixture.name);
        assert_eq!(event.get("object").text().as_deref(), Some("event"), "{name}");
        assert_eq!(event.get("api_version").text().as_ref(), Some(&fixture.version), "{name}");
        let event_type = event.get("type").text().unwrap();
        assert!(*name == event_type || name.starts_with(&format!("{event_type}.")), "{name} is a {event_type}");
        let previous = event.get("data").get("previous_attributes");
        assert_eq!(previous.is_null(), !is_update(&event_type), "{name}: only updates have previous_attributes");
    }
    let ids: BTreeSet<_> = fixtures.iter().map(|fixture| fixture.event().get("id").text()).collect();
    assert_eq!(ids.len(), fixtures.len(), "event ids are unique");
}

#[test]
fn every_fixture_is_told_in_the_provenance_table() {
    let table = fs::read_to_string(folder("fixtures/README.md")).unwrap();
    for fixture in fixtures() {
        let path = format!("`{}/{}.json`", fixture.version, fixture.name);
        assert!(table.contains(&path), "{path} is missing in fixtures/README.md");
    }
}

fn is_update(event_type: &str) -> bool {
    [".updated", ".paused", ".resumed"].iter().any(|ending| event_type.ends_with(ending))
}
