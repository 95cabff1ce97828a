//! Checks one customer completely: reads the customer, its subscriptions and invoices, and missing objects until none
//! is missing. Then projects the rows, and either writes or only reports the differences.
//!
//! Listing everything needs far fewer requests, but only a customer that is read completely can be compared without
//! writing. Also checks pages of the catalogue, which need no other objects.

use std::collections::BTreeSet;

use super::unannounced;
use crate::backfill::list::{List, Page};
use crate::backfill::{Backfill, unlisted};
use crate::client::{ApiError, ListKind, Span, Urgency};
use crate::domain::object::ObjectKey;
use crate::mirror::related;
use crate::store::Change;
use crate::stripe::json::Document;
use crate::stripe::views::workspace::WorkspaceLink;
use crate::worker::failure::Failure;
use crate::worker::fetch::object_reader::{ObjectReader, is_readable};
use crate::worker::fetched::{self, FetchedObject};
use crate::worker::merge_reads::{self, ReadBatch};

/// Tables whose rows belong to several customers, or to none.
pub(crate) const SHARED: [&str; 4] = ["checkout_sessions", "coupons", "plan_limits", "pricing_plans"];

/// Maximum rounds of fetching missing objects. The longest chain is shorter: subscription, invoice, payment, charge,
/// dispute.
const MOST_ROUNDS: usize = 8;

/// Maximum pages of one customer's list. No customer has that many; an endless list is a server error.
const MOST_PAGES: usize = 1000;

/// Whether differences are written to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// Rows are changed, with this cause in `row_changes`.
    Yes(&'static str),
    /// Dry run: differences are only reported.
    No,
}

