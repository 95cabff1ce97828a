//! An exact decimal number, as text: amounts of money must not be converted to binary floating point.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// A decimal number: an optional sign, digits, and optionally a point with more digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decimal(String);

impl Decimal {
    /// The decimal text `amount` divided by ten to the power of `places`.
    pub fn shifted(amount: &str, places: usize) -> Self {
        let (sign, digits) = amount.strip_prefix('-').map_or(("", amount), |digits| ("-", digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let padded = format!("{whole:0>width$}", width = places + 1);
        let (whole, moved) = padded.split_at(padded.len() - places);
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        let fraction = format!("{moved}{fraction}");
        let point = if fraction.is_empty() { "" } else { "." };
        Self(format!("{sign}{whole}{point}{fraction}"))
    }
}

impl Serialize for Decimal {
    /// Serializes as a JSON number with all digits.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw = RawValue::from_string(self.0.clone()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// Serializes a decimal text as a JSON number, as the database does; `#[serde(serialize_with = "…")]`.
///
/// # Errors
/// Errors of the serializer, and a text that is not a decimal number.
pub fn number<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_deref().map(|text| Decimal::shifted(text, 0)).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifting_keeps_all_digits() {
        for (amount, places, expected) in [
            ("1990", 2, "19.90"),
            ("5", 2, "0.05"),
            ("0", 2, "0.00"),
            ("2500", 0, "2500"),
            ("0.5", 2, "0.005"),
            ("1990.25", 2, "19.9025"),
            ("12345", 3, "12.345"),
            ("-150", 2, "-1.50"),
            ("007", 0, "7"),
            ("123456789012345678901234567890", 2, "1234567890123456789012345678.90"),
        ] {
            assert_eq!(serde_json::to_string(&Decimal::shifted(amount, places)).unwrap(), expected, "{amount}");
        }
    }
}
