//! One call that answers: may they use the product, how much is left, and since when is this known.

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use hyper::HeaderMap;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::documented::QueryProblems;
use super::schema::Limit;
use super::timestamp::Timestamp;
use crate::api::answer::Answer;
use crate::api::context::{ApiContext, Shared};
use crate::api::principal::{Principal, Scope};
use crate::api::problem::Problem;
use crate::api::request::{self, Mistakes, Query};
use crate::api::rows::{self, State as StateRow, Subject};
use crate::api::wait;
use crate::domain::object::row_id;

/// Whose state is read: exactly one of the two.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameters, which `subject` reads")]
pub(super) struct StateQuery {
    /// Workspace ID.
    workspace: Option<String>,
    /// ID of a billing contact, or of its customer in Stripe (`cus_…`).
    customer: Option<String>,
}

/// Whether a workspace or customer may use the product now, and its limits.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BillingState {
    /// Whether they may use the product now.
    active: bool,
    /// Why not: `no_subscription`, or the reason of the current subscription; null if they may.
    inactive_reason: Option<String>,
    workspace_id: Option<Uuid>,
    billing_contact_id: Option<Uuid>,
    stripe_customer_id: Option<String>,
    /// The current subscription.
    subscription_id: Option<Uuid>,
    stripe_subscription_id: Option<String>,
    stripe_status: Option<String>,
    pricing_plan_id: Option<Uuid>,
    /// When the subscription ended or will end.
    end_date: Option<Timestamp>,
    limits: Vec<Limit>,
    /// When the current subscription last changed here.
    changed_at: Option<Timestamp>,
    /// All events up to this time were compared with Stripe's list; null before the first comparison.
    as_of: Option<Timestamp>,
    /// Number of stored events of the customer that are not applied yet; null if too many events wait to count them.
    pending_events: Option<i64>,
}

/// Get whether a workspace or customer may use the product now, and how much is left of its limits.
#[utoipa::path(get, path = "/v1/state", operation_id = "getState", tag = "State", params(StateQuery,
        ("Prefer" = Option<String>, Header, description = "wait=20: answer when the state changes, or after 20 s"),
        ("If-None-Match" = Option<String>, Header, description = "ETag of the client's copy")),
    responses((status = 200, description = "The state", body = BillingState, headers(("ETag" = String),
            ("Billing-As-Of" = String), ("Billing-Pending" = i64))),
        (status = 304, description = "The client's copy is current"), QueryProblems),
    security(("bearer" = ["workspaces:read"])))]
pub(super) async fn get(
    State(api): State<Shared>,
    Extension(principal): Extension<Principal>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    principal.require(Scope::WorkspacesRead)?;
    let subject = subject(&api, &Query::new(query.as_deref()))?;
    let access = principal.access();
    wait::answer(&api, &principal, &headers, async || {
        let found = rows::state(&mut api.connection().await?, &subject, access).await?;
        let found = found.ok_or_else(|| Problem::not_found("workspace or customer"))?;
        let (mut state, freshness) = (BillingState::from(found.row), found.freshness);
        // the entity tag must not change with every comparison and every event
        let etag = Answer::ok(&state, None)?.etag();
        state.as_of = freshness.as_of.map(Into::into);
        state.pending_events = freshness.pending;
        let answer = Answer::ok(&state, Some(freshness))?;
        Ok(answer.with_weak_etag(&etag))
    })
    .await
}

fn subject(api: &ApiContext, query: &Query) -> Result<Subject, Problem> {
    match (query.get("workspace"), query.get("customer")) {
        (Some(workspace), None) => Ok(Subject::Workspace(request::id(workspace, "workspace")?)),
        (None, Some(customer)) if customer.starts_with("cus_") => {
            let ids = api.accounts.iter().map(|account| row_id(account, customer));
            Ok(Subject::Customer(ids.collect()))
        }
        (None, Some(contact)) => Ok(Subject::Customer(vec![request::id(contact, "customer")?])),
        (workspace, _) => {
            let mut mistakes = Mistakes::default();
            let both = if workspace.is_some() { ", not both" } else { "" };
            mistakes.add("query workspace", format!("set either workspace or customer{both}"));
            mistakes.check(None)
        }
    }
}

/// The state without the times and events that only say how fresh it is.
impl From<StateRow> for BillingState {
    fn from(row: StateRow) -> Self {
        Self {
            active: row.active,
            inactive_reason: row.inactive_reason,
            workspace_id: row.workspace_id,
            billing_contact_id: row.billing_contact_id,
            stripe_customer_id: row.stripe_customer_id,
            subscription_id: row.subscription_id,
            stripe_subscription_id: row.stripe_subscription_id,
            stripe_status: row.stripe_status,
            pricing_plan_id: row.pricing_plan_id,
            end_date: row.end_date.map(Into::into),
            limits: row.limits.into_iter().map(Into::into).collect(),
            changed_at: row.changed_at.map(Into::into),
            as_of: None,
            pending_events: None,
        }
    }
}
