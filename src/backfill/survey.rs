//! A survey: customers, all or some, each looked at whole and compared with what is stored; and plans, coupons and checkout
//! sessions, which belong to no customer.
//!
//! All means all that Stripe lists, and all that are here and were not listed. What is found differing is
//! looked at once more after a while: what changed at Stripe a moment ago is on its way here.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::list::{List, Page};
use super::look::{Keep, LookError, Looked};
use super::looks::Looks;
use super::{Backfill, unnamed};
use crate::client::{Answer, ApiError, Span};
use crate::domain::object::ObjectKey;
use crate::store::Change;
use crate::worker::failure::Failure;
use crate::worker::part::Part;

/// Customers whose ids are loaded at a time.
const PAGE: i64 = 500;

/// Whom a survey looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// Everybody and every checkout session, or those created then or later; and the catalogue.
    All(Option<OffsetDateTime>),
    /// So many customers that are here, any of them, and as many plans, coupons and checkout sessions.
    Sample(u32),
    /// These of our own account, with their checkout sessions.
    Named(Vec<String>),
}

/// What was seen.
#[derive(Debug)]
pub enum Sight {
    /// A customer, or something that belongs to none, with the rows that differ.
    Seen {
        /// The customer; `None`: a page of a list, or one object.
        customer: Option<String>,
        /// Each row that differs from what Stripe says.
        changes: Vec<Change>,
    },
    /// Stripe has no such list.
    NoList(List),
    /// The key may not read something: what rows take from it was not compared. Told once of each operation.
    Forbidden(ApiError),
    /// It could not be looked at.
    Failed {
        /// The customer or the list.
        what: String,
        /// Why.
        error: LookError,
    },
}

/// The objects that were seen, as hashes: eight bytes each.
#[derive(Default)]
struct Met {
    hasher: RandomState,
    seen: HashSet<u64>,
}

impl Met {
    fn meet(&mut self, key: &ObjectKey) -> bool {
        self.seen.insert(self.hasher.hash_one((&key.account, &key.object_type, &key.object_id)))
    }
}

/// Which objects are looked for here after all lists were read.
#[derive(Clone, Copy)]
enum Unlisted {
    Customers,
    /// Plans, coupons and checkout sessions.
    Others,
}

impl Backfill {
    /// Looks at them, and tells `sight` of each. With [`Keep::Yes`] what differs is mended. With `again_after`, a customer
    /// that differs is told of only if it still does after that time: what changed a moment ago is on its way here.
    ///
    /// # Errors
    /// Where the database is away, or Stripe refuses the key; what concerns one customer is told.
    pub async fn survey(
        self: &Arc<Self>,
        whom: &Whom,
        keep: Keep,
        again_after: Option<Duration>,
        sight: &mut impl FnMut(Sight),
    ) -> Result<(), LookError> {
        let mut forbidden = HashSet::new();
        let sight = &mut |one| match &one {
            Sight::Forbidden(error) if !forbidden.insert(error.to_string()) => {}
            _ => sight(one),
        };
        let first = if again_after.is_some() { Keep::No } else { keep };
        let doubtful = again_after.map(|_| Vec::new());
        let with_sessions = matches!(whom, Whom::Named(_));
        let at_work = JoinSet::new();
        let mut looks = Looks { backfill: self, keep: first, with_sessions, at_work, doubtful, shared: HashSet::new() };
        match whom {
            Whom::Named(ids) => {
                for id in ids {
                    looks.add(ObjectKey::new("", "customer", id), None, sight).await?;
                }
            }
            Whom::Sample(count) => {
                let mut conn = self.context.pool.acquire().await?;
                let mut keys = unnamed::sample(&mut conn, &self.accounts, i64::from(*count)).await?;
                keys.extend(unnamed::sample_of_others(&mut conn, &self.accounts, i64::from(*count)).await?);
                drop(conn);
                for key in keys {
                    looks.add(key, None, sight).await?;
                }
            }
            Whom::All(created_after) => self.all(*created_after, &mut looks, sight).await?,
        }
        looks.end(sight).await?;
        let doubtful = looks.doubtful.take().unwrap_or_default();
        if let Some(wait) = again_after.filter(|_| !doubtful.is_empty()) {
            tokio::time::sleep(wait).await;
            looks.keep = keep;
            for key in doubtful {
                looks.add(key, None, sight).await?;
            }
            looks.end(sight).await?;
        }
        Ok(())
    }

    async fn all(
        self: &Arc<Self>,
        created_after: Option<OffsetDateTime>,
        looks: &mut Looks<'_>,
        sight: &mut impl FnMut(Sight),
    ) -> Result<(), LookError> {
        let mut met = Met::default();
        for account in &self.accounts {
            let span = Span { from: created_after.map(OffsetDateTime::unix_timestamp), until: None };
            for list in [List::Products, List::Prices, List::Coupons, List::Sessions] {
                let span = if list.is_catalogue() { Span::default() } else { span };
                self.pages(account, list, span, &mut met, looks, sight).await?;
            }
            let mut after = None;
            while let Some((parts, next)) = self.next_page(account, List::Customers, span, after.take(), sight).await? {
                for part in parts {
                    if met.meet(&part.key) {
                        looks.add(part.key.clone(), Some(part), sight).await?;
                    }
                }
                after = next;
                if after.is_none() {
                    break;
                }
            }
        }
        if created_after.is_none() {
            for of in [Unlisted::Customers, Unlisted::Others] {
                self.unlisted_objects(of, &mut met, looks, sight).await?;
            }
        }
        Ok(())
    }

