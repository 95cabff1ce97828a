//! Whether a key may be listed with: the events of another account must never become ours.
//!
//! A fetch with a wrong key finds nothing; a list finds everything of somebody else. So a key has to be proven by a
//! stored event that Stripe delivered, or by a backfill, as for fetches. Where all of those are too old to be asked for, the account's id
//! vouches for it, noted when it last was proven. Where there is none at all, there is nothing that it could contradict.

use time::OffsetDateTime;

use super::{Doubt, Failure, Reconcile, watermark};
use crate::jobs::account::Account;
use crate::outbox::sample;
use crate::worker::fetch::guard::{self, Verdict};

/// A key that may be listed with.
#[derive(Debug, Clone)]
pub(super) struct Trust {
    /// Stripe's time.
    pub(super) at: OffsetDateTime,
    /// Our account as Stripe names it, where it was just proven that the key is of it.
    pub(super) account: Option<Account>,
}

impl Reconcile {
    /// Looks at the key.
    pub(super) async fn trust(&self) -> Result<Trust, Failure> {
        let mut conn = self.pool.acquire().await?;
        let look = guard::examine(self.api.as_ref(), &mut conn, self.margin).await?;
        let at = look.at;
        match look.verdict {
            Verdict::Proven => {
                guard::learn(&mut conn, &look).await?;
                Ok(Trust { at, account: look.account })
            }
            Verdict::Unproven => {
                let noted = watermark::stripe_account(&mut conn).await?;
                let is_the_noted_one = noted.is_some() && noted == look.account;
                let may_be_used = is_the_noted_one || (noted.is_none() && !sample::any(&mut conn).await?);
                if may_be_used {
                    guard::learn(&mut conn, &look).await?;
                    return Ok(Trust { at, account: None });
                }
                Err(Doubt::Unproven.into())
            }
            Verdict::Unanswered(error) => Err(error.into()),
            Verdict::OtherAccount(shown_by) => Err(Doubt::OtherAccount(shown_by).into()),
            Verdict::Refused(error) => Err(Doubt::Refused(error).into()),
        }
    }
}
