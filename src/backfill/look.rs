//! One customer looked at whole: itself, all its subscriptions and invoices, and whatever their rows lack, read until
//! nothing is lacking. Then the rows are computed from that, and what differs is kept or only told.
//!
//! Lists of everything need far fewer requests, but only a customer that is read whole can be compared without writing
//! anything. Also for the pages of the catalogue, which need nothing beside themselves.

use std::collections::BTreeSet;

use super::list::{List, Page};
use super::looks::SHARED;
use super::{Backfill, unannounced, unnamed};
use crate::client::{ApiError, Listed, Span, Urgency};
use crate::domain::object::ObjectKey;
use crate::mirror::related;
use crate::store::Change;
use crate::stripe::json::Document;
use crate::stripe::views::workspace::WorkspaceLink;
use crate::worker::failure::Failure;
use crate::worker::fetch::look_up::{Reader, is_readable};
use crate::worker::part::Part;
use crate::worker::reading::{self, Reading};

/// No chain of what is lacking is longer: subscription, invoice, payment, charge, dispute.
const MOST_ROUNDS: usize = 8;

/// No customer has more pages of subscriptions or invoices; an endless list is a mistake of the server.
const MOST_PAGES: usize = 1000;

/// Whether what is found is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Rows are changed; this is the cause.
    Yes(&'static str),
    /// It is only told what would be changed.
    No,
}

/// Why something could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// Stripe did not answer as it should.
    #[error("{0}")]
    Api(#[from] ApiError),
    /// There is no such customer.
    #[error("Stripe has no customer {0}: is it of this account and mode?")]
    NoCustomer(String),
    /// The database or the mapping failed.
    #[error("{0}")]
    Work(#[from] Failure),
}

/// What a look at a customer came to.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// The rows that differ.
    pub(super) changes: Vec<Change>,
    /// What the key may not read: the rows were computed from what is stored of it.
    pub(super) forbidden: Vec<ApiError>,
}

/// The parts that were read; none, and a note, where the key may not read them.
fn permitted(read: Result<Vec<Part>, LookError>, forbidden: &mut Vec<ApiError>) -> Result<Vec<Part>, LookError> {
    match read {
        Err(LookError::Api(error)) if error.is_forbidden() => {
            forbidden.push(error);
            Ok(Vec::new())
        }
        read => read,
    }
}

impl From<sqlx::Error> for LookError {
    fn from(error: sqlx::Error) -> Self {
        Self::Work(error.into())
    }
}

impl Backfill {
    /// Looks at a customer whole, `with_sessions` also at its checkout sessions. `listed`: what a page has told of it already.
    ///
    /// # Errors
    /// Where Stripe does not answer, where neither Stripe nor anybody here knows it, and those of the database.
    pub(super) async fn customer(
        &self,
        key: &ObjectKey,
        listed: Option<Part>,
        keep: Keep,
        with_sessions: bool,
    ) -> Result<Looked, LookError> {
        let mut forbidden = Vec::new();
        let mut also = BTreeSet::from([key.clone()]);
        let mut parts = match listed {
            Some(part) => vec![part],
            None => self.itself(key, &mut forbidden).await?,
        };
        for list in [List::Subscriptions, List::Invoices] {
            let listed = self.all_of(list, key, &mut forbidden).await;
            parts.extend(permitted(listed, &mut forbidden)?);
        }
        if with_sessions || lacks_workspace(&parts) {
            let listed = self.all_of(List::Sessions, key, &mut forbidden).await;
            let sessions = permitted(listed, &mut forbidden)?;
            also.extend(sessions.iter().filter(|_| with_sessions).map(|part| part.key.clone()));
            parts.extend(sessions);
        }
        let mut asked = BTreeSet::new();
        // failed payments of what is still owed count, and an invoice itself names its last charge at most
        let owed = parts.iter().filter(|part| part.key.object_type == "invoice" && is_owed(part));
        let mut lacking: BTreeSet<ObjectKey> = owed.map(|part| part.key.clone()).collect();
        lacking.extend(self.unlisted(key, &parts).await?);
        let mut rounds = 1..=MOST_ROUNDS;
        loop {
            for key in lacking {
                let read = self.look_up(&key, &mut forbidden).await;
                parts.extend(permitted(read, &mut forbidden)?);
                asked.insert(key);
            }
            rounds.next();
            let is_last = rounds.is_empty();
            let (changes, found) = self.compute(&parts, also.clone(), keep, &asked, is_last).await?;
            if found.is_empty() {
                return Ok(Looked { changes, forbidden });
            }
            lacking = found;
        }
    }

    /// Looks at one object that belongs to no customer.
    pub(super) async fn other(&self, key: &ObjectKey, keep: Keep) -> Result<Looked, LookError> {
        let mut forbidden = Vec::new();
        let read = self.look_up(key, &mut forbidden).await;
        let parts = permitted(read, &mut forbidden)?;
        let changes = if parts.is_empty() { Vec::new() } else { self.catalogue(parts, keep).await? };
        Ok(Looked { changes, forbidden })
    }

    /// Looks at a page of what belongs to no customer.
    pub(super) async fn catalogue(&self, parts: Vec<Part>, keep: Keep) -> Result<Vec<Change>, LookError> {
        let mut also: BTreeSet<ObjectKey> = parts.iter().map(|part| part.key.clone()).collect();
        let mut conn = self.context.pool.acquire().await?;
        for part in parts.iter().filter(|part| part.key.object_type == "product") {
            also.extend(related::prices_of(&mut conn, &part.key).await?);
        }
        drop(conn);
        let mut changes = self.compute(&parts, also, keep, &BTreeSet::new(), true).await?.0;
        // a customer that one of them names is compared by itself, and whole
        changes.retain(|change| matches!(keep, Keep::Yes(_)) || SHARED.contains(&change.table));
        Ok(changes)
    }

