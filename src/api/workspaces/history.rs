//! What changed the billing state of a workspace, and by which event.

use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use hyper::HeaderMap;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::documented::QueryProblems;
use super::timestamp::Timestamp;
use crate::api::answer::Answer;
use crate::api::context::Shared;
use crate::api::principal::{Principal, Scope};
use crate::api::problem::Problem;
use crate::api::request::{self, Mistakes, Query};
use crate::api::rows::{self, HistoryRange};

/// Maximum number of changes on a page.
const MAX_SIZE: i64 = 100;

/// Which changes are listed.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameters, which `list` reads")]
pub(super) struct HistoryQuery {
    /// Number of changes on a page.
    #[param(minimum = 1, maximum = 100, default = 20)]
    size: Option<i64>,
    /// Only changes before this id: `next` of the previous page.
    #[param(minimum = 1)]
    before: Option<i64>,
}

/// A page of changes, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChangeList {
    data: Vec<RowChange>,
    /// `before` of the next page; null on the last one.
    next: Option<i64>,
}

/// A change of a billing contact or subscription.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RowChange {
    id: i64,
    /// When the row changed here.
    at: Timestamp,
    /// `billing_contacts` or `subscriptions`.
    table: String,
    row_id: Uuid,
    /// IDs of the Stripe events that caused it, `write` for a change that this API made at Stripe, or `read` for a read
    /// of Stripe's API; empty if another row caused it.
    causes: Vec<String>,
    /// Each changed column with its value before and after; for a new row, its columns that are not null.
    #[schema(value_type = std::collections::BTreeMap<String, serde_json::Value>)]
    changes: Box<RawValue>,
}

/// List the changes of the billing contacts and subscriptions of a workspace, newest first.
#[utoipa::path(get, path = "/v1/workspaces/{workspaceId}/history", operation_id = "listHistory", tag = "State",
    params(("workspaceId" = String, Path, description = "Workspace ID"), HistoryQuery,
        ("If-None-Match" = Option<String>, Header, description = "ETag of the client's copy")),
    responses((status = 200, description = "A page of changes", body = ChangeList, headers(("ETag" = String))),
        (status = 304, description = "The client's copy is current"), QueryProblems),
    security(("bearer" = ["workspaces:read"])))]
pub(super) async fn list(
    State(api): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path(workspace): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    principal.require(Scope::WorkspacesRead)?;
    let workspace = request::id(&workspace, "workspace")?;
    let query = Query::new(query.as_deref());
    let mut mistakes = Mistakes::default();
    let size = query.whole("size", (1, MAX_SIZE), 20, &mut mistakes);
    let before = query.whole("before", (1, i64::MAX), i64::MAX, &mut mistakes);
    let (size, before) = mistakes.check(Some((size, before)))?;
    // one more, because it shows whether there is another page
    let page = HistoryRange { before, size: size + 1 };
    let found = rows::changes(&mut api.connection().await?, workspace, page, principal.access()).await?;
    let mut found = found.ok_or_else(|| Problem::not_found("workspace"))?;
    let has_more = found.len() > usize::try_from(size).unwrap_or(usize::MAX);
    if has_more {
        found.pop();
    }
    let next = found.last().filter(|_| has_more).map(|change| change.id);
    let data = found.into_iter().map(|change| RowChange {
        id: change.id,
        at: change.changed_at.into(),
        table: change.table_name,
        row_id: change.row_id,
        causes: change.causes,
        changes: change.changes,
    });
    Ok(Answer::ok(&ChangeList { data: data.collect(), next }, None)?.conditional(&headers))
}
