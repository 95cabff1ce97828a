//! The payment method of a subscription: four steps, each used if the previous one finds nothing; the last is the
//! latest payment.

use serde_json::json;

use crate::support::fetching::Fetching;
use crate::support::stripe::Epoch;

async fn paid_by(sync: &Fetching, subscription: &str) -> Option<String> {
    let query = "SELECT concat_ws(' ', payment_type, payment_method_card_brand, payment_card_number_last_four_digits)
        FROM billing.subscriptions WHERE stripe_subscription_id = $1";
    sqlx::query_scalar(query).bind(subscription).fetch_one(&sync.app.pool).await.unwrap()
}

#[tokio::test]
async fn the_payment_type_is_found_in_four_steps() {
    for epoch in [Epoch::V2022, Epoch::Endive] {
        let sync = Fetching::start().await;
        let stripe = &sync.stripe;
        let mut sales = Vec::new();
        for step in 1..=4 {
            let sale = sync.sell();
            let bank = stripe.sepa_debit("0003");
            stripe.attach(&bank, &sale.customer);
            let invoice = stripe.bill(&sale.subscription, 1000);
            stripe.charge_succeeded(&invoice, &bank);
            stripe.detach(&bank);
            if step <= 3 {
                let default = stripe.card("amex", "0004");
                stripe.attach(&default, &sale.customer);
                stripe.set_default_payment_method(&sale.customer, &default);
            }
            if step <= 2 {
                let source = stripe.legacy_card(&sale.customer, "MasterCard", "0002");
                stripe.update(&sale.subscription, json!({ "default_source": source }));
            }
            if step == 1 {
                let own = stripe.card("visa", "0001");
                stripe.attach(&own, &sale.customer);
                stripe.update(&sale.subscription, json!({ "default_payment_method": own }));
            }
            sales.push(sale);
        }
        sync.pass_the_margin();
        sync.deliver_all(epoch).await;
        sync.settle().await;
        let expected = ["card visa 0001", "card mastercard 0002", "card amex 0004", "sepa_debit 0003"];
        for (sale, expected) in sales.iter().zip(expected) {
            assert_eq!(paid_by(&sync, &sale.subscription).await.as_deref(), Some(expected), "{epoch:?}");
        }
        sync.finish().await;
    }
}

#[tokio::test]
async fn card_network_updates_reach_contact_and_subscription() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    let card = sync.stripe.card("visa", "4242");
    sync.stripe.attach(&card, &sale.customer);
    sync.stripe.set_default_payment_method(&sale.customer, &card);
    sync.stripe.tick(5);
    sync.stripe.network_updates_card(&card, "1881");
    sync.pass_the_margin();
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    assert_eq!(paid_by(&sync, &sale.subscription).await.as_deref(), Some("card visa 1881"));
    sync.stripe.detach(&card);
    sync.pass_the_margin();
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    assert_eq!(paid_by(&sync, &sale.subscription).await.as_deref(), Some(""));
    let contact = "SELECT default_payment_method FROM billing.billing_contacts";
    assert_eq!(sync.app.text(contact).await, None);
    sync.finish().await;
}