    async fn itself(&self, key: &ObjectKey, forbidden: &mut Vec<ApiError>) -> Result<Vec<Part>, LookError> {
        let parts = self.look_up(key, forbidden).await?;
        if parts.iter().any(|part| part.json.is_some()) {
            return Ok(parts);
        }
        // that Stripe has none is news only of one that is known here, and from the account that it is known of
        let known = unnamed::is_known(&mut *self.context.pool.acquire().await?, key).await?;
        if known && self.proven { Ok(parts) } else { Err(LookError::NoCustomer(key.object_id.clone())) }
    }

    async fn look_up(&self, key: &ObjectKey, forbidden: &mut Vec<ApiError>) -> Result<Vec<Part>, LookError> {
        let reader = Reader::new(self.api.as_ref(), &key.account, Urgency::Normal, self.margin);
        let found = reader.look_up(&key.object_type, &key.object_id).await?;
        forbidden.extend(found.forbidden.into_iter().chain(found.not_expanded));
        let mut parts = found.parts;
        // before it is proven that the key is of our account, finding nothing means nothing
        parts.retain(|part| part.json.is_some() || self.proven || part.key.object_type == "customer");
        Ok(parts)
    }

    /// All that a list has of a customer.
    async fn all_of(
        &self,
        list: List,
        customer: &ObjectKey,
        forbidden: &mut Vec<ApiError>,
    ) -> Result<Vec<Part>, LookError> {
        let id = Some(customer.object_id.clone());
        let of = match list {
            List::Invoices => Listed::Invoices(id),
            List::Sessions => Listed::Sessions(id),
            _ => Listed::Subscriptions(id),
        };
        let mut parts = Vec::new();
        let mut after: Option<String> = None;
        let span = Span::default();
        for _ in 0..MOST_PAGES {
            let answer = match self.read_page(&customer.account, of.clone(), span, after.clone()).await {
                Ok(answer) => answer,
                // a deleted customer, or one that was not found either
                Err(ApiError::NotFound { .. }) => return Ok(parts),
                Err(error) if error.is_unknown_path() => return Ok(parts),
                Err(error) => return Err(error.into()),
            };
            forbidden.extend(answer.forbidden);
            let page = Page::read(list, &answer.body)
                .map_err(|_| ApiError::unavailable("a list of Stripe's has no `data`"))?;
            let end = page.elements.last().map(|element| element.id.clone());
            let has_more = page.has_more;
            parts.extend(page.into_parts(&customer.account, list, span, answer.at, self.margin));
            match end.filter(|end| has_more && after.as_ref() != Some(end)) {
                Some(end) => after = Some(end),
                None if has_more => break,
                None => return Ok(parts),
            }
        }
        Err(ApiError::unavailable("a list of Stripe's does not end").into())
    }

    /// The subscriptions that are known here and were not listed.
    async fn unlisted(&self, customer: &ObjectKey, parts: &[Part]) -> Result<Vec<ObjectKey>, LookError> {
        let mut conn = self.context.pool.acquire().await?;
        let here = related::of_customers(&mut conn, &[(customer, "subscription")]).await?;
        let listed: BTreeSet<&ObjectKey> = parts.iter().map(|part| &part.key).collect();
        Ok(here.into_iter().map(|(_, key)| key).filter(|key| !listed.contains(key)).collect())
    }

    /// Computes the rows from `parts`; returns what changed, and what can still be read for them. It is kept only where
    /// nothing more can be.
    async fn compute(
        &self,
        parts: &[Part],
        also: BTreeSet<ObjectKey>,
        keep: Keep,
        asked: &BTreeSet<ObjectKey>,
        is_last: bool,
    ) -> Result<(Vec<Change>, BTreeSet<ObjectKey>), LookError> {
        let (context, asked, parts) = (self.asking(), asked.clone(), parts.to_vec());
        let work = async move {
            let mut tx = reading::begin(&context).await?;
            let cause = match keep {
                Keep::Yes(cause) => cause,
                Keep::No => super::CAUSE,
            };
            let reading = Reading { parts, cause, also, past: false, known_since: None };
            let done = reading::merge(&mut tx, &context, reading).await?;
            let lacking = done.demands.fetches().filter(|key| !asked.contains(key) && is_readable(&key.object_type));
            let lacking: BTreeSet<ObjectKey> = if is_last { BTreeSet::new() } else { lacking.cloned().collect() };
            let changes = unannounced::leave_out(&mut tx, done.changes).await?;
            if lacking.is_empty() && matches!(keep, Keep::Yes(_)) {
                tx.commit().await?;
                context.limits.notify_one();
            } else {
                tx.rollback().await?;
            }
            Ok((changes, lacking))
        };
        Ok(reading::contained(work).await?)
    }
}

/// Whether a subscription is among them that only its checkout can link to a workspace.
fn lacks_workspace(parts: &[Part]) -> bool {
    let links = |part: &Part| {
        let object = Document::parse_or_null(part.json.as_deref().unwrap_or("null"));
        WorkspaceLink::read(object.root().get("metadata")) != WorkspaceLink::Absent
    };
    let of = |object_type: &'static str| parts.iter().filter(move |part| part.key.object_type == object_type);
    !of("customer").any(links) && of("subscription").any(|part| !links(part))
}

/// Whether an invoice was tried to be paid and is not.
pub(super) fn is_owed(part: &Part) -> bool {
    let invoice = Document::parse_or_null(part.json.as_deref().unwrap_or("null"));
    let invoice = invoice.root();
    let status = invoice.get("status").text();
    let tried = invoice.get("attempt_count").integer() != Some(0);
    tried && ["open", "uncollectible"].contains(&status.as_deref().unwrap_or_default())
}
