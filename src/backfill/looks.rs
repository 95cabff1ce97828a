//! Looks at customers and objects that are at work at the same time, and what is told of each.
//!
//! Called by a survey, which says what is looked at.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::JoinSet;
use uuid::Uuid;

use super::Backfill;
use super::look::{Keep, LookError, Looked};
use super::survey::Sight;
use crate::client::ApiError;
use crate::domain::object::ObjectKey;
use crate::store::Change;
use crate::worker::failure::Failure;
use crate::worker::part::Part;

/// The tables whose rows are found under several customers, or under none.
pub(super) const SHARED: [&str; 4] = ["checkout_sessions", "coupons", "plan_limits", "pricing_plans"];

/// Looks that are at work at the same time.
pub(super) struct Looks<'a> {
    pub(super) backfill: &'a Arc<Backfill>,
    pub(super) keep: Keep,
    /// The checkout sessions of a customer are compared with it.
    pub(super) with_sessions: bool,
    pub(super) at_work: JoinSet<(ObjectKey, Result<Looked, LookError>)>,
    /// Those that differ are put here instead of being told of, while this is there.
    pub(super) doubtful: Option<Vec<ObjectKey>>,
    /// Rows of plans and coupons that were told of: where nothing is kept, every customer that has one would tell of it.
    pub(super) shared: HashSet<Uuid>,
}

impl Looks<'_> {
    /// Tells of the rows that differ, or notes what they are of, to look at it once more.
    pub(super) fn found(
        &mut self,
        keys: Vec<ObjectKey>,
        customer: Option<String>,
        mut changes: Vec<Change>,
        sight: &mut impl FnMut(Sight),
    ) {
        if let Some(doubtful) = self.doubtful.as_mut().filter(|_| !changes.is_empty()) {
            doubtful.extend(keys);
            return;
        }
        let is_own = |change: &Change| !SHARED.contains(&change.table);
        changes.retain(|change| is_own(change) || self.shared.insert(change.row_id));
        sight(Sight::Seen { customer, changes });
    }

    /// Begins to look at one more; waits for another one to end where there are enough.
    pub(super) async fn add(
        &mut self,
        key: ObjectKey,
        listed: Option<Part>,
        sight: &mut impl FnMut(Sight),
    ) -> Result<(), LookError> {
        if self.at_work.len() >= self.backfill.concurrency {
            self.next(sight).await?;
        }
        let (backfill, keep, with_sessions) = (Arc::clone(self.backfill), self.keep, self.with_sessions);
        self.at_work.spawn(async move {
            let seen = backfill.look(&key, listed, keep, with_sessions).await;
            (key, seen)
        });
        Ok(())
    }

    pub(super) async fn end(&mut self, sight: &mut impl FnMut(Sight)) -> Result<(), LookError> {
        while !self.at_work.is_empty() {
            self.next(sight).await?;
        }
        Ok(())
    }

    async fn next(&mut self, sight: &mut impl FnMut(Sight)) -> Result<(), LookError> {
        // contained where it matters: what is left is the runtime going down
        let Some(Ok((key, seen))) = self.at_work.join_next().await else { return Ok(()) };
        match seen {
            Ok(Looked { changes, forbidden }) => {
                for error in forbidden {
                    sight(Sight::Forbidden(error));
                }
                let customer = (key.object_type == "customer").then(|| key.object_id.clone());
                self.found(vec![key], customer, changes, sight);
            }
            Err(LookError::Work(failure @ Failure::Away(_))) => return Err(failure.into()),
            Err(LookError::Api(error @ ApiError::Unauthorised { status: 401, .. })) => return Err(error.into()),
            Err(LookError::Api(error)) if error.is_forbidden() => sight(Sight::Forbidden(error)),
            Err(error) => sight(Sight::Failed { what: key.object_id, error }),
        }
        Ok(())
    }
}
