//! The billing contacts of a workspace: read and change.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use hyper::HeaderMap;
use utoipa::ToSchema;
use uuid::Uuid;

use super::documented::{ContactProblems, ReadProblems};
use super::schema::BillingContact;
use super::workspace::require_owner;
use crate::api::answer::Answer;
use crate::api::changes::{ContactChange, Read, update_contact};
use crate::api::context::Shared;
use crate::api::idempotency::KeyedRequest;
use crate::api::principal::{Access, Principal, Scope};
use crate::api::problem::Problem;
use crate::api::request::{JsonObject, Mistakes};
use crate::api::rows::Found;
use crate::api::{request, rows};

/// Maximum length of a name or e-mail address in characters.
const MAX_TEXT: usize = 255;

/// Name and e-mail address of a billing contact. The other fields are synced from Stripe, and have no effect here.
#[derive(Debug, ToSchema)]
#[schema(as = BillingContactWrite, rename_all = "camelCase")]
#[expect(dead_code, reason = "documents the body, which `texts` reads")]
pub(super) struct BillingContactWrite {
    /// Email address of the billing contact.
    #[schema(
        min_length = 3,
        max_length = 255,
        pattern = r"^[^\s@\u0000-\u001F\u007F-\u009F]+@[^\s@\u0000-\u001F\u007F-\u009F]+$"
    )]
    email: String,
    /// Name of the billing contact.
    #[schema(min_length = 1, max_length = 255, pattern = r"^[^\u0000]*\S[^\u0000]*$")]
    name: String,
    #[schema(read_only)]
    active_discount: Option<String>,
    #[schema(read_only)]
    address_line1: Option<String>,
    #[schema(read_only)]
    address_line2: Option<String>,
    #[schema(read_only)]
    city: Option<String>,
    #[schema(read_only)]
    country: Option<String>,
    #[schema(read_only)]
    default_payment_card_number_last_four_digits: Option<String>,
    #[schema(read_only)]
    default_payment_method: Option<String>,
    #[schema(read_only)]
    default_payment_method_card_brand: Option<String>,
    #[schema(read_only)]
    postal_code: Option<String>,
    #[schema(read_only)]
    state: Option<String>,
}

/// Get a billing contact of a workspace.
#[utoipa::path(get, path = "/v1/workspaces/{workspaceId}/billing-contacts/{billingContactId}",
    operation_id = "getBillingContact", tag = "Billing",
    params(("workspaceId" = String, Path, description = "Workspace ID"),
        ("billingContactId" = String, Path, description = "BillingContact ID"),
        ("If-None-Match" = Option<String>, Header, description = "ETag of the client's copy")),
    responses((status = 200, description = "The billing contact", body = BillingContact,
            headers(("ETag" = String), ("Billing-As-Of" = String), ("Billing-Pending" = i64))),
        (status = 304, description = "The client's copy is current"), ReadProblems),
    security(("bearer" = ["workspaces:read"])))]
pub(super) async fn contact(
    State(api): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path((workspace, contact)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    principal.require(Scope::WorkspacesRead)?;
    let (workspace, contact) = (request::id(&workspace, "workspace")?, request::id(&contact, "billing contact")?);
    let found = rows::contact(&mut api.connection().await?, workspace, contact, principal.access()).await?;
    Ok(answer(found)?.conditional(&headers))
}

/// Change name and e-mail address of a billing contact, in Stripe too.
#[utoipa::path(put, path = "/v1/workspaces/{workspaceId}/billing-contacts/{billingContactId}",
    operation_id = "updateBillingContact", tag = "Billing",
    params(("workspaceId" = String, Path, description = "Workspace ID"),
        ("billingContactId" = String, Path, description = "BillingContact ID"),
        ("If-Match" = Option<String>, Header, description = "Change only if the contact still has this ETag"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats get the first answer for 24 hours",
            min_length = 1, max_length = 255, pattern = r"^[!-~]([ -~]*[!-~])?$")),
    request_body = BillingContactWrite,
    responses((status = 200, description = "The changed billing contact", body = BillingContact,
        headers(("ETag" = String), ("Idempotent-Replayed" = String))), ContactProblems),
    security(("bearer" = ["workspaces:write"])))]
pub(super) async fn update(
    State(api): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path((workspace, contact)): Path<(String, String)>,
    headers: HeaderMap,
    body: JsonObject,
) -> Result<Response, Problem> {
    principal.require(Scope::WorkspacesWrite)?;
    let (workspace, id) = (request::id(&workspace, "workspace")?, request::id(&contact, "billing contact")?);
    let access = principal.access();
    let found = contact_to_change(&api, workspace, id, access).await?;
    let (name, email) = texts(&body)?;
    let path = format!("PUT /v1/workspaces/{workspace}/billing-contacts/{id}");
    let request = KeyedRequest::read(&headers, &principal, &path, &body.bytes)?;
    let change = ContactChange {
        workspace,
        account: &found.row.account,
        customer: &found.row.stripe_customer_id,
        name,
        email,
        headers: &headers,
    };
    let read: Read =
        Arc::new(move |conn, _| Box::pin(async move { answer(rows::contact(conn, workspace, id, access).await?) }));
    Ok(update_contact(&api, &principal, request, change, read).await?.into_response())
}

/// A contact that the caller may change.
pub(super) async fn contact_to_change(
    api: &Shared,
    workspace: Uuid,
    contact: Uuid,
    access: Access,
) -> Result<Found<rows::Contact>, Problem> {
    let mut conn = api.connection().await?;
    require_owner(rows::role(&mut conn, workspace, access).await?)?;
    let found = rows::contact(&mut conn, workspace, contact, access).await?;
    let found = found.filter(|found| !found.row.is_deleted).ok_or_else(|| Problem::not_found("billing contact"))?;
    api.writer()?;
    Ok(found)
}

fn answer(found: Option<Found<rows::Contact>>) -> Result<Answer, Problem> {
    let found = found.ok_or_else(|| Problem::not_found("billing contact"))?;
    Answer::ok(&BillingContact::from(found.row), Some(found.freshness))
}

/// The name and the e-mail address in a body.
fn texts(body: &JsonObject) -> Result<(String, String), Problem> {
    const IGNORED: [&str; 10] = [
        "activeDiscount",
        "addressLine1",
        "addressLine2",
        "city",
        "country",
        "defaultPaymentCardNumberLastFourDigits",
        "defaultPaymentMethod",
        "defaultPaymentMethodCardBrand",
        "postalCode",
        "state",
    ];
    let mut mistakes = Mistakes::default();
    let name = mistakes.text(&body.fields, "name", MAX_TEXT);
    let email = mistakes.text(&body.fields, "email", MAX_TEXT);
    if email.as_deref().is_some_and(|email| !is_email(email)) {
        mistakes.add("/email", "must be an e-mail address");
    }
    for ignored in IGNORED {
        mistakes.optional_text(&body.fields, ignored);
    }
    mistakes.check(name.zip(email))
}

/// Whether Stripe may accept the text: one @ between two texts without blanks.
fn is_email(text: &str) -> bool {
    let parts: Vec<&str> = text.split('@').collect();
    matches!(parts.as_slice(), [name, host] if !name.is_empty() && !host.is_empty())
        && !text.contains(|letter: char| letter.is_whitespace() || letter.is_control())
}