/// Why a customer or object could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A request to Stripe failed.
    #[error("{0}")]
    Api(#[from] ApiError),
    /// Stripe has no such customer.
    #[error("Stripe has no customer {0}; check that the id belongs to this account and mode")]
    NoCustomer(String),
    /// The database or the mapping failed.
    #[error("{0}")]
    Work(#[from] Failure),
}

/// Result of checking a customer or object.
#[derive(Debug, Default)]
pub(crate) struct CheckResult {
    /// The rows that differ.
    pub(crate) changes: Vec<Change>,
    /// Reads that the key may not make; the rows were projected from the stored data instead.
    pub(crate) forbidden: Vec<ApiError>,
}

/// Returns the objects of `read`. If the key may not read them, returns none and records the error in `forbidden`.
fn permitted(
    read: Result<Vec<FetchedObject>, CheckError>,
    forbidden: &mut Vec<ApiError>,
) -> Result<Vec<FetchedObject>, CheckError> {
    match read {
        Err(CheckError::Api(error)) if error.is_forbidden() => {
            forbidden.push(error);
            Ok(Vec::new())
        }
        read => read,
    }
}

impl From<sqlx::Error> for CheckError {
    fn from(error: sqlx::Error) -> Self {
        Self::Work(error.into())
    }
}

impl Backfill {
    /// Checks a customer completely; `with_sessions` includes its checkout sessions. `listed`: the customer, if a page
    /// of a list contained it already.
    ///
    /// # Errors
    /// If Stripe does not answer, if the customer is unknown both at Stripe and here, and database errors.
    pub(crate) async fn customer(
        &self,
        key: &ObjectKey,
        listed: Option<FetchedObject>,
        mode: WriteMode,
        with_sessions: bool,
    ) -> Result<CheckResult, CheckError> {
        let mut forbidden = Vec::new();
        let mut force_project = BTreeSet::from([key.clone()]);
        let mut parts = match listed {
            Some(part) => vec![part],
            None => self.read_customer(key, &mut forbidden).await?,
        };
        for list in [List::Subscriptions, List::Invoices] {
            let listed = self.read_list(list, key, &mut forbidden).await;
            parts.extend(permitted(listed, &mut forbidden)?);
        }
        if with_sessions || needs_workspace(&parts) {
            let listed = self.read_list(List::Sessions, key, &mut forbidden).await;
            let sessions = permitted(listed, &mut forbidden)?;
            force_project.extend(sessions.iter().filter(|_| with_sessions).map(|part| part.key.clone()));
            parts.extend(sessions);
        }
        let mut asked = BTreeSet::new();
        // failed charges of unpaid invoices count, and an invoice itself contains at most its last charge
        let owed = parts.iter().filter(|part| part.key.object_type == "invoice" && fetched::is_unpaid_invoice(part));
        let mut missing: BTreeSet<ObjectKey> = owed.map(|part| part.key.clone()).collect();
        missing.extend(self.unlisted(key, &parts).await?);
        let mut rounds = 1..=MOST_ROUNDS;
        loop {
            for key in missing {
                let read = self.read_object(&key, &mut forbidden).await;
                parts.extend(permitted(read, &mut forbidden)?);
                asked.insert(key);
            }
            rounds.next();
            let is_last = rounds.is_empty();
            let (changes, found) = self.compute(&parts, force_project.clone(), mode, &asked, is_last).await?;
            if found.is_empty() {
                return Ok(CheckResult { changes, forbidden });
            }
            missing = found;
        }
    }

    /// Checks one object that belongs to no customer.
    pub(crate) async fn other(&self, key: &ObjectKey, mode: WriteMode) -> Result<CheckResult, CheckError> {
        let mut forbidden = Vec::new();
        let read = self.read_object(key, &mut forbidden).await;
        let parts = permitted(read, &mut forbidden)?;
        let changes = if parts.is_empty() { Vec::new() } else { self.catalogue(parts, mode).await? };
        Ok(CheckResult { changes, forbidden })
    }

    /// Checks a page of objects that belong to no customer.
    pub(crate) async fn catalogue(
        &self,
        parts: Vec<FetchedObject>,
        mode: WriteMode,
    ) -> Result<Vec<Change>, CheckError> {
        let mut force_project: BTreeSet<ObjectKey> = parts.iter().map(|part| part.key.clone()).collect();
        let mut conn = self.context.pool.acquire().await?;
        for part in parts.iter().filter(|part| part.key.object_type == "product") {
            force_project.extend(related::prices_of(&mut conn, &part.key).await?);
        }
        drop(conn);
        let mut changes = self.compute(&parts, force_project, mode, &BTreeSet::new(), true).await?.0;
        // customers that these objects reference are checked separately and completely
        changes.retain(|change| matches!(mode, WriteMode::Yes(_)) || SHARED.contains(&change.table));
        Ok(changes)
    }

    async fn read_customer(
        &self,
        key: &ObjectKey,
        forbidden: &mut Vec<ApiError>,
    ) -> Result<Vec<FetchedObject>, CheckError> {
        let parts = self.read_object(key, forbidden).await?;
        if parts.iter().any(|part| part.json.is_some()) {
            return Ok(parts);
        }
        // a 404 is a finding only for a customer that is stored here, and only with a verified key
        let known = unlisted::is_known(&mut self.context.pool.acquire().await?, key).await?;
        if known && self.verified { Ok(parts) } else { Err(CheckError::NoCustomer(key.object_id.clone())) }
    }

    async fn read_object(
        &self,
        key: &ObjectKey,
        forbidden: &mut Vec<ApiError>,
    ) -> Result<Vec<FetchedObject>, CheckError> {
        let reader = ObjectReader::new(self.api.as_ref(), &key.account, Urgency::Normal, self.margin);
        let found = reader.read_object(&key.object_type, &key.object_id).await?;
        forbidden.extend(found.forbidden.into_iter().chain(found.not_expanded));
        let mut parts = found.parts;
        // a 404 counts only with a verified key: one of another account finds nothing
        parts.retain(|part| part.json.is_some() || self.verified || part.key.object_type == "customer");
        Ok(parts)
    }

    /// Reads all objects of a customer from a list.
    async fn read_list(
        &self,
        list: List,
        customer: &ObjectKey,
        forbidden: &mut Vec<ApiError>,
    ) -> Result<Vec<FetchedObject>, CheckError> {
        let id = Some(customer.object_id.clone());
        let of = match list {
            List::Invoices => ListKind::Invoices(id),
            List::Sessions => ListKind::Sessions(id),
            _ => ListKind::Subscriptions(id),
        };
        let mut parts = Vec::new();
        let mut after: Option<String> = None;
        let span = Span::default();
        for _ in 0..MOST_PAGES {
            let answer = match self.read_page(&customer.account, of.clone(), span, after.clone()).await {
                Ok(answer) => answer,
                // the customer is deleted, or was not found either
                Err(ApiError::NotFound { .. }) => return Ok(parts),
                Err(error) if error.is_unknown_path() => return Ok(parts),
                Err(error) => return Err(error.into()),
            };
            forbidden.extend(answer.forbidden);
            let page = Page::read(list, &answer.body)
                .map_err(|_| ApiError::unavailable("a list from Stripe has no `data`"))?;
            let end = page.elements.last().map(|element| element.id.clone());
            let has_more = page.has_more;
            parts.extend(page.into_parts(&customer.account, list, span, answer.at, self.margin));
            match end.filter(|end| has_more && after.as_ref() != Some(end)) {
                Some(end) => after = Some(end),
                None if has_more => break,
                None => return Ok(parts),
            }
        }
        Err(ApiError::unavailable("a list from Stripe does not end").into())
    }

    /// Returns the stored subscriptions of a customer that were not listed.
    async fn unlisted(&self, customer: &ObjectKey, parts: &[FetchedObject]) -> Result<Vec<ObjectKey>, CheckError> {
        let mut conn = self.context.pool.acquire().await?;
        let here = related::of_customers(&mut conn, &[(customer, "subscription")]).await?;
        let listed: BTreeSet<&ObjectKey> = parts.iter().map(|part| &part.key).collect();
        Ok(here.into_iter().map(|(_, key)| key).filter(|key| !listed.contains(key)).collect())
    }

    /// Projects the rows from `parts`. Returns the differences and the missing objects that can still be read. Commits
    /// only if no object is missing.
    async fn compute(
        &self,
        parts: &[FetchedObject],
        force_project: BTreeSet<ObjectKey>,
        mode: WriteMode,
        asked: &BTreeSet<ObjectKey>,
        is_last: bool,
    ) -> Result<(Vec<Change>, BTreeSet<ObjectKey>), CheckError> {
        let (context, asked, parts) = (self.with_fetches(), asked.clone(), parts.to_vec());
        let work = async move {
            let mut tx = merge_reads::begin(&context).await?;
            let cause = match mode {
                WriteMode::Yes(cause) => cause,
                WriteMode::No => crate::backfill::CAUSE,
            };
            let reads = ReadBatch { parts, cause: cause.into(), force_project, historical: false, known_since: None };
            let done = merge_reads::merge(&mut tx, &context, reads).await?;
            let missing =
                done.job_requests.fetches().filter(|key| !asked.contains(key) && is_readable(&key.object_type));
            let missing: BTreeSet<ObjectKey> = if is_last { BTreeSet::new() } else { missing.cloned().collect() };
            let changes = unannounced::leave_out(&mut tx, done.changes).await?;
            if missing.is_empty() && matches!(mode, WriteMode::Yes(_)) {
                tx.commit().await?;
                context.limits.notify_one();
            } else {
                tx.rollback().await?;
            }
            Ok((changes, missing))
        };
        Ok(merge_reads::contained(work).await?)
    }
}

/// Whether `parts` contain a subscription whose workspace only a checkout session can contain.
fn needs_workspace(parts: &[FetchedObject]) -> bool {
    let links = |part: &FetchedObject| {
        let object = Document::parse_or_null(part.json.as_deref().unwrap_or("null"));
        WorkspaceLink::read(object.root().get("metadata")) != WorkspaceLink::Absent
    };
    let of = |object_type: &'static str| parts.iter().filter(move |part| part.key.object_type == object_type);
    !of("customer").any(links) && of("subscription").any(|part| !links(part))
}
