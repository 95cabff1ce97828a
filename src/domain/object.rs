//! The key of a Stripe object across accounts, and the row ids derived from it.

use time::OffsetDateTime;
use uuid::Uuid;

/// The namespace of all row ids. It must never change, because a rebuild must produce the same ids.
const ROW_ID_NAMESPACE: Uuid = Uuid::from_u128(0x5f1c_0f6e_7c0b_4d0a_9a53_2b8f_6d1e_4c77);

/// The key of the mirror: a plan and a price may share an id, so the type is part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Stripe's id. It is the first field, because it nearly always decides a comparison of two keys.
    pub object_id: String,
    /// Stripe's name of the type: the `object` field.
    pub object_type: String,
    /// Connected account; empty for the key's own account.
    pub account: String,
}

impl ObjectKey {
    /// A key from its three parts.
    pub fn new(account: &str, object_type: &str, object_id: &str) -> Self {
        Self { account: account.to_owned(), object_type: object_type.to_owned(), object_id: object_id.to_owned() }
    }
}

/// Version and source of a content of the mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownContent {
    /// Its version.
    pub version: OffsetDateTime,
    /// Its event, or another word for its source.
    pub event_id: String,
}

/// The id of the row of a Stripe object: a version 5 UUID of the account and the Stripe id.
///
/// All synced rows use it, so one row can reference another that does not exist yet.
pub fn row_id(account: &str, stripe_id: &str) -> Uuid {
    Uuid::new_v5(&ROW_ID_NAMESPACE, format!("{account}/{stripe_id}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_id_never_changes() {
        assert_eq!(row_id("", "cus_1").to_string(), "3525b46f-3876-58e7-acc0-e5de7f5dc115");
        assert_ne!(row_id("", "cus_1"), row_id("acct_1", "cus_1"));
    }
}
