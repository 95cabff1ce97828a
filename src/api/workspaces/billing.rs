//! The billing contacts of a workspace and their checkout sessions.

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use hyper::HeaderMap;

use super::documented::ReadProblems;
use super::schema::{BillingContact, CheckoutSession};
use crate::api::answer::Answer;
use crate::api::context::Shared;
use crate::api::principal::{Principal, Scope};
use crate::api::problem::Problem;
use crate::api::{request, rows, wait};

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
    let found = rows::contact(&mut *api.connection().await?, workspace, contact, principal.access()).await?;
    let found = found.ok_or_else(|| Problem::not_found("billing contact"))?;
    Ok(Answer::ok(&BillingContact::from(found.row), Some(found.freshness))?.conditional(&headers))
}

/// Get a checkout session of a billing contact.
#[utoipa::path(get,
    path = "/v1/workspaces/{workspaceId}/billing-contacts/{billingContactId}/stripe-checkout-sessions/{sessionId}",
    operation_id = "getCheckoutSession", tag = "Billing",
    params(("workspaceId" = String, Path, description = "Workspace ID"),
        ("billingContactId" = String, Path, description = "BillingContact ID"),
        ("sessionId" = String, Path, description = "stripe session ID"),
        ("Prefer" = Option<String>, Header, description = "wait=20: answer when the session changes, or after 20 s"),
        ("If-None-Match" = Option<String>, Header, description = "ETag of the client's copy")),
    responses((status = 200, description = "The checkout session", body = CheckoutSession,
            headers(("ETag" = String), ("Billing-As-Of" = String), ("Billing-Pending" = i64))),
        (status = 304, description = "The client's copy is current"), ReadProblems),
    security(("bearer" = ["workspaces:read"])))]
pub(super) async fn checkout_session(
    State(api): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path((workspace, contact, session)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    principal.require(Scope::WorkspacesRead)?;
    let (workspace, contact) = (request::id(&workspace, "workspace")?, request::id(&contact, "billing contact")?);
    let access = principal.access();
    let session = request::stripe_id(&session, "checkout session")?;
    wait::answer(&api, &principal, &headers, async || {
        let found = rows::checkout_session(&mut *api.connection().await?, workspace, contact, session, access).await?;
        let found = found.ok_or_else(|| Problem::not_found("checkout session"))?;
        Answer::ok(&CheckoutSession::from(found.row), Some(found.freshness))
    })
    .await
}
