//! Pictures for documents and messages, as SVG: the life of subscriptions, and the periods of one limit.
//!
//! ```text
//! life   ── phases    a bar of phases for each subscription, with its events
//! months              the periods of one limit, as stacked bars
//! canvas, axis        what both consist of
//! ```

mod axis;
mod canvas;
mod life;
mod months;
mod phases;

use time::OffsetDateTime;
use uuid::Uuid;

use self::life::{Event, Subscription};
use super::writes::{self, Causes};
use crate::admin::explain::{self, StepKind};
use crate::admin::life::{Life, lives};
use crate::admin::subscription_state::{self, SubscriptionState};
use crate::base::text::in_utc;
use crate::database::Connection;

/// The lives of these subscriptions until `until`, with at most `steps` events and changes of each.
pub(super) async fn life(
    conn: &mut Connection,
    subscriptions: &[SubscriptionState],
    until: OffsetDateTime,
    steps: i64,
) -> anyhow::Result<String> {
    let ids: Vec<Uuid> = subscriptions.iter().map(|subscription| subscription.id).collect();
    let mut drawn = Vec::new();
    for life in lives(conn, &ids, steps).await? {
        drawn.extend(subscription(conn, &life, until, steps).await?);
    }
    anyhow::ensure!(!drawn.is_empty(), "nothing is known about the time before {}", in_utc(until));
    Ok(self::life::draw(&drawn, until))
}

/// `None` if it has no phase before `until`.
async fn subscription(
    conn: &mut Connection,
    life: &Life,
    until: OffsetDateTime,
    steps: i64,
) -> anyhow::Result<Option<Subscription>> {
    let mut phases = phases::phases(life, until);
    if phases.is_empty() {
        return Ok(None);
    }
    let causes: Vec<String> = phases.iter().flat_map(|phase| phase.causes.clone()).collect();
    let meanings = writes::meanings(conn, &causes).await?;
    for phase in &mut phases {
        phase.causes = phase.causes.iter().map(|cause| named(cause, &meanings)).collect();
    }
    let ids: Vec<String> = [life.stripe_subscription_id.clone()].into_iter().chain(causes).collect();
    let events = explain::events(conn, &ids, steps).await?.into_iter().filter_map(|step| match step.what {
        StepKind::Event { event_id, event_type, created, .. } => {
            Some(Event { created, text: format!("{}: {event_type} {event_id}", in_utc(created)) })
        }
        _ => None,
    });
    Ok(Some(Subscription { id: life.stripe_subscription_id.clone(), phases, events: events.collect() }))
}

fn named(cause: &str, meanings: &Causes) -> String {
    meanings.get(cause).map_or(cause, String::as_str).to_owned()
}

/// The newest periods of a limit, at most `most`, of the only or the current one of these subscriptions.
pub(super) async fn months(
    conn: &mut Connection,
    subscriptions: &[SubscriptionState],
    limit: &str,
    most: i64,
) -> anyhow::Result<String> {
    let subscription = match subscriptions {
        [only] => only,
        all => {
            let mut current = all.iter().filter(|subscription| subscription.is_current);
            let (Some(one), None) = (current.next(), current.next()) else {
                let ids: Vec<_> = all.iter().map(|subscription| subscription.stripe_subscription_id.as_str()).collect();
                anyhow::bail!("the limits of one subscription can be drawn; name one of {}", ids.join(", "));
            };
            one
        }
    };
    let (of_limit, others): (Vec<_>, Vec<_>) = subscription_state::periods(conn, subscription.id, most)
        .await?
        .into_iter()
        .partition(|period| period.limit_key == limit);
    if of_limit.is_empty() {
        let mut keys: Vec<_> = others.into_iter().map(|period| period.limit_key).collect();
        keys.dedup();
        let known = if keys.is_empty() { "it has none".to_owned() } else { format!("its limits: {}", keys.join(", ")) };
        anyhow::bail!("{} has no period of the limit {limit}; {known}", subscription.stripe_subscription_id);
    }
    Ok(self::months::draw(&subscription.stripe_subscription_id, limit, &of_limit))
}
