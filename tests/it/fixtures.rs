//! Every fixture goes through the worker, and what comes of it was reviewed by a person.
//!
//! Owns the walk over `fixtures/events` and `fixtures/thin`: a fixture without a snapshot fails, and so does a snapshot
//! without a fixture. What each fixture pins is told in `fixtures/README.md`. A snapshot shows the fate of the event, every
//! row that there is afterwards without what is null in it, the facts, and what is asked for.

mod story;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::app::TestApp;

/// The folder of the events that carry no content, and so are of no API version.
const THIN: &str = "thin";

/// The newest API version that there is a folder of.
const NEWEST: &str = "2026-10-28.endive";

/// One file `<event type>[.<what is special>].json` under `fixtures/events/<api version>` or `fixtures/thin`.
struct Fixture {
    /// The API version, or [`THIN`].
    version: String,
    name: String,
    event: Value,
}

impl Fixture {
    fn snapshot_name(&self) -> String {
        format!("{}__{}", self.version, self.name)
    }

    /// Its file, as the provenance table names it.
    fn path(&self) -> String {
        let above = if self.version == THIN { "fixtures" } else { "fixtures/events" };
        format!("{above}/{}/{}.json", self.version, self.name)
    }

    fn event_type(&self) -> &str {
        self.event["type"].as_str().unwrap()
    }

    fn object(&self) -> &Value {
        &self.event["data"]["object"]
    }

    /// The customer that it is about, where it is not that customer's own event.
    fn customer(&self) -> Option<&str> {
        self.object()["customer"].as_str()
    }
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
    let versions = files(&folder("fixtures/events")).into_iter().chain([folder("fixtures").join(THIN)]);
    let read = |path: PathBuf| Fixture {
        version: path.parent().and_then(Path::file_name).unwrap().to_str().unwrap().to_owned(),
        name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
        event: serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap(),
    };
    versions.flat_map(|version| files(&version)).map(read).collect()
}

/// The newest event about a customer among the fixtures of its version, as a mirror would have it.
fn of_customer<'a>(fixtures: &'a [Fixture], of: &Fixture) -> Option<&'a Fixture> {
    let customer = of.customer()?;
    let own = fixtures.iter().filter(|one| {
        one.event_type().starts_with("customer.")
            && one.object()["object"] == "customer"
            && one.object()["id"] == customer
    });
    own.max_by_key(|one| one.event["created"].as_i64())
}

/// What is told before the fixture: its customer, and what else its meaning depends on.
fn told_before<'a>(fixtures: &'a [Fixture], of: &'a Fixture) -> impl Iterator<Item = &'a Fixture> {
    let story = story::told_before(&of.version, &of.name).iter().map(|name| {
        let found = fixtures.iter().find(|one| one.version == of.version && one.name == *name);
        found.unwrap_or_else(|| panic!("no fixture {name} before {}", of.name))
    });
    of_customer(fixtures, of).into_iter().chain(story)
}

/// What there is after the event, for the eye.
async fn outcome(app: &TestApp, fixture: &Fixture) -> Value {
    let rows: Vec<Value> = read(app, ROWS).await;
    let facts: Vec<Value> = read(app, FACTS).await;
    let asked: Vec<Value> = read(
        app,
        "SELECT to_jsonb(kind || ' ' || object_type || ' ' || object_id)
        FROM billing.jobs ORDER BY 1",
    )
    .await;
    let fate = app.fate(fixture.event["id"].as_str().unwrap()).await;
    json!({ "fate": fate, "rows": rows, "facts": facts, "asked": asked })
}

async fn read(app: &TestApp, query: &'static str) -> Vec<Value> {
    sqlx::query_scalar(query).fetch_all(&app.pool).await.unwrap()
}

/// Every row, in one object each, without what is null or an empty list. An empty text stays: Stripe sent it.
const ROWS: &str = "
    WITH all_rows AS (
        SELECT 1 AS place, 'billing_contacts' AS name, to_jsonb(t) AS row FROM billing.billing_contacts AS t
        UNION ALL SELECT 2, 'subscriptions', to_jsonb(t) FROM billing.subscriptions AS t
        UNION ALL SELECT 3, 'pricing_plans', to_jsonb(t) FROM billing.pricing_plans AS t
        UNION ALL SELECT 4, 'plan_limits', to_jsonb(t) FROM billing.plan_limits AS t
        UNION ALL SELECT 5, 'coupons', to_jsonb(t) FROM billing.coupons AS t
        UNION ALL SELECT 6, 'checkout_sessions', to_jsonb(t) FROM billing.checkout_sessions AS t)
    SELECT jsonb_build_object(name, (
        SELECT jsonb_object_agg(key, value) FROM jsonb_each(row)
        WHERE key NOT IN ('account', 'created_at', 'updated_at', 'id') AND value NOT IN ('null', '[]', '{}')))
    FROM all_rows ORDER BY place, row ->> 'id'";

