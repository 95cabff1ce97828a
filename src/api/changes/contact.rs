//! Changes name and e-mail address of a billing contact: those of its customer at Stripe.

use hyper::HeaderMap;
use uuid::Uuid;

use super::change::{Change, Read, Rendering, With};
use crate::api::answer::Answer;
use crate::api::context::ApiContext;
use crate::api::idempotency::KeyedRequest;
use crate::api::principal::Principal;
use crate::api::problem::Problem;
use crate::client::Write;
use crate::writes::{NewWrite, Then};

/// A new name and e-mail address of a billing contact.
pub(crate) struct ContactChange<'a> {
    /// The workspace for which it is changed.
    pub(crate) workspace: Uuid,
    /// Connected account, or empty.
    pub(crate) account: &'a str,
    /// The customer.
    pub(crate) customer: &'a str,
    pub(crate) name: String,
    pub(crate) email: String,
    /// The headers of the request, which may name the copy that is changed.
    pub(crate) headers: &'a HeaderMap,
}

/// Changes the contact, and answers with what `read` reads after it.
pub(crate) async fn update_contact(
    api: &ApiContext,
    principal: &Principal,
    request: Option<KeyedRequest>,
    change: ContactChange<'_>,
    read: Read,
) -> Result<Answer, Problem> {
    let writer = api.writer()?;
    let ContactChange { workspace, account, customer, name, email, headers } = change;
    let write = Write::UpdateCustomer { customer: customer.to_owned(), name, email };
    let new = NewWrite {
        id: Uuid::new_v4(),
        principal: &principal.id,
        account,
        workspace: Some(workspace),
        write: &write,
        then: Then::Nothing,
    };
    let rendering = Rendering { read, request, secret_field: None };
    Change { writer, new, with: With::Copy(headers), rendering }.make(api).await
}
