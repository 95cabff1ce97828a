//! Laws: text around a secret does not change it, and a refused secret is never shown.

use proptest::prelude::*;

use super::*;

const NAME: &str = "STRIPE_WEBHOOK_SECRET";

fn read(text: &str) -> Result<Vec<String>, Wrong> {
    several(text, NAME, |word| word.starts_with("whsec_"))
}

#[test]
fn text_around_a_secret_is_dropped() {
    for text in [
        "whsec_a",
        "whsec_a\n",
        "whsec_a\r\n\r\n",
        "\u{feff}whsec_a\r\n",
        " whsec_a\t",
        "\"whsec_a\"",
        "'whsec_a'",
        "whsec_a\"",
        "\u{201c}whsec_a\u{201d}",
        "whsec_a\\n",
        "whsec_a\\r\\n",
        "whsec_a\u{200b}",
        "\u{200b}whsec_a\u{2060}",
        "\u{a0}whsec_a\u{3000}",
        "export STRIPE_WEBHOOK_SECRET=whsec_a",
        "export STRIPE_WEBHOOK_SECRET='whsec_a'\n",
        "STRIPE_WEBHOOK_SECRET=\"whsec_a\"",
        "STRIPE_WEBHOOK_SECRET: whsec_a",
        "STRIPE_WEBHOOK_SECRET = whsec_a",
        "# of the endpoint in Europe\nwhsec_a\n",
        "whsec_a,whsec_a",
    ] {
        assert_eq!(read(text), Ok(vec!["whsec_a".to_owned()]), "{text:?}");
    }
}

#[test]
fn secrets_are_separated_by_usual_separators() {
    for separator in
        [",", ", ", ";", " ; ", "\n", "\r\n", "\\n", " ", "\t", "\n\n# the old one\n", ",\n", "\" \"", "\u{a0}"]
    {
        let text = format!("whsec_a{separator}whsec_b");
        assert_eq!(read(&text), Ok(vec!["whsec_a".to_owned(), "whsec_b".to_owned()]), "{separator:?}");
    }
    assert_eq!(read("other-1,other-2"), Ok(["other-1", "other-2"].map(str::to_owned).to_vec()));
}

#[test]
fn an_invalid_character_is_reported_by_its_position() {
    for (text, message) in [
        ("whsec_ab\u{200b}cd", "the secret has an invalid character: character 9 is U+200B, a zero width space"),
        ("whsec_a,whsec\u{ad}_b", "secret 2 of 2 has an invalid character: character 6 is U+00AD, a soft hyphen"),
        ("whsec_a,\u{ff57}hsec_b", "character 1 is U+FF57, a full-width character"),
        ("whsec_\u{430}bc", "character 7 is U+0430, a Cyrillic letter"),
        ("whsec_ab\"cd", "character 9 is U+0022, a quote"),
        ("whsec_ab\\cd", "character 9 is U+005C, a backslash"),
        ("correct horse", "character 8 is U+0020, a space"),
        ("whsec_a horse", "character 8 is U+0020, a space"),
        ("whsec_ab\u{2026}", "character 9 is U+2026, an ellipsis"),
        ("other-1\nother-2", "character 8 is U+000A, a line break"),
        ("whsec_ab\ncd", "character 9 is U+000A, a line break"),
        ("whsec_ab;cd", "character 9 is U+003B, a semicolon"),
        ("whsec_a,,whsec_b", "secret 2 of 3 is blank"),
        ("whsec_a,", "secret 2 of 2 is blank"),
        ("\u{200b}\n", "is blank"),
    ] {
        let wrong = read(text).unwrap_err().to_string();
        assert!(wrong.contains(message), "{text:?}: {wrong}");
    }
}

#[test]
fn a_single_secret_has_no_separators() {
    for text in
        ["sk_test_1", " sk_test_1\n", "'sk_test_1'", "export STRIPE_SECRET_KEY=sk_test_1\\n", "\u{feff}sk_test_1"]
    {
        assert_eq!(one(text, "STRIPE_SECRET_KEY"), Ok("sk_test_1".to_owned()), "{text:?}");
    }
    let wrong = one("sk_test_1\nsk_test_2", "STRIPE_SECRET_KEY").unwrap_err().to_string();
    assert!(wrong.contains("character 10 is U+000A, a line break"), "{wrong}");
}

/// Text that may appear between the characters of a secret, or around it.
const NOISE: [&str; 14] =
    ["\"", "'", "\u{200b}", "\u{feff}", "\u{a0}", "\\n", "\n", "\r\n", " ", ";", "\u{ad}", "\u{2019}", "*", "\u{ff41}"];

proptest! {
    /// Secrets with noise anywhere are parsed to the same secrets, or refused without showing a part of any of them.
    #[test]
    fn noise_is_dropped_or_refused_and_never_changes_a_secret(
        secrets in prop::collection::vec("whsec_[A-Za-z0-9]{12,40}", 1..4),
        noise in prop::collection::vec((0_usize..200, 0_usize..NOISE.len()), 0..4),
    ) {
        let mut text: Vec<char> = secrets.join(",").chars().collect();
        for (at, noise) in noise {
            let at = at.min(text.len());
            text.splice(at..at, NOISE[noise].chars());
        }
        let text: String = text.into_iter().collect();
        let mut expected: Vec<String> = Vec::new();
        for secret in &secrets {
            if !expected.contains(secret) {
                expected.push(secret.clone());
            }
        }
        match crate::config::receiver::parse_secrets(&text) {
            Ok(found) => {
                let found: Vec<&str> = found.iter().map(crate::config::secret::WebhookSecret::expose).collect();
                prop_assert_eq!(found, expected);
            }
            Err(refused) => {
                let message = format!("{} {}", refused.wrong, refused.fix);
                for secret in &secrets {
                    let parts: Vec<char> = secret.chars().skip(6).collect();
                    for part in parts.windows(6) {
                        prop_assert!(!message.contains(&part.iter().collect::<String>()), "{}", message);
                    }
                }
            }
        }
    }
}
