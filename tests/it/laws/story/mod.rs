//! The generated history of a small shop at the fake Stripe: actions, and the objects that they change.
//!
//! An action selects its object by a number; without a matching object it does nothing. It does nothing that Stripe
//! would refuse.

mod planned;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::acts::{ACTS, Act};
use crate::support::stripe::{Epoch, Event, FakeStripe};

/// A history, and how its events arrive.
#[derive(Debug, Clone)]
pub(super) struct Life {
    /// Seconds since the previous action, the action, and the number that selects its object.
    pub(super) acts: Vec<(i64, Act, usize)>,
    pub(super) epoch: Epoch,
    /// The API version of the other half of the events: an endpoint and the event list may have different versions.
    pub(super) other_epoch: Epoch,
    /// Determines the ids of events and their arrival.
    pub(super) seed: u64,
    /// Percentage of events that are never delivered.
    pub(super) lost: u8,
    pub(super) workers: usize,
    pub(super) batch_size: usize,
}

impl Life {
    /// The API version in which an event is rendered: always the same for one event.
    pub(super) fn epoch_of(&self, event: &Event) -> Epoch {
        if event.id.ends_with(['0', '2', '4', '6', '8', 'a', 'c', 'e']) { self.epoch } else { self.other_epoch }
    }

    /// The older of the two API versions, which shows less.
    pub(super) fn oldest_epoch(&self) -> Epoch {
        self.epoch.min(self.other_epoch)
    }
}

pub(super) fn life() -> impl Strategy<Value = Life> {
    let seconds = prop_oneof![5 => Just(0_i64), 2 => Just(1), 2 => 2..15_i64, 1 => 15..200_000_i64];
    let acts = prop::collection::vec((seconds, select(&ACTS[..]), 0..60_usize), 5..28);
    let lost = prop_oneof![Just(0_u8), 1..40_u8];
    let epochs = (select(&Epoch::ALL[..]), prop::option::weighted(0.5, select(&Epoch::ALL[..])));
    let how = (epochs, 0..1000_u64, lost, 1..5_usize, 1..12_usize);
    (acts, how).prop_map(|(acts, ((epoch, other), seed, lost, workers, batch_size))| Life {
        acts,
        epoch,
        other_epoch: other.unwrap_or(epoch),
        seed,
        lost,
        workers,
        batch_size,
    })
}

/// The shop at the fake Stripe.
pub(super) struct Story {
    stripe: FakeStripe,
    product: String,
    prices: Vec<String>,
    coupons: Vec<String>,
    bank: String,
    /// Before 2023-10 a payload shows one discount only, so a subscription has at most one, and its items have none.
    one_discount: bool,
    /// Before basil a payload shows one period only, so a subscription has no item with a different period.
    one_period: bool,
}

const WORKSPACES: [&str; 2] = ["550e8400-e29b-41d4-a716-446655440000", "6fa459ea-ee8a-4ca4-894e-db77e160355e"];

impl Story {
    /// Two monthly prices and a yearly one, two coupons, and a customer with a subscription, a card and a bank account.
    pub(super) fn open(stripe: FakeStripe, epoch: Epoch) -> Self {
        let product = stripe.product(json!({}));
        let prices = vec![
            stripe.price(&product, 1000, json!({ "metadata": { "limit_words": "5000" } })),
            stripe.price(&product, 2900, json!({ "metadata": { "limit_words": "unlimited" } })),
            stripe.price(&product, 9900, json!({ "recurring": { "interval": "year" } })),
        ];
        let coupons = vec![stripe.coupon("TEN", 10.0), stripe.coupon("HALF", 50.0)];
        let customer = stripe.customer(json!({ "name": "Ada", "metadata": { "workspace_id": WORKSPACES[0] } }));
        let bank = stripe.sepa_debit("3000");
        stripe.attach(&bank, &customer);
        stripe.attach(&stripe.card("visa", "4242"), &customer);
        stripe.subscribe(&customer, &prices[0]);
        let (one_discount, one_period) = (epoch < Epoch::V2024, epoch < Epoch::Basil);
        Self { stripe, product, prices, coupons, bank, one_discount, one_period }
    }

    /// An object of this kind that `fits`, selected by the number.
    fn one(&self, kind: &str, number: usize, fits: impl Fn(&Value) -> bool) -> Option<Value> {
        let of_kind = |object: &Value| object["object"] == kind && object["deleted"] != true;
        let found: Vec<Value> =
            self.stripe.truth().into_values().filter(|object| of_kind(object) && fits(object)).collect();
        (!found.is_empty()).then(|| found[number % found.len()].clone())
    }

