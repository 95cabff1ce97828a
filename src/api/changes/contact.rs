//! Changes name and e-mail address of a billing contact: those of its customer at Stripe.

use uuid::Uuid;

use super::change::{Change, Read, Rendering};
use crate::api::answer::Answer;
use crate::api::context::ApiContext;
use crate::api::idempotency::KeyedRequest;
use crate::api::principal::Principal;
use crate::api::problem::Problem;
use crate::client::Write;
use crate::writes::NewWrite;

/// A new name and e-mail address of a billing contact.
pub(in crate::api) struct ContactChange<'a> {
    /// The workspace for which it is changed.
    pub(in crate::api) workspace: Uuid,
    /// Connected account, or empty.
    pub(in crate::api) account: &'a str,
    /// The customer.
    pub(in crate::api) customer: &'a str,
    pub(in crate::api) name: String,
    pub(in crate::api) email: String,
}

/// Changes the contact, and answers with what `read` reads after it.
pub(in crate::api) async fn update_contact(
    api: &ApiContext,
    principal: &Principal,
    request: Option<KeyedRequest>,
    change: ContactChange<'_>,
    read: Read,
) -> Result<Answer, Problem> {
    let writer = api.writer()?;
    let ContactChange { workspace, account, customer, name, email } = change;
    let target = format!("customer/{customer}");
    let write = Write::UpdateCustomer { customer: customer.to_owned(), name, email };
    let new = NewWrite {
        id: Uuid::new_v4(),
        principal: &principal.id,
        account,
        target: &target,
        workspace: Some(workspace),
        write: &write,
        replaces: None,
        is_inactive: false,
    };
    Change { writer, new, rendering: Rendering { read, request, secret_field: None } }.make(api).await
}
