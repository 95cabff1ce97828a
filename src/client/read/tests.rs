//! Tests of the requests as they are sent.

use std::collections::BTreeSet;

use time::macros::datetime;

use super::*;

/// Half a second after second 1,700,000,000.
const FROM: OffsetDateTime = datetime!(2023-11-14 22:13:20.5 UTC);

fn id(text: &str) -> String {
    text.to_owned()
}

/// One read of each kind, with the ids `x` and `y`.
fn all() -> Vec<Read> {
    vec![
        Read::Account,
        Read::Event(id("x")),
        Read::Events { types: vec![id("a.b"), id("c")], from: FROM, after: None, limit: 50 },
        Read::Customer(id("x")),
        Read::Subscription(id("x")),
        Read::SubscriptionItems { subscription: id("x"), after: None },
        Read::PaymentMethod(id("x")),
        Read::CustomerSource { customer: id("x"), source: id("y") },
        Read::Source(id("x")),
        Read::Invoice(id("x")),
        Read::InvoicePayments { of: PaymentsOf::Invoice(id("x")), after: None },
        Read::PaymentIntent(id("x")),
        Read::Charge(id("x")),
        Read::Charges { payment_intent: id("x"), after: None },
        Read::Dispute(id("x")),
        Read::Schedule(id("x")),
        Read::Coupon(id("x")),
        Read::PromotionCode(id("x")),
        Read::Product(id("x")),
        Read::Price(id("x")),
        Read::Plan(id("x")),
        Read::TrialOffer(id("x")),
        Read::CheckoutSession(id("x")),
        page(ListKind::Products),
        page(ListKind::Prices),
        page(ListKind::Plans),
        page(ListKind::Coupons),
        page(ListKind::Customers),
        page(ListKind::Subscriptions(None)),
        page(ListKind::Invoices(None)),
        page(ListKind::Sessions(None)),
        page(ListKind::Disputes),
    ]
}

/// The first page of a list.
fn page(of: ListKind) -> Read {
    Read::List { of, span: Span::default(), after: None, expand: true }
}

fn target(read: &Read) -> String {
    let request = read.request().unwrap();
    assert!(matches!(request.method, StripeMethod::Get) && request.body.is_none());
    match request.query.filter(|query| !query.is_empty()) {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path,
    }
}

#[test]
fn each_read_has_its_own_request() {
    let expected = [
        "/account",
        "/events/x",
        "/events?created[gte]=1700000000&limit=50&types[0]=a.b&types[1]=c",
        "/customers/x?expand[0]=invoice_settings.default_payment_method&expand[1]=default_source\
         &expand[2]=discount.source.coupon&expand[3]=test_clock",
        "/subscriptions/x?expand[0]=default_payment_method&expand[1]=default_source\
         &expand[2]=discounts.source.coupon&expand[3]=items.data.discounts&expand[4]=schedule&expand[5]=test_clock",
        "/subscription_items?expand[0]=data.discounts&limit=100&subscription=x",
        "/payment_methods/x",
        "/customers/x/sources/y",
        "/sources/x",
        "/invoices/x",
        "/invoice_payments?expand[0]=data.payment.payment_intent.latest_charge&invoice=x&limit=100",
        "/payment_intents/x?expand[0]=latest_charge",
        "/charges/x",
        "/charges?limit=100&payment_intent=x",
        "/disputes/x",
        "/subscription_schedules/x",
        "/coupons/x",
        "/promotion_codes/x",
        "/products/x",
        "/prices/x?expand[0]=currency_options&expand[1]=product",
        "/plans/x?expand[0]=product",
        "/product_catalog/trial_offers/x",
        "/checkout/sessions/x?expand[0]=line_items",
        "/products?limit=100",
        "/prices?expand[0]=data.currency_options&limit=100",
        "/plans?limit=100",
        "/coupons?limit=100",
        "/customers?expand[0]=data.invoice_settings.default_payment_method&expand[1]=data.default_source\
         &expand[2]=data.discount.source.coupon&limit=100",
        "/subscriptions?expand[0]=data.default_payment_method&expand[1]=data.default_source\
         &expand[2]=data.discounts.source.coupon&expand[3]=data.items.data.discounts&expand[4]=data.schedule\
         &limit=100&status=all",
        "/invoices?limit=100",
        "/checkout/sessions?expand[0]=data.line_items&limit=100",
        "/disputes?limit=100",
    ];
    assert_eq!(all().iter().map(target).collect::<Vec<_>>(), expected);
}

