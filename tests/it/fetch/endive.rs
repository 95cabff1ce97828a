//! Features of 2026-09-30.endive from the event to the view: reasons of pauses, planned pauses, trial offers.

use serde_json::json;

use crate::support::fetching::Fetching;
use crate::support::stripe::Epoch;

/// Status, reasons and times of the subscription, as the product reads them.
const PAUSE: &str = "SELECT concat_ws(' ', stripe_status, active, coalesce(inactive_reason, '-'),
        coalesce(pause_reason, '-'), paused_at IS NOT NULL, coalesce(extract(epoch FROM pauses_at)::bigint::text, '-'),
        coalesce(extract(epoch FROM resumes_at)::bigint::text, '-'))
    FROM billing.live_subscriptions";

/// Delivers the events since `mark`, and executes the reads that they queue.
async fn deliver(sync: &Fetching, mark: usize) {
    sync.pass_the_margin();
    sync.app.deliver_all(&sync.stripe.events_since(mark), Epoch::Endive).await;
    sync.settle().await;
}

async fn read(sync: &Fetching, query: &'static str) -> String {
    sync.app.text(query).await.unwrap()
}

#[tokio::test]
async fn a_pause_records_its_reason_and_a_resume_clears_it() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    let mut mark = 0;
    for (reason, inactive) in [
        ("pause_requested", "pause_requested"),
        ("trial_end_without_payment_method", "trial_end_without_payment_method"),
        ("first_payment_failure", "first_payment_failure"),
        ("final_payment_failure", "final_payment_failure"),
        ("system", "paused"),
    ] {
        sync.stripe.tick(5);
        sync.stripe.pause_because(&sale.subscription, reason);
        deliver(&sync, mark).await;
        assert_eq!(read(&sync, PAUSE).await, format!("paused f {inactive} {reason} t - -"));
        mark = sync.stripe.mark();
        sync.stripe.tick(5);
        sync.stripe.resume(&sale.subscription);
        deliver(&sync, mark).await;
        assert_eq!(read(&sync, PAUSE).await, "active t - - f - -", "after {reason}");
        mark = sync.stripe.mark();
    }
    sync.finish().await;
}

#[tokio::test]
async fn a_planned_pause_shows_its_start_and_end() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    let (now, later) = (sync.stripe.now(), sync.stripe.now() + 9_000_000);
    let (pause_at, resume_at) = (now + 1_000_000, now + 2_000_000);
    let schedule = sync.stripe.schedule(&sale.subscription, &[(&sale.price, now, later)], "release");
    sync.stripe.plan_pause(&schedule, pause_at, Some(resume_at));
    deliver(&sync, 0).await;
    assert_eq!(read(&sync, PAUSE).await, format!("active t - - f {pause_at} {resume_at}"));
    let mark = sync.stripe.mark();
    sync.stripe.tick(1_000_000);
    sync.stripe.begin_pause(&schedule);
    deliver(&sync, mark).await;
    assert_eq!(
        read(&sync, PAUSE).await,
        format!("paused f pause_requested pause_requested t - {resume_at}"),
        "it is paused, and no pause is planned"
    );
    let mark = sync.stripe.mark();
    sync.stripe.tick(1_000_000);
    sync.stripe.end_pause(&schedule);
    deliver(&sync, mark).await;
    assert_eq!(read(&sync, PAUSE).await, "active t - - f - -");
    sync.finish().await;
}

#[tokio::test]
async fn a_trial_offer_is_read_for_the_price_after_it() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    let next = sync.stripe.price(&sale.product, 2900, json!({}));
    let offer = sync.stripe.trial_offer(&sale.price, &next);
    let end = sync.stripe.now() + 8_000_000;
    sync.stripe.tick(5);
    sync.stripe.start_offer(&sale.subscription, &offer, end);
    sync.pass_the_margin();
    // no event contains the price after the trial, so it is read too
    let mut events = sync.stripe.events();
    events.retain(|event| event.json(Epoch::Endive)["data"]["object"]["id"] != next);
    sync.app.deliver_all(&events, Epoch::Endive).await;
    sync.settle().await;
    let trial = "SELECT concat_ws(' ', s.stripe_status, s.is_trial, s.trial_started_at < s.trial_ends_at,
            extract(epoch FROM s.trial_ends_at)::bigint, s.new_stripe_price_id, p.stripe_price_id)
        FROM billing.live_subscriptions s LEFT JOIN billing.pricing_plans p ON p.id = s.new_pricing_plan_id";
    assert_eq!(read(&sync, trial).await, format!("active t t {end} {next} {next}"));
    assert_eq!(sync.served(&format!("/v1/product_catalog/trial_offers/{offer}")), 1);
    let first = "SELECT (min(started_at) IS NOT NULL)::text FROM billing.trial_facts";
    assert_eq!(read(&sync, first).await, "true", "a paid trial is a trial of its workspace");
    let mark = sync.stripe.mark();
    sync.stripe.tick(8_000_000);
    sync.stripe.end_offer(&sale.subscription);
    deliver(&sync, mark).await;
    let after = "SELECT concat_ws(' ', stripe_status, is_trial, trial_started_at IS NULL, stripe_price_id,
        coalesce(new_stripe_price_id, '-')) FROM billing.live_subscriptions";
    assert_eq!(read(&sync, after).await, format!("active f t {next} -"));
    sync.finish().await;
}

#[tokio::test]
async fn a_trial_without_a_payment_method_is_flagged() {
    let sync = Fetching::start().await;
    let product = sync.stripe.product(json!({}));
    let price = sync.stripe.price(&product, 1900, json!({}));
    let customer = sync.stripe.customer(json!({}));
    let subscription = sync.stripe.trial(&customer, &price, 14);
    let settings = json!({ "trial_settings": { "end_behavior": { "missing_payment_method": "pause" } } });
    sync.stripe.update(&subscription, settings);
    deliver(&sync, 0).await;
    let flag = "SELECT concat_ws(' ', trial_end_behavior, trial_will_end_without_payment_method)
        FROM billing.live_subscriptions";
    assert_eq!(read(&sync, flag).await, "pause t");
    let mark = sync.stripe.mark();
    sync.stripe.tick(5);
    let method = sync.stripe.card("visa", "4242");
    sync.stripe.attach(&method, &customer);
    sync.stripe.update(&subscription, json!({ "default_payment_method": method }));
    deliver(&sync, mark).await;
    assert_eq!(read(&sync, flag).await, "pause f");
    sync.finish().await;
}
