//! Failed SEPA debits, from the fake's events to `sepa_payment_failed`, in old and new API versions.

use serde_json::Value;

use crate::support::fetching::{Fetching, Sale};
use crate::support::stripe::{Epoch, Event, FakeStripe};

const EPOCHS: [Epoch; 2] = [Epoch::V2022, Epoch::Endive];

/// A customer who pays by debit and also has a card.
struct Debtor {
    stripe: FakeStripe,
    sale: Sale,
    bank: String,
    card: String,
}

impl Debtor {
    fn new(sync: &Fetching) -> Self {
        let (stripe, sale) = (sync.stripe.clone(), sync.sell());
        let (bank, card) = (stripe.sepa_debit("3000"), stripe.card("visa", "4242"));
        stripe.attach(&bank, &sale.customer);
        stripe.attach(&card, &sale.customer);
        stripe.set_default_payment_method(&sale.customer, &bank);
        Self { stripe, sale, bank, card }
    }

    fn bill(&self, cents: i64) -> String {
        self.stripe.tick(1);
        self.stripe.bill(&self.sale.subscription, cents)
    }

    /// Bills a debit that fails after two days; returns the invoice.
    fn fail(&self) -> String {
        let invoice = self.bill(1000);
        self.stripe.charge_pending(&invoice, &self.bank);
        self.stripe.tick(2 * 86_400);
        self.stripe.charge_failed(&invoice, &self.bank, "insufficient_funds");
        self.stripe.tick(60);
        invoice
    }
}

/// Name, story, order of delivery, and the expected flag at the end.
type Case = (&'static str, fn(&Debtor), fn(Vec<Event>) -> Vec<Event>, bool);

const CASES: [Case; 10] = [
    ("P1", |of| _ = of.fail(), in_order, true),
    ("P2", fail_and_succeed, in_order, false),
    ("P3", fail_and_succeed, backwards, false),
    (
        "P4",
        |of| {
            of.fail();
            of.stripe.charge_succeeded(&of.bill(1000), &of.card);
        },
        in_order,
        false,
    ),
    (
        "P5",
        |of| {
            of.stripe.void(&of.fail());
        },
        in_order,
        true,
    ),
    (
        "P6",
        |of| {
            of.fail();
            of.stripe.pay_nothing(&of.bill(0));
        },
        in_order,
        true,
    ),
    ("P7", |of| _ = of.stripe.charge_failed(&of.bill(1000), &of.card, "card_declined"), in_order, false),
    (
        "P8",
        |of| {
            let charge = of.stripe.charge_succeeded(&of.bill(1000), &of.bank);
            of.stripe.tick(9);
            of.stripe.dispute(&charge);
        },
        in_order,
        true,
    ),
    ("P9", fail_and_succeed, twice, false),
    (
        "two failed, one of them paid out of band",
        |of| {
            let first = of.fail();
            of.fail();
            of.stripe.pay_out_of_band(&first);
        },
        in_order,
        true,
    ),
];

fn fail_and_succeed(of: &Debtor) {
    let invoice = of.fail();
    of.stripe.charge_succeeded(&invoice, &of.bank);
}

fn in_order(events: Vec<Event>) -> Vec<Event> {
    events
}

fn backwards(mut events: Vec<Event>) -> Vec<Event> {
    events.reverse();
    events
}

fn twice(events: Vec<Event>) -> Vec<Event> {
    [events.clone(), events].concat()
}

async fn has_failed(sync: &Fetching, of: &Debtor) -> bool {
    let query = "SELECT sepa_payment_failed FROM billing.subscriptions WHERE stripe_subscription_id = $1";
    sqlx::query_scalar(query).bind(&of.sale.subscription).fetch_one(&sync.app.pool).await.unwrap()
}

async fn check_cases(epoch: Epoch) {
    let sync = Fetching::start().await;
    let mut debtors = Vec::new();
    let mut delivered: Vec<Value> = Vec::new();
    for (name, story, order, expected) in CASES {
        let mark = sync.stripe.mark();
        let debtor = Debtor::new(&sync);
        story(&debtor);
        let events = order(sync.stripe.events_since(mark));
        delivered.extend(events.iter().map(|event| event.json(epoch)));
        debtors.push((name, debtor, expected));
    }
    sync.pass_the_margin();
    // all events arrive before the worker runs
    for event in &delivered {
        sync.app.deliver(event).await;
    }
    sync.settle().await;
    for (name, debtor, expected) in &debtors {
        assert_eq!(has_failed(&sync, debtor).await, *expected, "{name} in {epoch:?}");
    }
    sync.finish().await;
}

#[tokio::test]
async fn failed_debits_in_api_version_2022() {
    check_cases(Epoch::V2022).await;
}

#[tokio::test]
async fn failed_debits_in_the_newest_api_version() {
    check_cases(Epoch::Endive).await;
}

#[tokio::test]
async fn a_failure_reported_by_one_event_type_is_recorded() {
    for epoch in EPOCHS {
        for only in ["invoice.payment_failed", "payment_intent.payment_failed", "charge.failed"] {
            let sync = Fetching::start().await;
            let of = Debtor::new(&sync);
            of.fail();
            sync.pass_the_margin();
            sync.emit(0, epoch, &["customer.created", "customer.subscription.created", only]).await;
            sync.settle().await;
            assert!(has_failed(&sync, &of).await, "{only} in {epoch:?}: {:#?}", sync.stripe.served());
            sync.finish().await;
        }
    }
}

#[tokio::test]
async fn a_failed_card_reported_by_its_invoice_is_no_failed_debit() {
    for epoch in EPOCHS {
        let sync = Fetching::start().await;
        let of = Debtor::new(&sync);
        sync.stripe.charge_failed(&of.bill(1000), &of.card, "card_declined");
        sync.pass_the_margin();
        sync.emit(0, epoch, &["customer.created", "customer.subscription.created", "invoice.payment_failed"]).await;
        sync.settle().await;
        assert!(!has_failed(&sync, &of).await, "{epoch:?}");
        sync.finish().await;
    }
}

#[tokio::test]
async fn a_dispute_counts_as_a_failure_until_it_is_won() {
    for epoch in EPOCHS {
        let sync = Fetching::start().await;
        let of = Debtor::new(&sync);
        let charge = sync.stripe.charge_succeeded(&of.bill(1000), &of.bank);
        sync.stripe.tick(9);
        let dispute = sync.stripe.dispute(&charge);
        sync.pass_the_margin();
        sync.emit(0, epoch, &["customer.created", "customer.subscription.created", "charge.dispute.created"]).await;
        sync.settle().await;
        assert_eq!(sync.served(&format!("/v1/charges/{charge}")), 1);
        assert!(has_failed(&sync, &of).await, "{epoch:?}");
        sync.stripe.close_dispute(&dispute, true);
        sync.pass_the_margin();
        sync.emit(0, epoch, &["charge.dispute.closed"]).await;
        sync.settle().await;
        assert!(!has_failed(&sync, &of).await, "won, in {epoch:?}");
        sync.finish().await;
    }
}