#[test]
fn the_payments_of_an_intent_are_found_by_its_kind_and_id() {
    let read = Read::InvoicePayments { of: PaymentsOf::PaymentIntent(id("pi_1")), after: None };
    assert_eq!(target(&read), "/invoice_payments?limit=100&payment[payment_intent]=pi_1&payment[type]=payment_intent");
}

#[test]
fn a_list_has_optional_filters_and_expansions() {
    let span = Span { from: Some(5), until: Some(9) };
    let read = |of| Read::List { of, span, after: Some(id("last")), expand: false };
    let bounds = "created[gte]=5&created[lt]=9";
    assert_eq!(target(&read(ListKind::Customers)), format!("/customers?{bounds}&limit=100&starting_after=last"));
    let of = Some(id("cus_1"));
    assert_eq!(
        target(&read(ListKind::Subscriptions(of.clone()))),
        format!("/subscriptions?{bounds}&customer=cus_1&limit=100&starting_after=last&status=all")
    );
    for (of, path) in [(ListKind::Invoices(of.clone()), "/invoices"), (ListKind::Sessions(of), "/checkout/sessions")] {
        assert_eq!(target(&read(of)), format!("{path}?{bounds}&customer=cus_1&limit=100&starting_after=last"));
    }
    // the payments of all invoices use the list of another read, and count as that operation
    let payments = page(ListKind::Payments);
    assert_eq!(payments.operation(), "invoice_payments.list");
    assert_eq!(
        target(&payments),
        "/invoice_payments?expand[0]=data.payment.charge&expand[1]=data.payment.payment_intent.latest_charge&limit=100"
    );
}

#[test]
fn a_further_page_begins_after_the_last_id() {
    for read in [
        Read::Events { types: vec![id("x")], from: FROM, after: Some(id("last")), limit: PAGE },
        Read::SubscriptionItems { subscription: id("x"), after: Some(id("last")) },
        Read::InvoicePayments { of: PaymentsOf::Invoice(id("x")), after: Some(id("last")) },
        Read::Charges { payment_intent: id("x"), after: Some(id("last")) },
    ] {
        assert!(target(&read).contains("&starting_after=last"), "{}", target(&read));
    }
}

#[test]
fn an_id_stays_one_segment_of_the_path() {
    assert_eq!(target(&Read::Coupon(id("50 % off/ä?"))), "/coupons/50%20%25%20off%2F%C3%A4%3F");
    assert_eq!(target(&Read::Product(id("a-b_c.d~1"))), "/products/a-b_c.d~1");
    let injected = Read::Charges { payment_intent: id("x&limit=1"), after: None };
    assert_eq!(target(&injected), "/charges?limit=100&payment_intent=x%26limit%3D1");
    let next = Read::WebhookEndpoints { after: Some(id("we_1&x")) };
    assert_eq!(target(&next), "/webhook_endpoints?limit=100&starting_after=we_1%26x");
}

#[test]
fn an_empty_id_has_no_request() {
    for read in [
        Read::Customer(String::new()),
        Read::Coupon(id("..")),
        Read::CustomerSource { customer: id("x"), source: String::new() },
        Read::Charges { payment_intent: String::new(), after: None },
        Read::InvoicePayments { of: PaymentsOf::Invoice(String::new()), after: None },
    ] {
        assert!(read.request().is_none(), "{read:?}");
    }
}

#[test]
fn every_operation_is_listed_once() {
    // probes of lists that are used only as probes
    let probed = [Permission::PaymentMethods, Permission::PaymentIntents, Permission::PromotionCodes].map(Read::Probe);
    let links = Read::List { of: ListKind::PaymentLinks, span: Span::default(), after: None, expand: true };
    let others = probed.into_iter().chain([links, Read::CoreEvent(id("x")), Read::WebhookEndpoints { after: None }]);
    let found: Vec<_> = all().into_iter().chain(others).map(|read| read.operation()).chain([Read::OTHER]).collect();
    assert_eq!(found, Read::OPERATIONS);
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
    assert_eq!(Read::served().len() + Read::OF_COMMANDS.len(), found.len());
    let mut tested = Permission::PROBED.iter().chain(&Permission::WRITTEN);
    assert!(tested.all(|permission| found.contains(&permission.probe())));
}

#[test]
fn the_builders_use_our_api_version() {
    assert_eq!(stripe_client_core::VERSION.as_str(), crate::client::API_VERSION);
    let walked = include_str!("../../../docs/stripe-versions.md");
    assert!(
        walked.contains(&format!("## {}\n", crate::client::API_VERSION)),
        "the changes of this version were checked line by line"
    );
}
