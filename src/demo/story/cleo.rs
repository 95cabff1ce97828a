//! Cleo: a plan with 1000 words a month, paid by year. Her month ends while the demo runs, so her dates follow from the
//! database's clock.
//!
//! Owns her events, the product's calls of `billing.consume`, and the expected rows. PURE.

use serde_json::json;
use time::{Duration, OffsetDateTime};
use uuid::{Uuid, uuid};

use super::act::{Act, Consume, Consumed, Renewal, Step, applied};
use super::calendar::{Schedule, plus_months};
use crate::base::text::to_the_second;
use crate::demo::objects::{self, Price};
use crate::demo::rows::{ContactRow, LimitRow, Line, Row, SubscriptionRow, WorkspaceRow};
use crate::demo::sandbox::Sandbox;

pub(crate) const CLEO: &str = "cus_DemoCleo";
const CLEO_SUB: &str = "sub_DemoCleo";
pub(crate) const WORKSPACE: Uuid = uuid!("c4b1a7d2-3e58-4f06-9a7d-51b80c6e2f93");

/// The limit of her plan.
pub(crate) const WORDS: &str = "words";
const INCLUDED: i64 = 1000;
const FIRST_CALL: i64 = 600;
/// More than the first call leaves of this month, and less than the next month has.
const SECOND_CALL: i64 = 500;
const CARRIED_OVER: i64 = INCLUDED - FIRST_CALL;
const LEFT: i64 = INCLUDED + CARRIED_OVER - SECOND_CALL;

const READER: Price = Price { interval: "year", ..Price::monthly("price_DemoReader", "prod_DemoReader", 12_000) };
const WRITER: Price =
    Price { interval: "year", words: Some(INCLUDED), ..Price::monthly("price_DemoWriter", "prod_DemoWriter", 36_000) };

/// Her acts after the first one, and her rows.
pub(crate) struct Cleo {
    /// The acts before the end of her month.
    pub(crate) before: [Act; 2],
    /// The act at its end.
    pub(crate) after: Act,
    /// Her rows at the end.
    pub(crate) ending: Vec<Row>,
    /// Her statement at the end: start of the period, line, amount. The amounts of each period add up to 0.
    pub(crate) statement: Vec<Line<3>>,
}

impl Cleo {
    /// She upgrades now, and her month ends at `month_end`, a whole second as all times of Stripe.
    pub(super) fn new(sandbox: &mut Sandbox, now: OffsetDateTime, month_end: OffsetDateTime) -> Self {
        let schedule = Schedule::ending_at(month_end);
        Self {
            before: [upgrades(sandbox, now, schedule), uses_words(schedule)],
            after: is_renewed(schedule),
            ending: ending(schedule),
            statement: statement(schedule),
        }
    }
}

/// Her first act: the metadata that the others need.
pub(super) fn gets_metadata(sandbox: &mut Sandbox, now: OffsetDateTime) -> Act {
    let price = sandbox.emit("price.created", now, &WRITER.json());
    let mut customer = objects::customer(CLEO, "Cleo Marin", "cleo@shop.test", now - Duration::days(365), WORKSPACE);
    let metadata = customer["metadata"].take();
    customer["metadata"] = json!({});
    let customer = sandbox.update("customer.updated", now, &mut customer, |customer| customer["metadata"] = metadata);
    Act {
        date: "Now",
        title: "Metadata in Stripe name the limit of a price, and Cleo's workspace",
        steps: vec![applied(price, "limit_words = 1000, each month"), applied(customer, "workspace_id = c4b1a7d2-...")],
        leaves: Row::Contact(ContactRow {
            stripe_customer_id: CLEO.to_owned(),
            name: Some("Cleo Marin".to_owned()),
            email: Some("cleo@shop.test".to_owned()),
            city: None,
            stripe_deleted_at: None,
        }),
    }
}

/// The earlier price has no limit, so the limit begins in the month of the upgrade.
fn upgrades(sandbox: &mut Sandbox, now: OffsetDateTime, schedule: Schedule) -> Act {
    let year = (schedule.start, plus_months(schedule.start, 12));
    let mut subscription = objects::subscription(CLEO_SUB, "si_DemoCleo", CLEO, &READER, year);
    let upgraded = sandbox.update("customer.subscription.updated", now, &mut subscription, |subscription| {
        objects::set_price(objects::item(subscription), &WRITER);
    });
    Act {
        date: "Now",
        title: "Cleo, who pays by year, upgrades to that price",
        steps: vec![applied(upgraded, "the price before has no words")],
        leaves: limit((schedule.period_start, schedule.period_end), 0, 0),
    }
}

fn uses_words(schedule: Schedule) -> Act {
    let month = (schedule.period_start, schedule.period_end);
    Act {
        date: "Now",
        title: "The product consumes words, in its own transactions",
        steps: vec![
            consume(FIRST_CALL, Consumed::Left(CARRIED_OVER)),
            consume(SECOND_CALL, Consumed::Refused(CARRIED_OVER)),
        ],
        leaves: limit(month, 0, FIRST_CALL),
    }
}

/// Stripe sends nothing in this act, because the year has not ended.
fn is_renewed(schedule: Schedule) -> Act {
    let month = (schedule.period_end, schedule.next_end);
    Act {
        date: "Now",
        title: "Cleo's month ends; what is left is carried over",
        steps: vec![
            Step::Renewal(Renewal { subscription: CLEO_SUB, period_end: schedule.period_end }),
            consume(SECOND_CALL, Consumed::Left(LEFT)),
        ],
        leaves: limit(month, CARRIED_OVER, SECOND_CALL),
    }
}

fn consume(amount: i64, expected: Consumed) -> Step {
    Step::Consume(Consume { workspace: WORKSPACE, limit_key: WORDS, amount, expected })
}

fn limit((from, until): (OffsetDateTime, OffsetDateTime), spillover: i64, used: i64) -> Row {
    Row::Limit(LimitRow {
        workspace_id: WORKSPACE,
        limit_key: WORDS.to_owned(),
        included: Some(INCLUDED),
        spillover,
        used,
        available: Some(INCLUDED + spillover - used),
        period_started_at: from,
        limit_renewal_date: Some(until),
    })
}

fn ending(schedule: Schedule) -> Vec<Row> {
    let subscription = SubscriptionRow::active(CLEO_SUB, &WRITER, plus_months(schedule.start, 12));
    let workspace = WorkspaceRow { workspace_id: WORKSPACE, active: true, inactive_reason: None };
    vec![Row::Subscription(subscription), Row::Workspace(workspace)]
}

/// One month that is over, once, and the current one.
fn statement(schedule: Schedule) -> Vec<Line<3>> {
    let first = [("included", INCLUDED), ("used", -FIRST_CALL), ("carried_over", -CARRIED_OVER)];
    let second = [("carried_in", CARRIED_OVER), ("included", INCLUDED), ("used", -SECOND_CALL), ("left", -LEFT)];
    let first = first.map(|line| (schedule.period_start, line));
    let second = second.map(|line| (schedule.period_end, line));
    let text = |(start, (line, amount)): (OffsetDateTime, (&str, i64))| {
        [to_the_second(start), line.to_owned(), amount.to_string()]
    };
    first.into_iter().chain(second).map(text).collect()
}
