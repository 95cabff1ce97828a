//! Verifies a key before listing, so that events of another account are never stored.
//!
//! With another account's key, a fetch finds nothing, but a list returns that account's events. So, as for fetches, the
//! key must find an event that Stripe delivered, or belong to the account of a backfill. If all stored events are too
//! old to look up, the key must belong to the account that was verified last. If no event was ever delivered, there is
//! nothing to contradict the key.

use time::OffsetDateTime;

use super::{Failure, KeyError, Reconcile, state};
use crate::outbox::sample;
use crate::stripe_key::account::Account;
use crate::stripe_key::check::{self, KeyStatus};

/// A key that may be used for listing.
#[derive(Debug, Clone)]
pub(super) struct VerifiedKey {
    /// Time of the check, by Stripe's clock.
    pub(super) at: OffsetDateTime,
    /// The key's account, if this check verified it.
    pub(super) account: Option<Account>,
}

impl Reconcile {
    /// Checks the key.
    pub(super) async fn verify_key(&self) -> Result<VerifiedKey, Failure> {
        let mut conn = self.pool.acquire().await?;
        let report = check::check_key(self.api.as_ref(), &mut conn, self.margin).await?;
        let at = report.at;
        match report.status {
            KeyStatus::Verified => {
                check::store_account(&mut conn, &report).await?;
                Ok(VerifiedKey { at, account: report.account })
            }
            KeyStatus::Unverified => {
                let noted = state::stripe_account(&mut conn).await?;
                let is_the_noted_one = noted.is_some() && noted == report.account;
                let may_be_used = is_the_noted_one || (noted.is_none() && !sample::any(&mut conn).await?);
                if may_be_used {
                    check::store_account(&mut conn, &report).await?;
                    return Ok(VerifiedKey { at, account: None });
                }
                Err(KeyError::Unverified.into())
            }
            KeyStatus::Unanswered(error) => Err(error.into()),
            KeyStatus::OtherAccount(shown_by) => Err(KeyError::OtherAccount(shown_by).into()),
            KeyStatus::Refused(error) => Err(KeyError::Refused(error).into()),
        }
    }
}
