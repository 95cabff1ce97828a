//! The version at which the answer to a write is merged. PURE.

use time::OffsetDateTime;

use crate::domain::object::KnownContent;

/// The version of an answer. A fresh answer shows the object as it is after the request began. A repeated one shows the
/// object as it was after the first attempt, at a time that is not known any more: it is only newer than what was known
/// before that attempt, or as old as the object that it created.
pub(super) fn version(
    at: OffsetDateTime,
    is_replayed: bool,
    known: Option<&KnownContent>,
    created: Option<i64>,
) -> OffsetDateTime {
    if !is_replayed {
        return at;
    }
    let created = created.and_then(|created| OffsetDateTime::from_unix_timestamp(created).ok());
    known.map(|known| known.version).or(created).unwrap_or(at).min(at)
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    #[test]
    fn a_repeated_answer_is_not_newer_than_what_it_may_show() {
        let at = OffsetDateTime::UNIX_EPOCH + Duration::days(100);
        let known = KnownContent { version: at - Duration::HOUR, event_id: "evt_1".to_owned() };
        let created = Some((at - Duration::MINUTE).unix_timestamp());
        assert_eq!(version(at, false, Some(&known), created), at);
        assert_eq!(version(at, true, Some(&known), created), at - Duration::HOUR, "an update");
        assert_eq!(version(at, true, None, created), at - Duration::MINUTE, "a creation");
        assert_eq!(version(at, true, None, None), at);
    }
}
