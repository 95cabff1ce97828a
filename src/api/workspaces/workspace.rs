//! Workspaces: list, create, read, rename, delete.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::documented::{CreateProblems, DeleteProblems, ListProblems, ReadProblems, UpdateProblems};
use super::schema::Workspace;
use crate::api::answer::Answer;
use crate::api::changes::{NewCustomer, Read, create_customer};
use crate::api::context::Shared;
use crate::api::idempotency::KeyedRequest;
use crate::api::principal::{Access, Principal, Scope};
use crate::api::problem::{Code, Problem};
use crate::api::request::{self, JsonObject, Mistakes, Query};
use crate::api::rows::{self, Deletion, Filter, Found, NewWorkspace, Order, Role, SortField};
use crate::api::{wait, workspace_key};
use crate::database::Connection;

/// Maximum number of workspaces on a page.
const MAX_SIZE: i64 = 100;
/// Number of workspaces on a page if the client does not say.
const DEFAULT_SIZE: i64 = 20;
/// Maximum length of a name in characters.
const MAX_NAME: usize = 255;
/// Attempts to find a key that the product has not given to a workspace itself.
const KEY_ATTEMPTS: usize = 5;

/// Which workspaces are listed.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameters, which `filter` reads")]
pub(super) struct ListQuery {
    /// Page number, from 1.
    #[param(minimum = 1, maximum = 1_000_000, default = 1)]
    page: Option<i64>,
    /// Number of workspaces on a page.
    #[param(minimum = 1, maximum = 100, default = 20)]
    size: Option<i64>,
    /// Order direction: asc or desc.
    #[param(inline)]
    order: Option<OrderWord>,
    /// Field to sort by.
    #[param(inline)]
    sort: Option<SortWord>,
    /// IDs of the legacy teams from which the workspaces were created, separated by commas.
    #[param(rename = "importedFromLegacyTeamIds", pattern = "^[0-9]{1,18}(,[0-9]{1,18})*$")]
    imported_from_legacy_team_ids: Option<String>,
    /// Legacy customer IDs of owners of the workspaces, separated by commas.
    #[param(rename = "ownerLegacyCustomerIds", pattern = "^[0-9]{1,18}(,[0-9]{1,18})*$")]
    owner_legacy_customer_ids: Option<String>,
    /// Part of the name, id or key, in upper or lower case.
    #[param(max_length = 255, pattern = r"^[^\u0000]*$")]
    search: Option<String>,
}

#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase", default = "asc")]
#[expect(dead_code, reason = "documents the values")]
enum OrderWord {
    Asc,
    Desc,
}

#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase", default = "createdAt")]
#[expect(dead_code, reason = "documents the values")]
enum SortWord {
    Name,
    Key,
    KeyIndex,
    CreatedAt,
    UpdatedAt,
}

/// The name of a workspace.
#[derive(Debug, ToSchema)]
#[schema(as = WorkspaceWrite)]
#[expect(dead_code, reason = "documents the body, which `name` reads")]
pub(super) struct WorkspaceWrite {
    /// Name of the workspace.
    #[schema(min_length = 1, max_length = 255, pattern = r"^[^\u0000]*\S[^\u0000]*$")]
    name: String,
}

/// A page of workspaces.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WorkspaceList {
    data: Vec<Workspace>,
    page: PageNumbers,
}

/// The position of a page.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Page)]
struct PageNumbers {
    /// Number of this page, from 1.
    current_page: i64,
    /// Maximum number of workspaces on a page.
    size: i64,
    /// Number of all matching workspaces.
    total_elements: i64,
    total_pages: i64,
}

/// List the workspaces that the caller may see.
#[utoipa::path(get, path = "/v1/workspaces", operation_id = "listWorkspaces", tag = "Workspaces", params(ListQuery,
        ("If-None-Match" = Option<String>, Header, description = "ETag of the client's copy")),
    responses((status = 200, description = "A page of workspaces", body = WorkspaceList, headers(("ETag" = String))),
        (status = 304, description = "The client's copy is current"), ListProblems),
    security(("bearer" = ["workspaces:read"])))]
pub(super) async fn list(
    State(api): State<Shared>,
    Extension(principal): Extension<Principal>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    principal.require(Scope::WorkspacesRead)?;
    let (page, filter) = filter(&Query::new(query.as_deref()))?;
    let found = rows::list(&mut api.connection().await?, &filter, principal.access()).await?;
    let list = WorkspaceList {
        data: found.workspaces.into_iter().map(Into::into).collect(),
        page: PageNumbers {
            current_page: page,
            size: filter.size,
            total_elements: found.total,
            total_pages: found.total.div_euclid(filter.size) + i64::from(found.total % filter.size > 0),
        },
    };
    Ok(Answer::ok(&list, None)?.conditional(&headers))
}

