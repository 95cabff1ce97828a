//! Payment methods, the cards and sources of older integrations, and the method details of a charge.
//!
//! Owns the location of brand and last four digits in each of these shapes, and their uniform spelling. Must not know
//! which of several methods counts. PURE.

use super::reader::Reader;
use crate::stripe::json::Json;

/// A payment method of any kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MethodView {
    /// `type` of the payment method (`card`, `sepa_debit` …); unknown ones pass through.
    pub kind: String,
    /// Brand of a card, in the spelling of payment methods.
    pub card_brand: Option<String>,
    /// The last four digits or letters of the card, account or IBAN, leading zeros kept.
    pub last_four: Option<String>,
}

/// Reads a payment method, or a card, source or bank account of the older kind. `None` if it has no type.
pub fn of_object(object_type: &str, json: Json<'_>) -> Option<MethodView> {
    match object_type {
        "card" => Some(MethodView { kind: "card".to_owned(), card_brand: brand(json), last_four: last_four(json) }),
        "bank_account" => {
            Some(MethodView { kind: "us_bank_account".to_owned(), card_brand: None, last_four: last_four(json) })
        }
        // a payment method and a source have a type, and their details are below its name
        _ => of_details(json),
    }
}

/// Reads a hash with a `type` and the details below its name; also `payment_method_details` of a charge.
pub(super) fn of_details(json: Json<'_>) -> Option<MethodView> {
    let kind = json.get("type").text().filter(|kind| !kind.is_empty())?;
    let details = json.get(&kind);
    let card_brand = (kind == "card").then(|| brand(details)).flatten();
    Some(MethodView { card_brand, last_four: last_four(details), kind })
}

/// Paths of the last four digits, relative to the details of a type. One list for charges, methods and sources, because
/// no type uses two of these paths for different numbers.
///
/// `iban_last4`: bancontact, ideal and sofort. `funding.card`: `amazon_pay` and `revolut_pay`. `card`: mobilepay. All
/// other types use `last4`. A wallet's `dynamic_last4` belongs to a device number, and Swish's `verified_phone_last4`
/// to a phone number: neither is read.
const LAST_FOUR: [&[&str]; 4] = [&["last4"], &["iban_last4"], &["funding", "card", "last4"], &["card", "last4"]];

fn last_four(details: Json<'_>) -> Option<String> {
    let text = |path: &&[&str]| {
        let value = path.iter().fold(details, |value, key| value.get(key));
        Reader::default().text(value).filter(|text| !text.is_empty())
    };
    LAST_FOUR.iter().find_map(text)
}

