//! Completes a line whose change Stripe has made: merges the object, finishes the line, and renders the caller's answer,
//! in one transaction.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::begin::{NewWrite, Then, begin_after};
use super::version::version;
use crate::client::{Write, WriteAnswer};
use crate::database::Connection;
use crate::domain::object::{ObjectKey, row_id};
use crate::jobs::requests::JobRequests;
use crate::ledger::open::{self, Finish, Leased, Recorded};
use crate::ledger::{cause_of, links};
use crate::stripe::json::Document;
use crate::stripe::secrets::{client_secret, without_client_secrets};
use crate::worker::apply::queue_jobs;
use crate::worker::failure::Failure;
use crate::worker::merge_reads::{self, ReadBatch};
use crate::worker::{Context, FetchedObject, Written};

/// Delays before the merge is tried again, while another session holds a lock.
const MERGE_DELAYS: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(800)];

/// Reads the caller's answer in the transaction that completes the change. Called again if the merge is repeated.
pub type Render<T> = Box<
    dyn for<'c> Fn(&'c mut Connection, &'c Completed) -> Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'c>>
        + Send
        + Sync,
>;

/// A change that Stripe has made.
#[derive(Clone)]
pub struct Completed {
    /// The id of the object.
    pub object_id: String,
    /// The client secret of a new checkout session; must not be stored.
    pub client_secret: Option<String>,
    /// The URL of a new payment link.
    pub url: Option<String>,
}

impl std::fmt::Debug for Completed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Completed").field("object_id", &self.object_id).finish_non_exhaustive()
    }
}

/// The object after the change.
#[derive(Clone)]
pub(super) struct Object {
    pub(super) completed: Completed,
    pub(super) request_id: Option<String>,
    /// What is merged: the answer to the write, or a read. `None` if nothing is.
    pub(super) fetched: Option<FetchedObject>,
    /// A read that is later than this must confirm it, because the answer may show an older state.
    pub(super) confirm_after: Option<OffsetDateTime>,
}

impl Object {
    /// The object in Stripe's answer to the write.
    pub(super) fn of_answer(line: &Leased, answer: WriteAnswer) -> Self {
        let WriteAnswer { body, at, request_id, is_replayed } = answer;
        let document = Document::parse_or_null(&body);
        let fields = document.root();
        let object_id = fields.get("id").text().or_else(|| line.object_id.clone()).unwrap_or_default();
        let completed = Completed {
            object_id: object_id.clone(),
            client_secret: client_secret(fields),
            url: fields.get("url").text(),
        };
        let version = version(at, is_replayed, line.known.as_ref(), fields.get("created").integer());
        let written = Written { cause: cause_of(line.id), known: line.known.clone() };
        let key = ObjectKey::new(&line.account, &line.object_type, &object_id);
        let json = without_client_secrets(body.clone().into()).into_owned();
        let fetched = is_mirrored(line).then(|| FetchedObject::of_write(key, json, version, written));
        Self { completed, request_id, fetched, confirm_after: is_replayed.then_some(at) }
    }

    /// An object that is read by a job, or not mirrored.
    pub(super) fn without_content(line: &Leased, request_id: Option<String>) -> Self {
        let object_id = line.object_id.clone().unwrap_or_default();
        let completed = Completed { object_id, client_secret: None, url: None };
        Self { completed, request_id, fetched: None, confirm_after: None }
    }
}

/// Whether the object is merged. A subscription that has ended is read by a job instead: its answer has no place in its
/// timeline.
pub(super) fn is_mirrored(line: &Leased) -> bool {
    ["customer", "checkout.session"].contains(&line.object_type.as_str())
}

/// Merges the object, finishes the line and renders, in one transaction.
pub(super) async fn complete<T>(
    context: &Context,
    line: &Leased,
    object: Object,
    render: &Render<T>,
) -> Result<T, Failure> {
    let mut delays = MERGE_DELAYS.into_iter();
    loop {
        match try_complete(context, line, object.clone(), render).await {
            Err(Failure::Contended(why)) => match delays.next() {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return Err(Failure::Contended(why)),
            },
            result => return result,
        }
    }
}

async fn try_complete<T>(context: &Context, line: &Leased, object: Object, render: &Render<T>) -> Result<T, Failure> {
    let Object { completed, request_id, fetched, confirm_after } = object;
    let mut tx = merge_reads::begin(context).await?;
    let key = ObjectKey::new(&line.account, &line.object_type, &completed.object_id);
    let batch = ReadBatch {
        cause: cause_of(line.id).into(),
        parts: fetched.into_iter().collect(),
        force_project: BTreeSet::new(),
        historical: false,
        known_since: None,
    };
    merge_reads::merge(&mut tx, context, batch).await?;
    let mut requests = JobRequests::default();
    if let Some(after) = confirm_after.filter(|_| is_mirrored(line)) {
        requests.confirm(key.clone(), after);
    }
    if line.object_type == "subscription" {
        requests.fetch(key.clone(), None);
    }
    queue_jobs(&mut tx, context, requests).await?;
    if let Some(workspace) = line.workspace.filter(|_| line.operation == Write::CREATE_CUSTOMER) {
        open::note_creator(&mut tx, row_id(&line.account, &completed.object_id), workspace).await?;
    }
    if line.object_type == "payment_link" {
        note_link(&mut tx, line, &completed).await?;
    }
    if line.is_follow_up_due && line.operation == Write::CREATE_PAYMENT_LINK {
        deactivate(&mut tx, line, &completed.object_id).await?;
    }
    let recorded = Recorded { request_id, status: Some(200), ..Recorded::default() };
    open::finish(&mut tx, line, Finish::Done, Some(&completed.object_id), &recorded).await?;
    let rendered = render(&mut tx, &completed).await?;
    tx.commit().await?;
    context.reads.notify_waiters();
    Ok(rendered)
}

/// Completes the row of a checkout link.
async fn note_link(conn: &mut Connection, line: &Leased, completed: &Completed) -> Result<(), sqlx::Error> {
    if line.operation == Write::CREATE_PAYMENT_LINK {
        return links::created(conn, line.id, &completed.object_id, completed.url.as_deref()).await;
    }
    let is_enabled = line.field("active").as_deref() == Some("true");
    links::enabled(conn, &line.account, &completed.object_id, is_enabled).await
}

/// Begins the second step of a payment link that cannot be visited: Stripe creates every link active.
async fn deactivate(conn: &mut Connection, line: &Leased, payment_link: &str) -> Result<(), sqlx::Error> {
    let write = Write::SetPaymentLinkActive { payment_link: payment_link.to_owned(), active: false };
    let new = NewWrite {
        id: Uuid::new_v4(),
        principal: &line.principal,
        account: &line.account,
        workspace: line.workspace,
        write: &write,
        then: Then::Nothing,
    };
    // the link is new, so nothing else is in progress for it
    begin_after(conn, line.id, &new).await?;
    Ok(())
}
