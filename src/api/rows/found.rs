//! The result of a statement: JSON documents, read as rows.

use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::entities::Freshness;
use crate::api::principal::Access;

/// A row that the caller may see, and how fresh it is.
#[derive(Debug)]
pub(crate) struct Found<T> {
    pub(crate) row: T,
    pub(crate) freshness: Freshness,
}

impl Access {
    /// For SQL: whether all workspaces are visible, otherwise the user whose workspaces are.
    pub(super) fn parameters(self) -> (bool, Option<Uuid>) {
        match self {
            Self::All => (true, None),
            Self::Member(user) => (false, Some(user)),
            Self::Nothing => (false, None),
        }
    }
}

/// The columns `document` and `freshness` of a statement, as JSON.
type Documents = (String, String);

/// The row and its freshness, if there is one.
pub(super) fn found<T: DeserializeOwned>(documents: Option<Documents>) -> Result<Option<Found<T>>, sqlx::Error> {
    let Some((document, freshness)) = documents else { return Ok(None) };
    Ok(Some(Found { row: parse(&document)?, freshness: parse(&freshness)? }))
}

/// A row from JSON.
pub(super) fn parse<T: DeserializeOwned>(document: &str) -> Result<T, sqlx::Error> {
    // the text of serde's error would repeat the value
    let place =
        |error: serde_json::Error| format!("unexpected JSON at line {} column {}", error.line(), error.column());
    serde_json::from_str(document).map_err(|error| sqlx::Error::Decode(place(error).into()))
}