fn filter(query: &Query) -> Result<(i64, Filter), Problem> {
    let mut mistakes = Mistakes::default();
    let page = query.whole("page", (1, 1_000_000), 1, &mut mistakes);
    let size = query.whole("size", (1, MAX_SIZE), DEFAULT_SIZE, &mut mistakes);
    let orders = [("asc", Order::Ascending), ("desc", Order::Descending)];
    let order = query.choice("order", &orders, Order::Ascending, &mut mistakes);
    let sorts = [
        ("name", SortField::Name),
        ("key", SortField::Key),
        ("keyIndex", SortField::KeyIndex),
        ("createdAt", SortField::CreatedAt),
        ("updatedAt", SortField::UpdatedAt),
    ];
    let sort = query.choice("sort", &sorts, SortField::CreatedAt, &mut mistakes);
    let filter = Filter {
        search: query.text("search", MAX_NAME, &mut mistakes),
        legacy_teams: query.numbers("importedFromLegacyTeamIds", &mut mistakes),
        owners_legacy_customers: query.numbers("ownerLegacyCustomerIds", &mut mistakes),
        sort,
        order,
        size,
        offset: (page - 1) * size,
    };
    mistakes.check(Some((page, filter)))
}

/// Create a workspace with the current user as its owner, and its customer in Stripe.
#[utoipa::path(post, path = "/v1/workspaces", operation_id = "createWorkspace", tag = "Workspaces",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats get the first answer for 24 hours",
            min_length = 1, max_length = 255, pattern = r"^[!-~]([ -~]*[!-~])?$")),
    request_body = WorkspaceWrite,
    responses((status = 201, description = "The new workspace", body = Workspace,
        headers(("Location" = String), ("ETag" = String), ("Idempotent-Replayed" = String))), CreateProblems),
    security(("bearer" = ["workspaces:write"])))]
pub(super) async fn create(
    State(api): State<Shared>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    body: JsonObject,
) -> Result<Response, Problem> {
    principal.require(Scope::WorkspacesWrite)?;
    let Some(owner) = principal.user else {
        let detail = "the creator becomes the owner: use a JWT, or a token of `billing-sync token create --user`";
        return Err(Problem::new(Code::UserRequired, detail));
    };
    let name = name(&body)?;
    let request = KeyedRequest::read(&headers, &principal, "POST /v1/workspaces", &body.bytes)?;
    let (id, access) = (Uuid::new_v4(), principal.access());
    let read_created = |id| created(id, access, &api.prefix);
    let new = NewCustomer { workspace: id, principal: &principal, request, read: &read_created };
    let answer = create_customer(&api, new, async |conn| {
        if rows::owned(conn, owner, api.max_owned).await? >= api.max_owned {
            let detail = "the user owns as many workspaces as allowed (BILLING_SYNC_API_MAX_OWNED)";
            return Err(Problem::new(Code::TooManyWorkspaces, detail));
        }
        add(conn, &api.key_prefix, id, Some(&name), Some((owner, principal.legacy_customer))).await
    })
    .await?;
    Ok(answer.into_response())
}

/// Reads the answer of a new workspace.
fn created(id: Uuid, access: Access, prefix: &str) -> Read {
    let location = format!("{prefix}/v1/workspaces/{id}");
    Arc::new(move |conn, _| {
        let location = location.clone();
        Box::pin(async move { Ok(read(conn, id, access).await?.created(location)) })
    })
}

/// Get a workspace with its billing contact and current subscription.
#[utoipa::path(get, path = "/v1/workspaces/{workspaceId}", operation_id = "getWorkspace", tag = "Workspaces",
    params(("workspaceId" = String, Path, description = "Workspace ID"),
        ("Prefer" = Option<String>, Header, description = "wait=20: answer when the workspace changes, or after 20 s"),
        ("If-None-Match" = Option<String>, Header, description = "ETag of the client's copy")),
    responses((status = 200, description = "The workspace", body = Workspace,
            headers(("ETag" = String), ("Billing-As-Of" = String), ("Billing-Pending" = i64))),
        (status = 304, description = "The client's copy is current"), ReadProblems),
    security(("bearer" = ["workspaces:read"])))]
pub(super) async fn get(
    State(api): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    principal.require(Scope::WorkspacesRead)?;
    let (id, access) = (request::id(&id, "workspace")?, principal.access());
    wait::answer(&api, &principal, &headers, async || {
        answer(rows::workspace(&mut api.connection().await?, id, access).await?)
    })
    .await
}

/// Rename a workspace.
#[utoipa::path(put, path = "/v1/workspaces/{workspaceId}", operation_id = "updateWorkspace", tag = "Workspaces",
    params(("workspaceId" = String, Path, description = "Workspace ID"),
        ("If-Match" = Option<String>, Header, description = "Change only if the workspace still has this ETag")),
    request_body = WorkspaceWrite,
    responses((status = 200, description = "The changed workspace", body = Workspace, headers(("ETag" = String))),
        UpdateProblems),
    security(("bearer" = ["workspaces:write"])))]
