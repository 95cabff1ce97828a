//! The checkout sessions of a billing contact: create and read.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use hyper::HeaderMap;
use url::Url;
use utoipa::ToSchema;
use uuid::Uuid;

use super::billing::contact_to_change;
use super::documented::{CheckoutProblems, ReadProblems};
use super::schema::CheckoutSession;
use crate::api::answer::Answer;
use crate::api::changes::{CheckoutRequest, Read, create_session};
use crate::api::context::Shared;
use crate::api::idempotency::KeyedRequest;
use crate::api::principal::{Principal, Scope};
use crate::api::problem::{FieldError, Problem};
use crate::api::request::{JsonObject, Mistakes};
use crate::api::rows::{Found, PlanChoice};
use crate::api::{request, rows, wait};

/// Maximum length of a URL in characters, as at Stripe.
const MAX_URL: usize = 5000;
/// The field with the client secret.
const SECRET: &str = "stripeClientSecret";

/// The plan of a new subscription, and where the customer returns.
#[derive(Debug, ToSchema)]
#[schema(as = CheckoutSessionWrite, rename_all = "camelCase")]
#[expect(dead_code, reason = "documents the body, which `Wanted` reads")]
pub(super) struct CheckoutSessionWrite {
    /// URL of a page of the product, to which the customer returns; may contain `{CHECKOUT_SESSION_ID}`.
    #[schema(min_length = 1, max_length = 5000)]
    callback_url: String,
    /// Language of the session; by default that of the authenticated customer.
    #[schema(max_length = 35, pattern = r"^[A-Za-z0-9_-]*$")]
    language: Option<String>,
    /// Id of the plan in a legacy system.
    #[schema(deprecated)]
    legacy_pricing_plan_id: Option<i64>,
    /// The plan; without it and `legacyPricingPlanId`, the default plan.
    #[schema(format = Uuid)]
    pricing_plan_id: Option<String>,
}

/// Create a checkout session for a new subscription, embedded in a page of the product.
#[utoipa::path(post,
    path = "/v1/workspaces/{workspaceId}/billing-contacts/{billingContactId}/stripe-checkout-sessions",
    operation_id = "createCheckoutSession", tag = "Billing",
    params(("workspaceId" = String, Path, description = "Workspace ID"),
        ("billingContactId" = String, Path, description = "BillingContact ID"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats get the first answer for 24 hours",
            min_length = 1, max_length = 255, pattern = r"^[!-~]([ -~]*[!-~])?$")),
    request_body = CheckoutSessionWrite,
    responses((status = 201, description = "The new checkout session, with its client secret", body = CheckoutSession,
        headers(("Location" = String), ("ETag" = String), ("Idempotent-Replayed" = String))), CheckoutProblems),
    security(("bearer" = ["workspaces:write"])))]
pub(super) async fn create(
    State(api): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path((workspace, contact)): Path<(String, String)>,
    headers: HeaderMap,
    body: JsonObject,
) -> Result<Response, Problem> {
    principal.require(Scope::WorkspacesWrite)?;
    let (workspace, contact) = (request::id(&workspace, "workspace")?, request::id(&contact, "billing contact")?);
    let access = principal.access();
    contact_to_change(&api, workspace, contact, access).await?;
    let wanted = Wanted::read(&body, &api.origins)?;
    let sessions = format!("/v1/workspaces/{workspace}/billing-contacts/{contact}/stripe-checkout-sessions");
    let request = KeyedRequest::read(&headers, &principal, &format!("POST {sessions}"), &body.bytes)?;
    let basis = rows::checkout_basis(&mut api.connection().await?, workspace, contact, wanted.plan).await?;
    let basis = basis.ok_or_else(|| no_such_plan(wanted.plan))?;
    if wanted.legacy.is_some_and(|legacy| basis.plan.imported_from_legacy_id != Some(legacy)) {
        return Err(no_such_plan(PlanChoice::Legacy(0)));
    }
    let checkout = CheckoutRequest {
        workspace,
        basis: &basis,
        callback_url: wanted.callback_url,
        language: wanted.language.as_deref(),
        secret_field: SECRET,
    };
    let location = format!("{}{sessions}", api.prefix);
    let read: Read = Arc::new(move |conn, session| {
        let location = format!("{location}/{session}");
        Box::pin(async move {
            let found = rows::checkout_session(conn, workspace, contact, &session, access).await?;
            Ok(answer(found)?.created(location))
        })
    });
    Ok(create_session(&api, &principal, request, checkout, read).await?.into_response())
}

/// What a body asks for.
struct Wanted {
    callback_url: String,
    language: Option<String>,
    plan: PlanChoice,
    /// The legacy id of the plan, which must agree with its id if both are given.
    legacy: Option<i64>,
}

impl Wanted {
    fn read(body: &JsonObject, origins: &[String]) -> Result<Self, Problem> {
        let mut mistakes = Mistakes::default();
        let callback_url = mistakes.text(&body.fields, "callbackUrl", MAX_URL);
        if let Some(Err(wrong)) = callback_url.as_deref().map(|url| check_callback(url, origins)) {
            mistakes.add("/callbackUrl", wrong);
        }
        let language = mistakes.optional_text(&body.fields, "language");
        let legacy = mistakes.optional_whole(&body.fields, "legacyPricingPlanId");
        let id = mistakes.optional_text(&body.fields, "pricingPlanId");
        let id = id.map(|id| Uuid::try_parse(&id).map_err(|_| mistakes.add("/pricingPlanId", "must be a UUID")));
        let plan = match (id, legacy) {
            (Some(Ok(id)), _) => Some(PlanChoice::Id(id)),
            (None, Some(legacy)) => Some(PlanChoice::Legacy(legacy)),
            (None, None) => Some(PlanChoice::Default),
            (Some(Err(())), _) => None,
        };
        let values = callback_url.zip(plan).map(|(callback_url, plan)| Self { callback_url, language, plan, legacy });
        mistakes.check(values)
    }
}

/// Checks that a URL is one of the product's pages: otherwise the customer could be sent anywhere after paying.
fn check_callback(text: &str, origins: &[String]) -> Result<(), String> {
    let url = Url::parse(text).map_err(|_| "must be a URL such as https://app.example.com/paid".to_owned())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user or a password".to_owned());
    }
    if origins.is_empty() {
        return Err("cannot be checked: the operator must list the product's origins in BILLING_SYNC_API_CORS_ORIGINS"
            .to_owned());
    }
    if origins.contains(&url.origin().ascii_serialization()) {
        return Ok(());
    }
    Err("must begin with an origin of the product (BILLING_SYNC_API_CORS_ORIGINS)".to_owned())
}

fn no_such_plan(plan: PlanChoice) -> Problem {
    let (pointer, detail) = match plan {
        PlanChoice::Id(_) => ("/pricingPlanId", "must be the id of an active plan of this billing contact's account"),
        PlanChoice::Legacy(_) => {
            ("/legacyPricingPlanId", "must be the legacy id of an active plan of this billing contact's account")
        }
        PlanChoice::Default => ("/pricingPlanId", "is required, because there is not exactly one active default plan"),
    };
    Problem::invalid(vec![FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() }])
}

fn answer(found: Option<Found<rows::CheckoutSession>>) -> Result<Answer, Problem> {
    let found = found.ok_or_else(|| Problem::not_found("checkout session"))?;
    Answer::ok(&CheckoutSession::from(found.row), Some(found.freshness))
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
pub(super) async fn get(
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
        answer(rows::checkout_session(&mut api.connection().await?, workspace, contact, session, access).await?)
    })
    .await
}
