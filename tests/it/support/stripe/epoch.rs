//! Changes between the versions of Stripe's API: converts a current object to its shape in an older version.

use serde_json::{Value, json};

use super::view::{View, remove};

/// An API version in which shapes differ from the previous one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Epoch {
    V2020,
    V2022,
    V2024,
    Basil,
    Clover,
    Endive,
}

impl Epoch {
    pub(crate) const ALL: [Self; 6] = [Self::V2020, Self::V2022, Self::V2024, Self::Basil, Self::Clover, Self::Endive];

    /// The version as in events.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::V2020 => "2020-08-27",
            Self::V2022 => "2022-11-15",
            Self::V2024 => "2024-06-20",
            Self::Basil => "2025-03-31.basil",
            Self::Clover => "2025-09-30.clover",
            Self::Endive => "2026-10-28.endive",
        }
    }
}

/// Until basil the period was on the subscription; until 2023 the only discount was there too, as an object.
pub(crate) fn age_subscription(view: View<'_>, shown: &mut Value, epoch: Epoch) {
    if epoch < Epoch::Clover {
        remove(shown, &["billing_mode", "billing_schedules", "customer_account"]);
    }
    if epoch >= Epoch::Basil {
        return;
    }
    for end in ["current_period_start", "current_period_end"] {
        shown[end] = shown["items"]["data"][0][end].clone();
    }
    for item in shown["items"]["data"].as_array_mut().into_iter().flatten() {
        remove(item, &["current_period_start", "current_period_end"]);
        if epoch < Epoch::V2024 {
            remove(item, &["discounts"]);
        }
    }
    shown["discount"] = discount_object(view, &shown["discounts"][0], epoch);
    if epoch < Epoch::V2024 {
        remove(shown, &["discounts"]);
    }
}

fn discount_object(view: View<'_>, id: &Value, epoch: Epoch) -> Value {
    id.as_str().and_then(|id| view.shown(id, epoch)).unwrap_or_default()
}

/// Until clover a discount held its coupon.
pub(crate) fn age_discount(view: View<'_>, shown: &mut Value, epoch: Epoch) {
    if epoch < Epoch::Clover {
        shown["coupon"] = view.or_null(&shown["source"]["coupon"]);
        remove(shown, &["source", "customer_account", "subscription_item"]);
    }
}

/// Until clover a promotion code held its coupon too.
pub(crate) fn age_promotion_code(view: View<'_>, shown: &mut Value, epoch: Epoch) {
    if epoch < Epoch::Clover {
        shown["coupon"] = view.or_null(&shown["promotion"]["coupon"]);
        remove(shown, &["promotion", "customer_account"]);
    }
}

/// Until basil an invoice named its subscription and its payment itself.
pub(crate) fn age_invoice(view: View<'_>, shown: &mut Value, epoch: Epoch) {
    if epoch >= Epoch::Basil {
        // since 2026-05-27 only on request
        remove(shown, &["amount_paid_off_stripe"]);
        return;
    }
    let details = shown["parent"]["subscription_details"].clone();
    shown["subscription"] = details["subscription"].clone();
    if epoch >= Epoch::V2024 {
        shown["subscription_details"] = json!({ "metadata": details["metadata"] });
    } else {
        shown["discount"] = discount_object(view, &shown["discounts"][0], epoch);
    }
    let intent = view.payments(shown["id"].as_str().unwrap_or_default()).first().map(|first| &first["payment"]);
    let intent = intent.map_or(Value::Null, |payment| payment["payment_intent"].clone());
    shown["charge"] = view.or_null(&intent)["latest_charge"].clone();
    shown["payment_intent"] = intent;
    shown["paid"] = json!(shown["status"] == "paid");
    shown["paid_out_of_band"] = json!(shown["amount_paid_off_stripe"].as_i64() > Some(0));
    for line in shown["lines"]["data"].as_array_mut().into_iter().flatten() {
        let details = line["parent"]["subscription_item_details"].clone();
        line["subscription"] = details["subscription"].clone();
        line["subscription_item"] = details["subscription_item"].clone();
        remove(line, &["parent"]);
    }
    remove(shown, &["parent", "amount_paid_off_stripe", "amount_overpaid"]);
}

/// Until basil a charge and a payment intent named their invoice.
pub(crate) fn age_payment(view: View<'_>, shown: &mut Value, epoch: Epoch) {
    if epoch < Epoch::Basil {
        let intent = if shown["object"] == "charge" { &shown["payment_intent"] } else { &shown["id"] };
        let payments = view.payments(intent.as_str().unwrap_or_default());
        shown["invoice"] = payments.first().map_or(Value::Null, |payment| payment["invoice"].clone());
    }
}

/// Until 2022-11-15 a payment intent listed its charges.
pub(crate) fn age_payment_intent(view: View<'_>, shown: &mut Value, epoch: Epoch) {
    if epoch > Epoch::V2020 {
        return;
    }
    let mut charges = view.all("charge");
    charges.retain(|charge| charge["payment_intent"] == shown["id"]);
    let data: Vec<Value> = charges.into_iter().map(|charge| view.show(charge, epoch)).collect();
    shown["charges"] = json!({ "object": "list", "data": data, "has_more": false, "url": "/v1/charges" });
    remove(shown, &["latest_charge"]);
}

/// The names of `ui_mode` are those of dahlia; the field itself came in 2023. `discounts` came in 2025-01-27.acacia.
pub(crate) fn age_session(shown: &mut Value, epoch: Epoch) {
    if epoch < Epoch::Basil {
        remove(shown, &["discounts"]);
    }
    let mode = match shown["ui_mode"].as_str() {
        Some("hosted_page") => "hosted",
        Some("embedded_page") => "embedded",
        _ => "custom",
    };
    if epoch < Epoch::V2024 {
        remove(shown, &["ui_mode"]);
    } else if epoch < Epoch::Endive {
        shown["ui_mode"] = json!(mode);
    }
}
