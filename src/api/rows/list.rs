//! A page of the workspaces that the caller may see, with their number.

use serde::Deserialize;
use sqlx::{Postgres, QueryBuilder};

use super::entities::Workspace;
use super::found::parse;
use super::fragments::{contact_json, limits_json, plan_json, subscription_json, workspace_json};
use crate::api::principal::Access;
use crate::database::Connection;

/// The field by which workspaces are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SortField {
    Name,
    Key,
    KeyIndex,
    CreatedAt,
    UpdatedAt,
}

impl SortField {
    fn column(self) -> &'static str {
        match self {
            Self::Name => "v.name",
            Self::Key => "v.key",
            Self::KeyIndex => "v.key_index",
            Self::CreatedAt => "v.created_at",
            Self::UpdatedAt => "v.updated_at",
        }
    }
}

/// The direction in which workspaces are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// Which workspaces are listed, in which order.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    /// Part of the name, id or key, in upper or lower case.
    pub(crate) search: Option<String>,
    pub(crate) legacy_teams: Option<Vec<i64>>,
    pub(crate) owners_legacy_customers: Option<Vec<i64>>,
    pub(crate) sort: SortField,
    pub(crate) order: Order,
    pub(crate) size: i64,
    pub(crate) offset: i64,
}

/// One page, and the number of all matching workspaces.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    pub(crate) total: i64,
    pub(crate) workspaces: Vec<Workspace>,
}

/// A workspace with its embedded rows, by the id `page.id`.
const DOCUMENT: &str = concat!(
    "-- api.workspace_of_page
    SELECT ",
    workspace_json!(),
    " AS document
    FROM billing.workspace_billing AS b
    LEFT JOIN billing.workspaces AS w ON w.id = b.workspace_id
    WHERE b.workspace_id = page.id OFFSET 0"
);

/// A page of the workspaces that have a row. One that only Stripe's metadata names is not listed: to find those takes
/// longer than the list itself.
///
/// # Errors
/// Database errors.
pub(crate) async fn list(conn: &mut Connection, filter: &Filter, access: Access) -> Result<Page, sqlx::Error> {
    let text: String = statement(filter, access).build_query_scalar().fetch_one(conn).await?;
    parse(&text)
}

/// The statement of the first page of a search in all workspaces, for comparisons: `$1` to `$6` are the pattern, `$7` is
/// the size of the page, `$8` is 0.
pub fn search_statement() -> String {
    let filter = Filter {
        search: Some(String::new()),
        legacy_teams: None,
        owners_legacy_customers: None,
        sort: SortField::CreatedAt,
        order: Order::Ascending,
        size: 0,
        offset: 0,
    };
    statement(&filter, Access::All).into_sql().as_str().to_owned()
}

fn statement(filter: &Filter, access: Access) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new("-- api.list_workspaces\nSELECT json_build_object('total', (SELECT count(*)");
    push_matching(&mut query, filter, access);
    let direction = if filter.order == Order::Ascending { "ASC" } else { "DESC" };
    let order = format!("{} {direction}, v.id {direction}", filter.sort.column());
    query.push("), 'workspaces', coalesce((SELECT json_agg(made.document ORDER BY page.place) FROM (");
    query.push(format!("SELECT v.id, row_number() OVER (ORDER BY {order}) AS place"));
    push_matching(&mut query, filter, access);
    query.push(format!(" ORDER BY {order} LIMIT ")).push_bind(filter.size);
    query.push(" OFFSET ").push_bind(filter.offset);
    query.push(format!(") AS page CROSS JOIN LATERAL ({DOCUMENT}) AS made), '[]'))::text"));
    query
}

/// FROM and WHERE of the workspaces `v` that the caller may see and that match.
fn push_matching(query: &mut QueryBuilder<Postgres>, filter: &Filter, access: Access) {
    match access {
        Access::All => {
            query.push(" FROM billing.workspaces AS v WHERE v.deleted_at IS NULL");
        }
        Access::Member(user) => {
            query
                .push(
                    " FROM billing.workspace_members AS own JOIN billing.workspaces AS v ON v.id = own.workspace_id
                    WHERE v.deleted_at IS NULL AND own.user_id = ",
                )
                .push_bind(user);
        }
        Access::Nothing => {
            query.push(" FROM billing.workspaces AS v WHERE false");
        }
    }
    push_conditions(query, filter);
}

fn push_conditions(query: &mut QueryBuilder<Postgres>, filter: &Filter) {
    if let Some(search) = &filter.search {
        let pattern = format!("%{}%", escaped(search));
        for (before, column) in [(" AND (", "v.name"), (" OR ", "v.key"), (" OR ", "v.id::text")] {
            query.push(before).push(column).push(" ILIKE ").push_bind(pattern.clone());
        }
        query.push(")");
    }
    if let Some(teams) = &filter.legacy_teams {
        query.push(" AND v.imported_from_legacy_team_id = ANY(").push_bind(teams.clone()).push(")");
    }
    if let Some(owners) = &filter.owners_legacy_customers {
        query
            .push(
                " AND v.id IN (SELECT m.workspace_id FROM billing.workspace_members AS m
                WHERE m.role = 'owner' AND m.legacy_customer_id = ANY(",
            )
            .push_bind(owners.clone())
            .push("))");
    }
}

/// The text with the special characters of LIKE escaped.
fn escaped(search: &str) -> String {
    search.chars().fold(String::with_capacity(search.len()), |mut text, letter| {
        if matches!(letter, '%' | '_' | '\\') {
            text.push('\\');
        }
        text.push(letter);
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_of_like_are_searched_literally() {
        assert_eq!(escaped(r"50%_\ä"), r"50\%\_\\ä");
    }
}
