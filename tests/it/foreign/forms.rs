//! Every form that the client sends, and every parameter that the fake Stripe accepts, compared with the parameter types
//! of Stripe's Python library: our client and our fake could agree on a mistake.
//!
//! The forms are in two files in `fixtures/`, which `tests/foreign/forms.py` reads. Renew them with
//! `INSTA_UPDATE=always cargo test --locked --test it -- foreign::forms`, and read the diff. A form that changes is a
//! form that another release may repeat with an idempotency key of this one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{env, fs};

use billing_sync::client::{
    API_VERSION, AfterCompletion, NewCheckoutSession, NewPaymentLink, Write, WriteRequest, create_webhook_endpoint,
    enable_events, is_checkout_locale,
};
use billing_sync::stripe::catalogue;
use tokio::process::Command;

use super::PYTHON;
use crate::support::stripe::parameter_examples;

const CHECK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/forms.py");

/// The forms of the client, one a line.
const FORMS: &str = "fixtures/stripe-forms.txt";
/// One form for each parameter that the fake Stripe accepts.
const FORMS_OF_THE_FAKE: &str = "fixtures/stripe-forms-of-the-fake.txt";

const LINE: &str = "6f1c2b7e-6c1f-4f7a-9a55-0d4f3c9f7a11";
const WORKSPACE: &str = "550e8400-e29b-41d4-a716-446655440000";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Compares a file with the code, or writes it.
fn hold(name: &str, current: &str) {
    #[expect(clippy::disallowed_methods, reason = "tests have no configuration but the environment")]
    let update = env::var("INSTA_UPDATE");
    if update.is_ok_and(|update| update == "always") {
        fs::write(path(name), current).unwrap();
    }
    let committed = fs::read_to_string(path(name)).unwrap_or_default();
    assert!(
        committed == current,
        "{name} does not match the code: INSTA_UPDATE=always cargo test --locked --test it -- foreign::forms"
    );
}

fn metadata() -> Vec<(&'static str, String)> {
    vec![
        ("workspace_id", WORKSPACE.to_owned()),
        ("replaces", "sub_1".to_owned()),
        ("billing_sync_write", LINE.to_owned()),
    ]
}

fn customers() -> Vec<Write> {
    let named = |name: &str, email: &str| Write::CreateCustomer {
        name: Some(name.to_owned()),
        email: Some(email.to_owned()),
        locale: Some("de-AT".to_owned()),
        metadata: metadata(),
    };
    let changed = |name: &str, email: &str| Write::UpdateCustomer {
        customer: "cus_1".to_owned(),
        name: name.to_owned(),
        email: email.to_owned(),
    };
    vec![
        Write::CreateCustomer { name: None, email: None, locale: None, metadata: vec![] },
        named("Ada Lovelace", "ada@example.com"),
        named("Müller & Söhne = 100% + [1]", "a+b&c=d@example.com"),
        changed("Ada Lovelace", "ada@example.com"),
        changed("李 🚀", "a+b&c=d@example.com"),
    ]
}

fn sessions() -> Vec<Write> {
    let least = NewCheckoutSession {
        customer: "cus_1".to_owned(),
        price: "price_1".to_owned(),
        return_url: "https://app.example.com/paid?session_id={CHECKOUT_SESSION_ID}".to_owned(),
        locale: None,
        reference: WORKSPACE.to_owned(),
        coupon: None,
        trial_days: None,
        metadata: vec![],
    };
    let all = NewCheckoutSession {
        locale: Some("de".to_owned()),
        coupon: Some("coupon_1".to_owned()),
        trial_days: Some(730),
        metadata: metadata(),
        ..least.clone()
    };
    let locales = ["auto", "en-GB", "es-419", "zh-TW"].map(|text| {
        assert!(is_checkout_locale(text), "{text}");
        NewCheckoutSession { locale: Some(text.to_owned()), ..least.clone() }
    });
    let without_coupon = NewCheckoutSession { coupon: None, trial_days: Some(1), ..all.clone() };
    [least, all, without_coupon].into_iter().chain(locales).map(Write::CreateCheckoutSession).collect()
}

fn links() -> Vec<Write> {
    let least = NewPaymentLink {
        items: vec![("price_1".to_owned(), 1)],
        is_quantity_adjustable: false,
        after_completion: None,
        allow_promotion_codes: false,
        requires_business: false,
        trial_days: None,
        metadata: vec![],
    };
    let all = NewPaymentLink {
        items: vec![("price_1".to_owned(), 1), ("price_2".to_owned(), 1_000)],
        is_quantity_adjustable: true,
        after_completion: Some(AfterCompletion::Redirect("https://app.example.com/a?b=c&d=%20#e".to_owned())),
        allow_promotion_codes: true,
        requires_business: true,
        trial_days: Some(730),
        metadata: metadata(),
    };
    let message = |text: Option<&str>| {
        let after_completion = Some(AfterCompletion::Message(text.map(str::to_owned)));
        NewPaymentLink { after_completion, ..least.clone() }
    };
    let messages = [message(None), message(Some("Thank you, “Ada”!\nSee you."))];
    let active = |active| Write::SetPaymentLinkActive { payment_link: "plink_1".to_owned(), active };
    let created = [least, all].into_iter().chain(messages).map(Write::CreatePaymentLink);
    created.chain([active(true), active(false)]).collect()
}

fn cancellations() -> Vec<Write> {
    let comment = "replaced by a subscription that was bought in checkout".to_owned();
    vec![Write::CancelSubscription { subscription: "sub_1".to_owned(), comment }]
}

/// All event types at once: Stripe's library lists those that an endpoint can be subscribed to.
fn endpoints() -> [WriteRequest; 2] {
    let types: Vec<String> = catalogue::subscribed().collect();
    let types = || types.iter().map(String::as_str);
    [create_webhook_endpoint("https://a.example/x?y=1&z", API_VERSION, types()), enable_events("we_1", types())]
}

#[test]
fn the_forms_of_the_client_are_reviewed() {
    let writes = [customers(), sessions(), links(), cancellations()].concat();
    for operation in Write::OPERATIONS {
        assert!(writes.iter().any(|write| write.operation() == operation), "no form of {operation}");
    }
    let mut lines = String::new();
    for request in writes.iter().map(Write::request).chain(endpoints()) {
        let method = if request.is_delete() { "DELETE" } else { "POST" };
        let line = format!("{} {method} /v1{} {}", request.operation, request.path, request.form);
        writeln!(lines, "{}", line.trim_end()).unwrap();
    }
    hold(FORMS, &lines);
}

#[test]
fn the_parameters_of_the_fake_are_reviewed() {
    let mut lines = String::new();
    for (endpoint, form) in parameter_examples() {
        writeln!(lines, "{endpoint} {form}").unwrap();
    }
    for operation in Write::OPERATIONS {
        assert!(lines.lines().any(|line| line.starts_with(&format!("{operation} "))), "no form of {operation}");
    }
    hold(FORMS_OF_THE_FAKE, &lines);
}

#[tokio::test]
#[ignore = "needs Python: make test-foreign"]
async fn stripes_library_knows_every_parameter_and_sends_the_same_forms() {
    let mut command = Command::new(PYTHON);
    command.args([CHECK, API_VERSION]).args([path(FORMS), path(FORMS_OF_THE_FAKE)]).env_clear().stdin(Stdio::null());
    let output = command.kill_on_drop(true).output().await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
}