    /// Compares what is known here and no list contained: deleted objects, and those on test clocks.
    async fn unlisted_objects(
        &self,
        of: Unlisted,
        met: &mut Met,
        looks: &mut Looks<'_>,
        sight: &mut impl FnMut(Sight),
    ) -> Result<(), LookError> {
        let mut last: Option<ObjectKey> = None;
        loop {
            let mut conn = self.context.pool.acquire().await?;
            let keys = match of {
                Unlisted::Customers => unnamed::customers(&mut conn, &self.accounts, last.as_ref(), PAGE).await?,
                Unlisted::Others => unnamed::others(&mut conn, &self.accounts, last.as_ref(), PAGE).await?,
            };
            drop(conn);
            let Some(end) = keys.last() else { return Ok(()) };
            last = Some(end.clone());
            for key in keys {
                if met.meet(&key) {
                    looks.add(key, None, sight).await?;
                }
            }
        }
    }

    /// Compares a list of what belongs to no customer, a page at a time.
    async fn pages(
        &self,
        account: &str,
        list: List,
        span: Span,
        met: &mut Met,
        looks: &mut Looks<'_>,
        sight: &mut impl FnMut(Sight),
    ) -> Result<(), LookError> {
        let mut after = None;
        while let Some((parts, next)) = self.next_page(account, list, span, after.take(), sight).await? {
            let keys: Vec<ObjectKey> = parts.iter().map(|part| part.key.clone()).collect();
            for key in &keys {
                met.meet(key);
            }
            match self.catalogue(parts, looks.keep).await {
                Ok(changes) => looks.found(keys, None, changes, sight),
                Err(LookError::Work(failure @ Failure::Away(_))) => return Err(failure.into()),
                Err(error) => sight(Sight::Failed { what: list.as_str().to_owned(), error }),
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// The next page of a list, and where the one after it begins. `None` where it cannot be read, which is told.
    async fn next_page(
        &self,
        account: &str,
        list: List,
        span: Span,
        after: Option<String>,
        sight: &mut impl FnMut(Sight),
    ) -> Result<Option<(Vec<Part>, Option<String>)>, LookError> {
        let answer = match self.patiently(account, list, span, after.as_ref()).await {
            Ok(answer) => answer,
            Err(error) if matches!(error, ApiError::NotFound { .. }) || error.is_unknown_path() => {
                sight(Sight::NoList(list));
                return Ok(None);
            }
            Err(error @ ApiError::Unauthorised { status: 401, .. }) => return Err(error.into()),
            Err(error) if error.is_forbidden() => {
                sight(Sight::Forbidden(error));
                return Ok(None);
            }
            Err(error) => {
                sight(Sight::Failed { what: format!("the list of {}", list.as_str()), error: error.into() });
                return Ok(None);
            }
        };
        if let Some(error) = answer.forbidden {
            sight(Sight::Forbidden(error));
        }
        let Ok(page) = Page::read(list, &answer.body) else {
            let error = ApiError::unavailable("a list of Stripe's has no `data`").into();
            sight(Sight::Failed { what: format!("the list of {}", list.as_str()), error });
            return Ok(None);
        };
        let next = page.elements.last().map(|element| element.id.clone());
        let next = next.filter(|next| page.has_more && after.as_ref() != Some(next));
        Ok(Some((page.into_parts(account, list, span, answer.at, self.margin), next)))
    }

    /// Reads, and waits where Stripe says so, as long as a backfill would.
    async fn patiently(
        &self,
        account: &str,
        list: List,
        span: Span,
        after: Option<&String>,
    ) -> Result<Answer, ApiError> {
        let mut tries = 0;
        loop {
            let error = match self.read_page(account, list.listed(), span, after.cloned()).await {
                Err(error @ (ApiError::RateLimited { .. } | ApiError::Unavailable { .. }))
                    if !error.is_unknown_path() =>
                {
                    error
                }
                answer => return answer,
            };
            tries += 1;
            let Some(backoff) = self.patience.delay(tries, fastrand::f64()) else { return Err(error) };
            tokio::time::sleep(error.retry_after().map_or(backoff, |wait| wait.max(backoff))).await;
        }
    }

    /// One customer or object, tried again while Stripe asks to come back later or live events hold its rows.
    pub(super) async fn look(
        &self,
        key: &ObjectKey,
        listed: Option<Part>,
        keep: Keep,
        with_sessions: bool,
    ) -> Result<Looked, LookError> {
        let mut tries = 0;
        loop {
            let looked = if key.object_type == "customer" {
                self.customer(key, listed.clone(), keep, with_sessions).await
            } else {
                self.other(key, keep).await
            };
            let error = match looked {
                Err(LookError::Api(error @ (ApiError::RateLimited { .. } | ApiError::Unavailable { .. }))) => {
                    LookError::Api(error)
                }
                Err(LookError::Work(failure @ Failure::Contended(_))) => LookError::Work(failure),
                seen => return seen,
            };
            tries += 1;
            let Some(backoff) = self.patience.delay(tries, fastrand::f64()) else { return Err(error) };
            let wait = match &error {
                LookError::Api(error) => error.retry_after().unwrap_or_default(),
                _ => Duration::ZERO,
            };
            tokio::time::sleep(wait.max(backoff)).await;
        }
    }
}
