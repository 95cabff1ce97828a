//! The human readable key of a workspace: `WS-QC447`, derived from its number. PURE.
//!
//! Different numbers give different keys, and neighbours do not look alike, so that a mistyped key is not another
//! customer's. Two letters and three digits are enough for the first 676,000 workspaces; then a letter is added.

/// Digits at the end of a key.
const DIGITS: u128 = 1_000;

/// The key of the workspace with this number, which begins at 1.
pub(super) fn key(prefix: &str, index: i64) -> String {
    let mut number = u128::try_from(index - 1).unwrap_or_default();
    let mut letters = 2;
    let mut keys = 26 * 26 * DIGITS;
    while number >= keys {
        number -= keys;
        letters += 1;
        keys *= 26;
    }
    let mixed = mixed(number, keys);
    let mut rest = mixed / DIGITS;
    let mut word = vec![b'A'; letters];
    for letter in word.iter_mut().rev() {
        // below 26
        *letter += u8::try_from(rest % 26).unwrap_or_default();
        rest /= 26;
    }
    format!("{prefix}-{}{:03}", String::from_utf8_lossy(&word), mixed % DIGITS)
}

/// Spreads the numbers below `keys` over the same range. Multiplication by a number without a common divisor is a
/// bijection; `keys` has only the divisors 2, 5 and 13, and the factor is prime.
fn mixed(number: u128, keys: u128) -> u128 {
    const FACTOR: u128 = 2_654_435_761;
    const START: u128 = 447_983;
    (number * FACTOR + START) % keys
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_workspaces_have_one_key() {
        // across the border at which keys become longer
        let keys: HashSet<String> = (1..=700_000).map(|index| key("WS", index)).collect();
        assert_eq!(keys.len(), 700_000);
        assert!(keys.iter().all(|key| key.len() == 8 || key.len() == 9));
    }

    #[test]
    fn keys_have_the_prefix_letters_and_digits() {
        assert_eq!(key("WS", 1), "WS-RF983");
        assert_eq!(key("NF", 1), "NF-RF983");
        assert_eq!(key("WS", 676_001).len(), 9);
        assert!(key("WS", i64::MAX).starts_with("WS-"));
    }
}