    fn subscription(&self, number: usize, fits: impl Fn(&Value) -> bool) -> Option<String> {
        self.one("subscription", number, |one| one["ended_at"].is_null() && fits(one)).map(|one| id(&one))
    }

    fn with_status(&self, number: usize, statuses: &[&str]) -> Option<String> {
        self.subscription(number, |one| statuses.contains(&one["status"].as_str().unwrap()))
    }

    fn customer(&self, number: usize) -> Option<String> {
        self.one("customer", number, |_| true).map(|one| id(&one))
    }

    fn open_invoice(&self, number: usize) -> Option<String> {
        self.one("invoice", number, |one| one["status"] == "open").map(|one| id(&one))
    }

    fn method(&self, number: usize, fits: impl Fn(&Value) -> bool) -> Option<Value> {
        self.one("payment_method", number, |one| one["type"] == "card" && fits(one))
    }

    /// Executes an action, if possible.
    pub(super) fn run(&self, act: Act, number: usize) -> Option<()> {
        match act {
            Act::NewCustomer | Act::Rename | Act::Move | Act::DeleteCustomer => self.of_customer(act, number),
            Act::Bill
            | Act::DebitPending
            | Act::DebitFails
            | Act::DebitSucceeds
            | Act::CardSucceeds
            | Act::PayOutOfBand
            | Act::Void
            | Act::Dispute
            | Act::WinDispute
            | Act::LoseDispute => self.of_money(act, number),
            Act::DiscountSubscription
            | Act::DiscountCustomer
            | Act::DiscountInvoice
            | Act::DiscountItem
            | Act::EndDiscount => self.of_discount(act, number),
            Act::NewCard | Act::SetDefault | Act::Detach | Act::NetworkUpdate => self.of_method(act, number),
            Act::AddItem
            | Act::WaitForPayment
            | Act::ApplyPending
            | Act::ExpirePending
            | Act::Schedule
            | Act::NextPhase
            | Act::Release => self.of_plan(act, number),
            Act::RenameProduct | Act::ChangeLimit | Act::MarkPrice => {
                self.of_catalog(act, number);
                Some(())
            }
            // the test itself does these
            Act::Read | Act::Write => None,
            _ => self.of_subscription(act, number),
        }
    }

    fn of_customer(&self, act: Act, number: usize) -> Option<()> {
        let stripe = &self.stripe;
        if act == Act::NewCustomer {
            stripe.customer(json!({ "name": "Bo", "metadata": { "workspace_id": WORKSPACES[number % 2] } }));
            return Some(());
        }
        let customer = self.customer(number)?;
        match act {
            Act::Rename => {
                let name = ["Ada", "Ada L.", "A. L."][number % 3];
                stripe.update(&customer, json!({ "name": name }));
            }
            Act::Move => {
                let workspace = [json!(WORKSPACES[0]), json!(WORKSPACES[1]), Value::Null][number % 3].clone();
                stripe.update(&customer, json!({ "metadata": { "workspace_id": workspace } }));
            }
            _ => stripe.delete(&customer),
        }
        Some(())
    }

    fn of_subscription(&self, act: Act, number: usize) -> Option<()> {
        let (stripe, price) = (&self.stripe, &self.prices[number % 3]);
        let live = ["active", "trialing", "past_due"];
        match act {
            Act::Subscribe => _ = stripe.subscribe(&self.customer(number)?, price),
            Act::Trial => _ = stripe.trial(&self.customer(number)?, price, 14),
            Act::Convert => stripe.convert_trial(&self.with_status(number, &["trialing"])?),
            Act::SwitchPrice => stripe.switch_price(&self.subscription(number, |_| true)?, price),
            Act::ReplaceItem => _ = stripe.replace_item(&self.subscription(number, |_| true)?, price),
            Act::PauseCollection => stripe.pause_collection(&self.subscription(number, |_| true)?),
            Act::ResumeCollection => stripe.resume_collection(&self.subscription(number, |_| true)?),
            Act::Pause => stripe.pause(&self.with_status(number, &live)?),
            Act::Resume => stripe.resume(&self.with_status(number, &["paused"])?),
            Act::PastDue => stripe.set_status(&self.with_status(number, &["active"])?, "past_due"),
            Act::Recover => stripe.set_status(&self.with_status(number, &["past_due"])?, "active"),
            Act::Renew => stripe.renew(&self.with_status(number, &live[..1])?),
            Act::CancelAtPeriodEnd => {
                stripe.cancel_at_period_end(&self.subscription(number, |one| one["cancel_at"].is_null())?);
            }
            Act::Uncancel => stripe.uncancel(&self.subscription(number, |one| !one["cancel_at"].is_null())?),
            _ => stripe.cancel_now(&self.subscription(number, |_| true)?),
        }
        Some(())
    }

