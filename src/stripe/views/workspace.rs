//! The workspace that an object's metadata names.
//!
//! Owns the two keys and what counts as a name. Must not know which object wins where both name one: that is the
//! projection's. PURE; called by the customer and the subscription view.

use uuid::Uuid;

use crate::stripe::json::Json;

/// The keys in the order in which they count.
const KEYS: [&str; 2] = ["workspace_id", "workspaceId"];

/// What the metadata say. The text itself is not kept: it is free text, and need not be an id at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum WorkspaceLink {
    /// Neither key is there, or only with a blank value (Stripe removes a key that is set to the empty text).
    #[default]
    Absent,
    /// The workspace, whether or not it exists.
    Named(Uuid),
    /// A key is there and its value is not a UUID.
    Bad,
}

impl WorkspaceLink {
    /// Reads `metadata`. The first key that has a value decides, even when the value is bad.
    pub fn read(metadata: Json<'_>) -> Self {
        let Some(metadata) = metadata.object() else { return Self::Absent };
        let links = KEYS.map(|key| Self::of(metadata.get(key)));
        links.into_iter().find(|link| *link != Self::Absent).unwrap_or_default()
    }

    /// What a checkout session says: its metadata, else its `client_reference_id`, which may be anything of the
    /// merchant's: one that is no UUID names nothing. Where the session comes from a Payment Link, the reference is a
    /// parameter of the link's address. The buyer writes that address, and must not choose the workspace of another one.
    pub fn of_session(session: Json<'_>) -> Self {
        match Self::read(session.get("metadata")) {
            Self::Absent if session.get("payment_link").is_null() => match Self::of(session.get("client_reference_id"))
            {
                Self::Bad => Self::Absent,
                link => link,
            },
            link => link,
        }
    }

    /// The workspace, where one is named.
    pub fn named(self) -> Option<Uuid> {
        match self {
            Self::Named(id) => Some(id),
            Self::Absent | Self::Bad => None,
        }
    }

    fn of(value: Json<'_>) -> Self {
        let text = value.text();
        if value.is_null() || text.as_deref().is_some_and(|text| text.trim().is_empty()) {
            return Self::Absent;
        }
        text.and_then(|text| Uuid::try_parse(text.trim()).ok()).map_or(Self::Bad, Self::Named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;

    const ID: &str = "0c8f5a54-3b1e-4f57-9a53-61d1f8a6e901";

    fn link(metadata: &str) -> WorkspaceLink {
        WorkspaceLink::read(json(metadata))
    }

    fn named() -> WorkspaceLink {
        WorkspaceLink::Named(ID.parse().unwrap())
    }

    #[test]
    fn both_spellings_of_the_key_are_read() {
        assert_eq!(link(&format!(r#"{{"workspace_id":"{ID}"}}"#)), named());
        assert_eq!(link(&format!(r#"{{"workspaceId":"{}"}}"#, ID.to_uppercase())), named());
    }

    #[test]
    fn the_first_key_with_a_value_decides() {
        let other = "11111111-2222-4333-8444-555555555555";
        assert_eq!(link(&format!(r#"{{"workspace_id":"{ID}","workspaceId":"{other}"}}"#)), named());
        assert_eq!(link(&format!(r#"{{"workspace_id":" ","workspaceId":"{ID}"}}"#)), named());
        assert_eq!(link(&format!(r#"{{"workspace_id":"x","workspaceId":"{ID}"}}"#)), WorkspaceLink::Bad);
    }

    #[test]
    fn no_metadata_name_no_workspace() {
        for metadata in ["null", "{}", r#"{"workspace_id":null}"#, r#"{"workspace_id":""}"#, "[]", "5"] {
            assert_eq!(link(metadata), WorkspaceLink::Absent, "{metadata}");
        }
    }

    #[test]
    fn a_session_names_it_in_its_metadata_or_by_its_reference() {
        let session = |text: &str| WorkspaceLink::of_session(json(text));
        assert_eq!(session(&format!(r#"{{"client_reference_id":"{ID}","metadata":{{}}}}"#)), named());
        let other = "11111111-2222-4333-8444-555555555555";
        let both = format!(r#"{{"client_reference_id":"{other}","metadata":{{"workspace_id":"{ID}"}}}}"#);
        assert_eq!(session(&both), named());
        let link = format!(r#"{{"client_reference_id":"{other}","payment_link":"plink_1","metadata":"#);
        assert_eq!(session(&format!("{link}{{}}}}")), WorkspaceLink::Absent, "the buyer wrote it");
        assert_eq!(session(&format!(r#"{link}{{"workspace_id":"{ID}"}}}}"#)), named());
        assert_eq!(session(r#"{"client_reference_id":"order 7"}"#), WorkspaceLink::Absent);
        assert_eq!(session(r#"{"metadata":{"workspaceId":"7"}}"#), WorkspaceLink::Bad);
    }

    #[test]
    fn a_value_that_is_not_a_uuid_is_bad() {
        for value in ["\"42\"", "42", "{}", "true", "\"0c8f5a54-3b1e-4f57-9a53\""] {
            assert_eq!(link(&format!(r#"{{"workspace_id":{value}}}"#)), WorkspaceLink::Bad, "{value}");
        }
    }
}