/// The brand; older objects contain its display name ("American Express").
fn brand(details: Json<'_>) -> Option<String> {
    let brand = Reader::default().text(details.get("brand")).filter(|text| !text.is_empty())?;
    Some(match brand.to_lowercase().replace(' ', "_").as_str() {
        "american_express" => "amex".to_owned(),
        "diners_club" => "diners".to_owned(),
        "china_unionpay" => "unionpay".to_owned(),
        "eftpos_australia" => "eftpos_au".to_owned(),
        other => other.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;

    /// Type, brand and last four; empty if absent.
    fn method(object_type: &str, text: &str) -> [String; 3] {
        let view = of_object(object_type, json(text)).unwrap();
        [Some(view.kind), view.card_brand, view.last_four].map(Option::unwrap_or_default)
    }

    #[test]
    fn a_payment_method_keeps_its_parts_below_its_type() {
        let card = r#"{"type":"card","card":{"brand":"visa","display_brand":"cartes_bancaires","last4":"0042"}}"#;
        assert_eq!(method("payment_method", card), ["card", "visa", "0042"]);
        let sepa = r#"{"type":"sepa_debit","sepa_debit":{"last4":"3000","brand":"x"}}"#;
        assert_eq!(method("payment_method", sepa), ["sepa_debit", "", "3000"]);
        let unknown = r#"{"type":"telepathy","telepathy":{}}"#;
        assert_eq!(method("payment_method", unknown), ["telepathy", "", ""]);
    }

    /// Each type of Stripe's `payment_method_details`, `payment_method` and `source` that has a last four, in all
    /// versions up to 2026-10-28.endive, with its path.
    const PLACES: [(&str, &str); 20] = [
        ("ach_debit", r#"{"last4":"0042"}"#),
        ("acss_debit", r#"{"last4":"0042"}"#),
        ("amazon_pay", r#"{"funding":{"type":"card","card":{"brand":"visa","last4":"0042"}}}"#),
        ("au_becs_debit", r#"{"last4":"0042"}"#),
        ("bacs_debit", r#"{"last4":"0042"}"#),
        ("bancontact", r#"{"bank_code":"VAPE","iban_last4":"0042"}"#),
        ("card", r#"{"last4":"0042","wallet":{"type":"apple_pay","dynamic_last4":"9999"}}"#),
        ("card_present", r#"{"last4":"0042"}"#),
        ("ideal", r#"{"bank":"ing","iban_last4":"0042"}"#),
        ("interac_present", r#"{"last4":"0042"}"#),
        ("kr_card", r#"{"brand":"bc","last4":"0042"}"#),
        ("mobilepay", r#"{"card":{"brand":"visa","last4":"0042"}}"#),
        ("nz_bank_account", r#"{"last4":"0042"}"#),
        ("payto", r#"{"last4":"0042"}"#),
        ("revolut_pay", r#"{"funding":{"type":"card","card":{"last4":"0042"}}}"#),
        ("sepa_debit", r#"{"last4":"0042"}"#),
        ("sofort", r#"{"iban_last4":"0042"}"#),
        ("three_d_secure", r#"{"last4":"0042","dynamic_last4":"9999"}"#),
        ("us_bank_account", r#"{"last4":"0042"}"#),
        ("telepathy", r#"{"last4":"0042"}"#),
    ];

    #[test]
    fn the_last_four_is_found_for_every_type() {
        for (kind, details) in PLACES {
            let text = format!(r#"{{"type":"{kind}","{kind}":{details}}}"#);
            let json = json(&text);
            for view in [of_object("payment_method", json), of_object("source", json), of_details(json)] {
                let view = view.unwrap();
                assert_eq!((view.kind.as_str(), view.last_four.as_deref()), (kind, Some("0042")), "{text}");
            }
        }
    }

    #[test]
    fn a_type_without_a_number_has_no_last_four() {
        for (kind, details) in [
            ("amazon_pay", r#"{"funding":{"type":"card","card":null}}"#),
            ("bancontact", r#"{"iban_last4":null}"#),
            ("ideal", r#"{"iban_last4":""}"#),
            ("mobilepay", r#"{"card":{"last4":null}}"#),
            ("paypal", r#"{"payer_id":"A1B2"}"#),
            ("revolut_pay", r#"{"funding":null}"#),
            ("swish", r#"{"verified_phone_last4":"0042"}"#),
        ] {
            assert_eq!(method("payment_method", &format!(r#"{{"type":"{kind}","{kind}":{details}}}"#)), [kind, "", ""]);
        }
    }

    #[test]
    fn the_older_objects_read_alike() {
        let account = r#"{"last4":"6789"}"#;
        assert_eq!(method("bank_account", account), ["us_bank_account", "", "6789"]);
        let source = r#"{"type":"sepa_debit","sepa_debit":{"last4":"3000"}}"#;
        assert_eq!(method("source", source), ["sepa_debit", "", "3000"]);
        let card = r#"{"type":"card","card":{"brand":"Visa","last4":"0042"}}"#;
        assert_eq!(method("source", card), ["card", "visa", "0042"], "a card behind a source");
    }

    #[test]
    fn the_brands_of_older_cards_are_spelt_as_those_of_payment_methods() {
        for (written, brand) in [
            ("American Express", "amex"),
            ("Diners Club", "diners"),
            ("MasterCard", "mastercard"),
            ("Visa", "visa"),
            ("Discover", "discover"),
            ("JCB", "jcb"),
            ("UnionPay", "unionpay"),
            ("Cartes Bancaires", "cartes_bancaires"),
            ("Eftpos Australia", "eftpos_au"),
            ("Unknown", "unknown"),
            ("Moon Card", "moon_card"),
        ] {
            let card = format!(r#"{{"brand":"{written}","last4":"8431"}}"#);
            assert_eq!(method("card", &card), ["card", brand, "8431"]);
        }
    }

    #[test]
    fn an_object_without_a_type_is_not_a_method() {
        for text in ["null", "{}", r#"{"type":5}"#, r#"{"type":""}"#] {
            assert_eq!(of_object("payment_method", json(text)), None, "{text}");
        }
    }
}