pub(super) async fn update(
    State(api): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: JsonObject,
) -> Result<Response, Problem> {
    principal.require(Scope::WorkspacesWrite)?;
    let (id, access) = (request::id(&id, "workspace")?, principal.access());
    let mut tx = api.begin().await?;
    let has_row = lock_as_owner(&mut tx, id, access).await?;
    let name = name(&body)?;
    read(&mut tx, id, access).await?.check_if_match(&headers)?;
    if !has_row {
        add(&mut tx, &api.key_prefix, id, None, None).await?;
    }
    rows::rename(&mut tx, id, &name).await?;
    let answer = read(&mut tx, id, access).await?;
    tx.commit().await?;
    Ok(answer.into_response())
}

/// Delete a workspace whose subscriptions have ended.
#[utoipa::path(delete, path = "/v1/workspaces/{workspaceId}", operation_id = "deleteWorkspace", tag = "Workspaces",
    params(("workspaceId" = String, Path, description = "workspaceId"),
        ("If-Match" = Option<String>, Header, description = "Delete only if the workspace still has this ETag")),
    responses((status = 204, description = "The workspace is deleted"), DeleteProblems),
    security(("bearer" = ["workspaces:write"])))]
pub(super) async fn delete(
    State(api): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    principal.require(Scope::WorkspacesWrite)?;
    let (id, access) = (request::id(&id, "workspace")?, principal.access());
    let mut tx = api.begin().await?;
    let has_row = lock_as_owner(&mut tx, id, access).await?;
    read(&mut tx, id, access).await?.check_if_match(&headers)?;
    if !has_row {
        add(&mut tx, &api.key_prefix, id, None, None).await?;
    }
    if rows::delete(&mut tx, id).await? == Deletion::HasSubscription {
        let detail = "cancel its subscriptions in Stripe first; then delete the workspace";
        return Err(Problem::new(Code::WorkspaceHasSubscription, detail));
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads a workspace as an answer, in a transaction.
async fn read(conn: &mut Connection, id: Uuid, access: Access) -> Result<Answer, Problem> {
    answer(rows::workspace(conn, id, access).await?)
}

fn answer(found: Option<Found<rows::Workspace>>) -> Result<Answer, Problem> {
    let found = found.ok_or_else(|| Problem::not_found("workspace"))?;
    Answer::ok(&Workspace::from(found.row), Some(found.freshness))
}

/// Locks a workspace that the caller may change; false if it has no row, because only Stripe's metadata names it. The
/// role is read again under the lock, because the workspace may have been deleted before.
async fn lock_as_owner(conn: &mut Connection, id: Uuid, access: Access) -> Result<bool, Problem> {
    require_owner(rows::role(conn, id, access).await?)?;
    let has_row = rows::lock(conn, id).await?;
    require_owner(rows::role(conn, id, access).await?)?;
    Ok(has_row)
}

/// Refuses a caller that may not change a workspace.
pub(super) fn require_owner(role: Option<Role>) -> Result<(), Problem> {
    match role {
        None => Err(Problem::not_found("workspace")),
        Some(Role::Member) => Err(Problem::new(Code::OwnerRequired, "only an owner of the workspace may change it")),
        Some(Role::Owner) => Ok(()),
    }
}

/// Adds the row of a workspace, with the next free key.
async fn add(
    conn: &mut Connection,
    key_prefix: &str,
    id: Uuid,
    name: Option<&str>,
    owner: Option<(Uuid, Option<i64>)>,
) -> Result<(), Problem> {
    for _ in 0..KEY_ATTEMPTS {
        let key_index = rows::next_key_index(conn).await?;
        let key = workspace_key::key(key_prefix, key_index);
        let (owner, owners_legacy_customer) = owner.map_or((None, None), |(user, legacy)| (Some(user), legacy));
        let new = NewWorkspace { id, name, key: &key, key_index, owner, owners_legacy_customer };
        // another request may have added the same workspace
        if rows::create(conn, &new).await? || rows::lock(conn, id).await? {
            return Ok(());
        }
        rows::skip_key_indexes(conn).await?;
    }
    tracing::error!(attempts = KEY_ATTEMPTS, "the keys of new workspaces are taken; set BILLING_SYNC_API_KEY_PREFIX");
    Err(Problem::new(Code::InternalError, "no free key was found; the log of billing-sync has the cause"))
}

fn name(body: &JsonObject) -> Result<String, Problem> {
    let mut mistakes = Mistakes::default();
    let name = mistakes.text(&body.fields, "name", MAX_NAME);
    mistakes.check(name)
}
