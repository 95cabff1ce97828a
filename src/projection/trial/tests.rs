//! The trial of a subscription: its own, or the trial offer of the plan's item.

use super::*;
use crate::stripe::json::json;

/// Start and end of the subscription's own trial, and of the offer's.
const OWN: (i64, i64) = (1_780_000_000, 1_781_000_000);
const OFFER: (i64, i64) = (1_790_000_000, 1_791_000_000);

fn at(seconds: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(seconds).ok()
}

fn trial(status: &str, own: bool, offer: bool) -> Trial {
    let own = if own { format!(r#""trial_start":{},"trial_end":{},"#, OWN.0, OWN.1) } else { String::new() };
    let offer = if offer {
        format!(r#"{{"start_date":{},"end_date":{},"trial_offer":"to_1"}}"#, OFFER.0, OFFER.1)
    } else {
        "null".to_owned()
    };
    let text = format!(
        r#"{{"id":"sub_1","customer":"cus_1","status":"{status}",{own}"items":{{"data":[
            {{"id":"si_1","created":1700000000,"current_trial":{offer}}},
            {{"id":"si_2","created":1700000001,"current_trial":{{"start_date":1,"end_date":2,"trial_offer":"to_2"}}}}]}}}}"#
    );
    Trial::of(&SubscriptionView::read(json(&text)).unwrap())
}

#[test]
fn a_trial_offer_is_a_trial_whether_it_is_free_or_paid() {
    let running = Trial { runs: true, started_at: at(OFFER.0), ends_at: at(OFFER.1) };
    for status in ["trialing", "active", "past_due"] {
        assert_eq!(trial(status, false, true), running, "{status}");
        assert_eq!(trial(status, true, true), running, "{status}, and an older trial before it");
    }
}

#[test]
fn only_a_running_offer_is_a_trial() {
    for status in ["incomplete", "incomplete_expired", "canceled", "unpaid", "paused"] {
        let over = Trial { runs: false, started_at: None, ends_at: at(OFFER.1) };
        assert_eq!(trial(status, false, true), over, "{status}");
    }
}

#[test]
fn the_subscriptions_own_trial_follows_its_status() {
    assert_eq!(trial("trialing", true, false), Trial { runs: true, started_at: at(OWN.0), ends_at: at(OWN.1) });
    assert_eq!(trial("active", true, false), Trial { runs: false, started_at: None, ends_at: at(OWN.1) });
    assert_eq!(
        trial("active", false, false),
        Trial { runs: false, started_at: None, ends_at: None },
        "an offer for an item beside the plan is no trial of the plan"
    );
}
