//! Begins a change: adds its line to the ledger, in the transaction of the caller.

use uuid::Uuid;

use crate::client::{Write, WriteRequest};
use crate::database::Connection;
use crate::ledger::{self, NewLine, open};

/// The field of `metadata` by which a new object names its line.
pub const MARK: &str = "billing_sync_write";

/// A change that was asked for.
#[derive(Debug, Clone, Copy)]
pub struct NewWrite<'a> {
    /// A new id, also in the metadata of a new object ([`MARK`]).
    pub id: Uuid,
    /// Who asks for it.
    pub principal: &'a str,
    /// Connected account, or empty.
    pub account: &'a str,
    /// The workspace for which it is made.
    pub workspace: Option<Uuid>,
    /// The change.
    pub write: &'a Write,
    /// The change that follows from it.
    pub then: Then<'a>,
}

/// The change that follows from another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then<'a> {
    /// None.
    Nothing,
    /// Once the new checkout session is complete, this subscription ends.
    Replace(&'a str),
    /// The new payment link cannot be visited.
    Deactivate,
}

/// Begins a change in the caller's transaction; nothing is sent before its commit. Returns false while another change of
/// the target is in progress.
///
/// # Errors
/// Database errors.
pub async fn begin(conn: &mut Connection, new: &NewWrite<'_>) -> Result<bool, sqlx::Error> {
    add(conn, new, None).await
}

/// The same for the change that follows from a line, and notes that it exists.
pub(super) async fn begin_after(
    conn: &mut Connection,
    previous: Uuid,
    new: &NewWrite<'_>,
) -> Result<bool, sqlx::Error> {
    let begun = add(conn, new, Some(previous)).await?;
    open::follow_up_begun(conn, previous).await?;
    Ok(begun)
}

async fn add(conn: &mut Connection, new: &NewWrite<'_>, previous: Option<Uuid>) -> Result<bool, sqlx::Error> {
    let WriteRequest { operation, path, form, .. } = new.write.request();
    let (object_type, object_id) = object_of(new.write);
    let line = NewLine {
        id: new.id,
        principal: new.principal,
        account: new.account,
        target: &target_of(new),
        workspace: new.workspace,
        object_type,
        object_id,
        operation,
        path: &path,
        form: &form,
        previous,
        replaces: if let Then::Replace(subscription) = new.then { Some(subscription) } else { None },
        is_follow_up_due: new.then != Then::Nothing,
    };
    ledger::begin(conn, &line).await
}

/// What a change belongs to, as `type/id`: changes of one target are made one after the other.
fn target_of(new: &NewWrite<'_>) -> String {
    match new.write {
        Write::CreateCustomer { .. } => format!("workspace/{}", new.workspace.unwrap_or(new.id)),
        Write::UpdateCustomer { customer, .. } => format!("customer/{customer}"),
        Write::CreateCheckoutSession(session) => format!("customer/{}", session.customer),
        Write::CreatePaymentLink(_) => format!("checkout_link/{}", new.id),
        Write::SetPaymentLinkActive { payment_link, .. } => format!("payment_link/{payment_link}"),
        Write::CancelSubscription { subscription, .. } => format!("subscription/{subscription}"),
    }
}

/// Stripe's type of the object that a change is about, and its id unless it is created.
fn object_of(write: &Write) -> (&'static str, Option<&str>) {
    match write {
        Write::CreateCustomer { .. } => ("customer", None),
        Write::UpdateCustomer { customer, .. } => ("customer", Some(customer)),
        Write::CreateCheckoutSession(_) => ("checkout.session", None),
        Write::CreatePaymentLink(_) => ("payment_link", None),
        Write::SetPaymentLinkActive { payment_link, .. } => ("payment_link", Some(payment_link)),
        Write::CancelSubscription { subscription, .. } => ("subscription", Some(subscription)),
    }
}