    fn of_money(&self, act: Act, number: usize) -> Option<()> {
        let stripe = &self.stripe;
        match act {
            Act::Bill => {
                let cents = [1000, 2900, 700][number % 3];
                stripe.bill(&self.subscription(number, |_| true)?, cents);
            }
            Act::DebitPending => _ = stripe.charge_pending(&self.idle_invoice(number)?, &self.bank),
            Act::DebitFails => {
                stripe.charge_failed(&self.open_invoice(number)?, &self.bank, "insufficient_funds");
            }
            Act::DebitSucceeds => _ = stripe.charge_succeeded(&self.open_invoice(number)?, &self.bank),
            Act::CardSucceeds => {
                let card = self.method(number, |one| !one["customer"].is_null())?;
                stripe.charge_succeeded(&self.idle_invoice(number)?, &id(&card));
            }
            Act::PayOutOfBand => stripe.pay_out_of_band(&self.idle_invoice(number)?),
            Act::Void => stripe.void(&self.idle_invoice(number)?),
            Act::Dispute => {
                let charge =
                    self.one("charge", number, |one| one["status"] == "succeeded" && one["disputed"] == false)?;
                stripe.dispute(&id(&charge));
            }
            _ => {
                let dispute = self.one("dispute", number, |one| one["status"] == "needs_response")?;
                stripe.close_dispute(&id(&dispute), act == Act::WinDispute);
            }
        }
        Some(())
    }

    /// An open invoice, if no debit is pending: Stripe allows no other change of the invoice meanwhile.
    fn idle_invoice(&self, number: usize) -> Option<String> {
        let pending = self.one("charge", 0, |one| one["status"] == "pending");
        self.open_invoice(number).filter(|_| pending.is_none())
    }

    fn of_discount(&self, act: Act, number: usize) -> Option<()> {
        let (stripe, coupon) = (&self.stripe, &self.coupons[number % 2]);
        match act {
            Act::DiscountSubscription => {
                let is_free = |one: &Value| !self.one_discount || one["discounts"] == json!([]);
                stripe.discount(&self.subscription(number, is_free)?, coupon);
            }
            Act::DiscountCustomer => {
                let customer = self.one("customer", number, |one| one["discount"].is_null())?;
                stripe.discount(&id(&customer), coupon);
            }
            Act::DiscountInvoice => _ = stripe.discount_invoice(&self.open_invoice(number)?, coupon),
            Act::DiscountItem if self.one_discount => {}
            Act::DiscountItem => _ = stripe.discount_item(&self.subscription(number, |_| true)?, coupon),
            _ => {
                let is_narrower = |one: &Value| !one["invoice"].is_null() || !one["subscription_item"].is_null();
                let fits = |one: &Value| self.is_alive(&one["customer"]) && !is_narrower(one);
                let discount = self.one("discount", number, fits)?;
                stripe.end_discount(&id(&discount));
            }
        }
        Some(())
    }

    fn is_alive(&self, customer: &Value) -> bool {
        customer.as_str().is_some_and(|id| self.stripe.object(id)["deleted"] != true)
    }

    fn of_method(&self, act: Act, number: usize) -> Option<()> {
        let stripe = &self.stripe;
        if act == Act::NewCard {
            let customer = self.customer(number)?;
            stripe.attach(&stripe.card(["visa", "mastercard"][number % 2], "0005"), &customer);
            return Some(());
        }
        let card = self.method(number, |one| self.is_alive(&one["customer"]))?;
        let (card, customer) = (id(&card), card["customer"].as_str().unwrap().to_owned());
        match act {
            Act::SetDefault => stripe.set_default_payment_method(&customer, &card),
            Act::Detach => stripe.detach(&card),
            _ => stripe.network_updates_card(&card, ["1881", "4242", "7777"][number % 3]),
        }
        Some(())
    }
}

fn id(object: &Value) -> String {
    object["id"].as_str().unwrap().to_owned()
}
