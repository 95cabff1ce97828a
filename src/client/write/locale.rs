//! Languages of Stripe's checkout.

use stripe_shared::CheckoutSessionLocale;

/// Values of `locale`. A list of our own, because async-stripe logs a warning for every other text, and clients choose it.
const LOCALES: [&str; 41] = [
    "auto", "bg", "cs", "da", "de", "el", "en", "en-GB", "es", "es-419", "et", "fi", "fil", "fr", "fr-CA", "hr", "hu",
    "id", "it", "ja", "ko", "lt", "lv", "ms", "mt", "nb", "nl", "pl", "pt", "pt-BR", "ro", "ru", "sk", "sl", "sv",
    "th", "tr", "vi", "zh", "zh-HK", "zh-TW",
];

/// The value of a text, if Stripe's checkout has texts in this language.
pub(super) fn locale(text: &str) -> Option<CheckoutSessionLocale> {
    is_checkout_locale(text).then(|| text.parse().unwrap_or_else(|never| match never {}))
}

/// Whether Stripe's checkout has texts in this language.
pub fn is_checkout_locale(text: &str) -> bool {
    LOCALES.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_locale_is_known_to_stripe() {
        for text in LOCALES {
            let known = locale(text).unwrap();
            assert!(!matches!(known, CheckoutSessionLocale::Unknown(_)), "{text}");
        }
        assert!(locale("00").is_none());
    }
}
