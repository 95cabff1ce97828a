//! The limits of a workspace: reads them, consumes and releases them.

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use hyper::HeaderMap;
use serde::Serialize;
use sqlx::error::DatabaseError;
use utoipa::ToSchema;
use uuid::Uuid;

use super::documented::{ConsumeProblems, ReadProblems, ReleaseProblems};
use super::schema::Limit;
use crate::api::answer::Answer;
use crate::api::context::Shared;
use crate::api::idempotency::{self, KeyedRequest};
use crate::api::principal::{Principal, Scope};
use crate::api::problem::{Code, Problem};
use crate::api::request::{self, JsonObject, Mistakes};
use crate::api::rows;
use crate::database::Connection;

/// The limits of a workspace.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LimitList {
    data: Vec<Limit>,
}

/// How much is consumed or released.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "documents the body, which `amount` reads")]
pub(super) struct Amount {
    /// The amount.
    #[schema(minimum = 1)]
    amount: i64,
}

/// What remains of a limit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Remaining {
    /// The limit.
    key: String,
    /// Amount that can still be used; null if it is unlimited.
    available: Option<i64>,
}

/// List the limits of a workspace, by its current subscription.
#[utoipa::path(get, path = "/v1/workspaces/{workspaceId}/limits", operation_id = "listLimits", tag = "Limits",
    params(("workspaceId" = String, Path, description = "Workspace ID"),
        ("If-None-Match" = Option<String>, Header, description = "ETag of the client's copy")),
    responses((status = 200, description = "The limits", body = LimitList,
            headers(("ETag" = String), ("Billing-As-Of" = String), ("Billing-Pending" = i64))),
        (status = 304, description = "The client's copy is current"), ReadProblems),
    security(("bearer" = ["workspaces:read"])))]
pub(super) async fn list(
    State(api): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path(workspace): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    principal.require(Scope::WorkspacesRead)?;
    let workspace = request::id(&workspace, "workspace")?;
    let found = rows::limits(&mut api.connection().await?, workspace, principal.access()).await?;
    let found = found.ok_or_else(|| Problem::not_found("workspace"))?;
    let list = LimitList { data: found.row.into_iter().map(Into::into).collect() };
    Ok(Answer::ok(&list, Some(found.freshness))?.conditional(&headers))
}

/// Consume an amount of a limit, all or nothing.
#[utoipa::path(post, path = "/v1/workspaces/{workspaceId}/limits/{key}/consume", operation_id = "consumeLimit",
    tag = "Limits",
    params(("workspaceId" = String, Path, description = "Workspace ID"),
        ("key" = String, Path, description = "Key of the limit: words, images, members and others"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats get the first answer for 24 hours",
            min_length = 1, max_length = 255, pattern = r"^[!-~]([ -~]*[!-~])?$")),
    request_body = Amount,
    responses((status = 200, description = "What remains", body = Remaining,
        headers(("Idempotent-Replayed" = String))), ConsumeProblems),
    security(("bearer" = ["workspaces:write"])))]
pub(super) async fn consume(
    State(api): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
    body: JsonObject,
) -> Result<Response, Problem> {
    let change = UsageChange::read(&principal, path, &body)?;
    let request = KeyedRequest::read(&headers, &principal, &change.path("consume"), &body.bytes)?;
    let check = async |conn: &mut Connection| change.check(conn, &principal).await;
    idempotency::once(&api, request, check, async |conn| {
        let available = rows::consume(conn, change.workspace, &change.key, change.amount).await?;
        Answer::ok(&Remaining { key: change.key.clone(), available }, None)
    })
    .await
}

/// Release an amount of a capacity that was consumed, such as a member who has left.
#[utoipa::path(post, path = "/v1/workspaces/{workspaceId}/limits/{key}/release", operation_id = "releaseLimit",
    tag = "Limits",
    params(("workspaceId" = String, Path, description = "Workspace ID"),
        ("key" = String, Path, description = "Key of the limit: members and other capacities"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats get the first answer for 24 hours",
            min_length = 1, max_length = 255, pattern = r"^[!-~]([ -~]*[!-~])?$")),
    request_body = Amount,
    responses((status = 200, description = "What remains", body = Remaining,
        headers(("Idempotent-Replayed" = String))), ReleaseProblems),
    security(("bearer" = ["workspaces:write"])))]
pub(super) async fn release(
    State(api): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
    body: JsonObject,
) -> Result<Response, Problem> {
    let change = UsageChange::read(&principal, path, &body)?;
    let request = KeyedRequest::read(&headers, &principal, &change.path("release"), &body.bytes)?;
    let check = async |conn: &mut Connection| change.check(conn, &principal).await;
    idempotency::once(&api, request, check, async |conn| {
        let released = rows::release(conn, change.workspace, &change.key, change.amount).await;
        let available = released.map_err(|error| {
            // the arguments are valid, so this can only be the amount
            if error.as_database_error().and_then(DatabaseError::code).as_deref() == Some("22023") {
                return Problem::new(Code::ReleaseExceedsUsage, "less than the amount was consumed");
            }
            Problem::from(error)
        })?;
        Answer::ok(&Remaining { key: change.key.clone(), available }, None)
    })
    .await
}

/// A request to consume or release.
struct UsageChange {
    workspace: Uuid,
    key: String,
    amount: i64,
}

impl UsageChange {
    fn read(principal: &Principal, (workspace, key): (String, String), body: &JsonObject) -> Result<Self, Problem> {
        principal.require(Scope::WorkspacesWrite)?;
        let workspace = request::id(&workspace, "workspace")?;
        if key.contains('\0') {
            return Err(Problem::not_found("limit"));
        }
        let mut mistakes = Mistakes::default();
        let amount = mistakes.amount(&body.fields, "amount");
        Ok(Self { workspace, key, amount: mistakes.check(amount)? })
    }

    fn path(&self, action: &str) -> String {
        format!("POST /v1/workspaces/{}/limits/{}/{action}", self.workspace, self.key)
    }

    /// Refuses a principal that may not see the workspace, or that is a user: users could release what the product has
    /// counted.
    async fn check(&self, conn: &mut Connection, principal: &Principal) -> Result<(), Problem> {
        let role = rows::role(conn, self.workspace, principal.access()).await?;
        role.ok_or_else(|| Problem::not_found("workspace"))?;
        if principal.is_service() {
            return Ok(());
        }
        let detail = "limits are consumed and released by the product's services: use a token of `billing-sync token \
                      create`, or a JWT with an admin role (BILLING_SYNC_API_ADMIN_ROLES)";
        Err(Problem::new(Code::ServiceRequired, detail))
    }
}