/// Every fact that does not say when it was told.
const FACTS: &str = "
    SELECT jsonb_build_object('charge', jsonb_strip_nulls(to_jsonb(t) - 'account' - 'told_at')) FROM billing.charge_facts AS t
    UNION ALL SELECT jsonb_build_object('payment', to_jsonb(t) - 'account') FROM billing.payment_facts AS t
    UNION ALL SELECT jsonb_build_object('invoice', jsonb_strip_nulls(to_jsonb(t) - 'account')) FROM billing.invoice_facts AS t
    UNION ALL SELECT jsonb_build_object('dispute', to_jsonb(t) - 'account') FROM billing.dispute_facts AS t
    UNION ALL SELECT jsonb_build_object('trial', to_jsonb(t) - 'account') FROM billing.trial_facts AS t
    ORDER BY 1";

#[tokio::test]
async fn every_fixture_becomes_what_was_reviewed() {
    let mut app = TestApp::start().await;
    app.context = app.context.clone().with_fetches(std::time::Duration::ZERO);
    let fixtures = fixtures();
    for fixture in &fixtures {
        app.forget_everything().await;
        for event in told_before(&fixtures, fixture).chain([fixture]) {
            app.deliver(&event.event).await;
        }
        app.drain().await;
        let outcome = outcome(&app, fixture).await;
        let description = fixture.path();
        insta::with_settings!({ description => description, omit_expression => true }, {
            insta::assert_json_snapshot!(fixture.snapshot_name(), outcome);
        });
    }
    app.finish().await;
}

#[test]
fn no_snapshot_is_left_without_its_fixture() {
    let expected: BTreeSet<_> =
        fixtures().iter().map(|fixture| format!("it__fixtures__{}.snap", fixture.snapshot_name())).collect();
    let snapshots = files(&folder("tests/it/snapshots")).into_iter();
    let snapshots = snapshots.filter(|path| path.extension().is_some_and(|extension| extension == "snap"));
    let names = snapshots.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    let found: BTreeSet<_> = names.filter(|name| name.starts_with("it__fixtures__")).collect();
    let odd: Vec<_> = found.symmetric_difference(&expected).collect();
    assert_eq!(odd, Vec::<&String>::new(), "a snapshot without its fixture, or a fixture without its snapshot");
}

#[test]
fn a_fixture_is_an_event_of_its_folders_version_and_its_names_type() {
    let fixtures = fixtures();
    for fixture in &fixtures {
        let name = &fixture.name;
        let is_thin = fixture.version == THIN;
        assert_eq!(fixture.event["object"], if is_thin { "v2.core.event" } else { "event" }, "{name}");
        let has_version = !is_thin && !name.ends_with(".api-version-null");
        assert_eq!(fixture.event["api_version"].as_str(), has_version.then_some(fixture.version.as_str()), "{name}");
        let event_type = fixture.event_type();
        assert!(*name == event_type || name.starts_with(&format!("{event_type}.")), "{name} is a {event_type}");
    }
    let ids: BTreeSet<_> = fixtures.iter().map(|fixture| fixture.event["id"].as_str()).collect();
    assert_eq!(ids.len(), fixtures.len(), "event ids are unique");
}

#[test]
fn every_fixture_is_told_in_the_provenance_table() {
    let table = fs::read_to_string(folder("fixtures/README.md")).unwrap();
    for fixture in fixtures() {
        let path = fixture.path().replace("fixtures/events/", "").replace("fixtures/", "");
        let path = format!("`{path}`");
        assert!(table.contains(&path), "{path} is missing in fixtures/README.md");
    }
}

#[test]
fn every_event_of_the_catalogue_has_a_fixture_in_the_newest_version() {
    let fixtures = fixtures();
    let newest = fixtures.iter().filter(|fixture| fixture.version == NEWEST);
    let told: BTreeSet<_> = newest.map(Fixture::event_type).collect();
    let lacking: Vec<_> = story::catalogue().filter(|event_type| !told.contains(event_type.as_str())).collect();
    assert_eq!(lacking, Vec::<String>::new(), "no fixture in fixtures/events/{NEWEST}");
}
