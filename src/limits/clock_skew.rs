//! Compares the clocks: PostgreSQL's, by which limits renew, this machine's, and Stripe's.
//!
//! PURE. A clock that jumps would give every workspace a month that it has not paid for, and that cannot be taken back.
//! So renewals stop while the clocks disagree.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Above this difference, one of two clocks is wrong. NTP keeps within a second; Stripe's signatures tolerate five
/// minutes as well.
const TOLERANCE: time::Duration = time::Duration::minutes(5);

/// Describes the difference of the clocks; `None` if they agree. `ahead` is how far Stripe's clock is ahead of this
/// machine's.
pub(super) fn clock_skew(
    database: OffsetDateTime,
    machine: OffsetDateTime,
    ahead: Option<time::Duration>,
) -> Option<String> {
    let others = [("this machine's", Some(machine)), ("Stripe's", ahead.map(|ahead| machine + ahead))];
    others.into_iter().find_map(|(whose, other)| {
        let other = other.filter(|other| (database - *other).abs() > TOLERANCE)?;
        Some(format!("the database's clock shows {} and {whose} {}", instant(database), instant(other)))
    })
}

fn instant(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-25 10:00:00 UTC);

    #[test]
    fn clocks_within_five_minutes_agree() {
        for seconds in [-300, -1, 0, 1, 300] {
            let apart = time::Duration::seconds(seconds);
            assert_eq!(clock_skew(NOW + apart, NOW, None), None);
            assert_eq!(clock_skew(NOW, NOW, Some(apart)), None);
        }
    }

    #[test]
    fn the_database_is_compared_with_both_clocks() {
        let hour = time::Duration::HOUR;
        let message = clock_skew(NOW + hour, NOW, None).unwrap();
        assert_eq!(message, "the database's clock shows 2026-11-25T11:00:00Z and this machine's 2026-11-25T10:00:00Z");
        assert!(clock_skew(NOW - hour, NOW, None).is_some());
        let message = clock_skew(NOW, NOW, Some(-hour)).unwrap();
        assert!(message.ends_with("and Stripe's 2026-11-25T09:00:00Z"), "{message}");
        // the machine may be off by a little, and Stripe by a little the other way
        let minutes = time::Duration::minutes(3);
        assert!(clock_skew(NOW + minutes, NOW, Some(-minutes)).is_some());
    }
}
