//! Which values of Stripe's JSON are not personal data. PURE. Called where an operator reads a payload.
//!
//! This is an allow-list: a text is personal unless both its field is listed here and its form is the form of such a
//! field. So the value of a field that this release does not know is personal.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::views::workspace;

/// Objects whose content is personal whatever its type: merchants choose both names and values of the metadata, and a
/// date of birth consists of numbers.
const PERSONAL_OBJECTS: [&str; 3] = ["metadata", "dob", "date_of_birth"];

/// Fields that contain an id of Stripe, or in their array.
const IDS: [&str; 47] = [
    "id",
    "account",
    "balance_transaction",
    "charge",
    "charges",
    "checkout_session",
    "coupon",
    "customer",
    "customer_account",
    "default_payment_method",
    "default_source",
    "discount",
    "discounts",
    "dispute",
    "event",
    "events",
    "generated_sepa_debit",
    "generated_sepa_debit_mandate",
    "invoice",
    "invoice_item",
    "latest_charge",
    "latest_invoice",
    "latest_revision",
    "mandate",
    "meter",
    "on_behalf_of",
    "payment",
    "payment_intent",
    "payment_link",
    "payment_method",
    "payment_record",
    "pending_setup_intent",
    "plan",
    "price",
    "product",
    "promotion_code",
    "refund",
    "released_subscription",
    "request",
    "schedule",
    "setup_intent",
    "source",
    "subscription",
    "subscription_item",
    "subscription_schedule",
    "test_clock",
    "trial_offer",
];

/// Fields that contain one of Stripe's words, or in their array. `code`, `state` and `country` are not among them: a
/// promotion code may name a person, and the others are parts of an address.
const WORDS: [&str; 55] = [
    "account_holder_type",
    "address_line1_check",
    "address_postal_code_check",
    "allow_redisplay",
    "behavior",
    "billing_cycle_anchor",
    "billing_mode",
    "billing_reason",
    "billing_scheme",
    "brand",
    "cancellation_reason",
    "capture_method",
    "collection_method",
    "confirmation_method",
    "currency",
    "customer_tax_exempt",
    "cvc_check",
    "decline_code",
    "display_brand",
    "duration",
    "end_behavior",
    "event_type",
    "failure_code",
    "feedback",
    "flow",
    "funding",
    "grouping_key",
    "interval",
    "invoicing_behavior",
    "missing_payment_method",
    "mode",
    "network",
    "network_status",
    "object",
    "payment_behavior",
    "payment_method_collection",
    "payment_method_types",
    "payment_status",
    "proration_behavior",
    "proration_discounts",
    "reason",
    "redirect_on_completion",
    "risk_level",
    "save_default_payment_method",
    "setup_future_usage",
    "status",
    "submit_type",
    "tax_behavior",
    "tax_exempt",
    "taxability_reason",
    "tiers_mode",
    "type",
    "ui_mode",
    "usage",
    "usage_type",
];

/// The longest word of Stripe and the longest name of a field.
const LONGEST_WORD: usize = 100;
/// The longest id.
const LONGEST_ID: usize = 255;

/// Whether every value in the object of this field is personal, and the names of its fields too.
pub fn is_personal_object(field: &str) -> bool {
    PERSONAL_OBJECTS.contains(&field)
}

/// Whether a text is not personal. `field` is its field, or that of its array.
pub fn is_impersonal(field: &str, text: &str) -> bool {
    text.is_empty()
        || is_uuid(text)
        || (IDS.contains(&field) && is_id(text))
        || (WORDS.contains(&field) && is_word(text))
        || (is_amount_field(field) && is_decimal(text))
        || (is_time_field(field) && OffsetDateTime::parse(text, &Rfc3339).is_ok())
        || (field == "api_version" && is_api_version(text))
}

/// Whether rows may be computed from the texts of a field: ids, and words of Stripe.
pub fn is_structural(field: &str) -> bool {
    IDS.contains(&field) || WORDS.contains(&field)
}

/// Whether a text in a personal object is not personal: it is empty, or the id of a workspace.
pub fn is_impersonal_content(text: &str) -> bool {
    text.is_empty() || is_uuid(text)
}

/// Whether the name of a field is not personal: Stripe's names are words. In a personal object only the names that link
/// a workspace are known.
pub fn is_impersonal_name(name: &str, in_personal_object: bool) -> bool {
    if in_personal_object { workspace::KEYS.contains(&name) } else { is_word(name) }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

fn is_id(text: &str) -> bool {
    text.len() <= LONGEST_ID && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn is_word(text: &str) -> bool {
    text.len() <= LONGEST_WORD
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.".contains(&byte))
}

fn is_amount_field(field: &str) -> bool {
    field.ends_with("_decimal") || field == "unit_amount_excluding_tax"
}

fn is_decimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || b".-".contains(&byte))
}

fn is_time_field(field: &str) -> bool {
    field == "created" || field.ends_with("_at")
}

/// A date, and the name of a release since 2024: `2026-10-28.endive`.
fn is_api_version(text: &str) -> bool {
    let (date, name) = text.split_once('.').unwrap_or((text, ""));
    date.len() == 10 && is_decimal(date) && name.bytes().all(|byte| byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_only_in_a_known_field_and_in_its_form() {
        for (field, text) in [
            ("id", "cus_Fx01"),
            ("coupon", "HERBST25"),
            ("type", "customer.updated"),
            ("failure_code", "card_declined"),
            ("unit_amount_decimal", "12.5"),
            ("created", "2026-11-05T09:00:00.000Z"),
            ("api_version", "2026-10-28.endive"),
            ("api_version", "2020-08-27"),
            ("client_reference_id", "3e7a9c52-1f84-4d0b-b6c8-92d5e0a7f413"),
            ("name", ""),
        ] {
            assert!(is_impersonal(field, text), "{field}: {text}");
        }
        for (field, text) in [
            // personal texts in fields of another form
            ("id", "ada@example.com"),
            ("customer", "Ada Lovelace"),
            ("status", "Ada"),
            ("reason", "ada lovelace"),
            ("unit_amount_decimal", "Ada"),
            ("created", "Ada"),
            ("api_version", "2020-08-27.Ada"),
            // fields that are not listed
            ("name", "ada"),
            ("a_field_of_next_year", "ada"),
            ("code", "ada50"),
            ("number", "ADA-0001"),
            ("last4", "4242"),
            ("born", "1990-01-01T00:00:00Z"),
            ("", "ada"),
        ] {
            assert!(!is_impersonal(field, text), "{field}: {text}");
        }
    }

    #[test]
    fn names_chosen_by_a_merchant_are_personal() {
        assert!(is_impersonal_name("payment_method", false) && is_impersonal_name("workspace_id", true));
        assert!(!is_impersonal_name("ada@example.com", false) && !is_impersonal_name("ada", true));
        assert!(is_impersonal_content("3e7a9c52-1f84-4d0b-b6c8-92d5e0a7f413") && !is_impersonal_content("cus_1"));
    }
}
