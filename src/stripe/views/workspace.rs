//! The workspace in an object's metadata.
//!
//! Owns the two keys and the valid values. Must not know which object wins if several have a workspace: the projection
//! decides that. PURE; called by the customer and the subscription view.

use uuid::Uuid;

use crate::stripe::json::Json;

/// The metadata keys, in order of precedence.
pub(in crate::stripe) const KEYS: [&str; 2] = ["workspace_id", "workspaceId"];

/// The workspace in metadata. The text itself is not kept, because it is free text and may not be an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum WorkspaceLink {
    /// Neither key exists, or its value is blank (Stripe removes a key that is set to the empty string).
    #[default]
    Absent,
    /// The id of a workspace, which may not exist.
    Named(Uuid),
    /// A key exists, but its value is not a UUID.
    Invalid,
}

impl WorkspaceLink {
    /// Reads `metadata`. The first key with a value decides, even if the value is invalid.
    pub fn read(metadata: Json<'_>) -> Self {
        let Some(metadata) = metadata.object() else { return Self::Absent };
        let links = KEYS.map(|key| Self::of(metadata.get(key)));
        links.into_iter().find(|link| *link != Self::Absent).unwrap_or_default()
    }

    /// The link of a checkout session: its metadata, else its `client_reference_id`. The reference may have any
    /// content; one that is not a UUID counts as absent. In a session from a Payment Link it is ignored: there it is a
    /// parameter of the link's URL, and buyers, who can edit the URL, must not choose another workspace.
    pub fn of_session(session: Json<'_>) -> Self {
        match Self::read(session.get("metadata")) {
            Self::Absent if session.get("payment_link").is_null() => match Self::of(session.get("client_reference_id"))
            {
                Self::Invalid => Self::Absent,
                link => link,
            },
            link => link,
        }
    }

    /// The id of the workspace, if valid.
    pub fn named(self) -> Option<Uuid> {
        match self {
            Self::Named(id) => Some(id),
            Self::Absent | Self::Invalid => None,
        }
    }

    fn of(value: Json<'_>) -> Self {
        let text = value.text();
        if value.is_null() || text.as_deref().is_some_and(|text| text.trim().is_empty()) {
            return Self::Absent;
        }
        text.and_then(|text| Uuid::try_parse(text.trim()).ok()).map_or(Self::Invalid, Self::Named)
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
        assert_eq!(link(&format!(r#"{{"workspace_id":"x","workspaceId":"{ID}"}}"#)), WorkspaceLink::Invalid);
    }

    #[test]
    fn empty_metadata_has_no_workspace() {
        for metadata in ["null", "{}", r#"{"workspace_id":null}"#, r#"{"workspace_id":""}"#, "[]", "5"] {
            assert_eq!(link(metadata), WorkspaceLink::Absent, "{metadata}");
        }
    }

    #[test]
    fn a_session_has_its_workspace_in_metadata_or_reference() {
        let session = |text: &str| WorkspaceLink::of_session(json(text));
        assert_eq!(session(&format!(r#"{{"client_reference_id":"{ID}","metadata":{{}}}}"#)), named());
        let other = "11111111-2222-4333-8444-555555555555";
        let both = format!(r#"{{"client_reference_id":"{other}","metadata":{{"workspace_id":"{ID}"}}}}"#);
        assert_eq!(session(&both), named());
        let link = format!(r#"{{"client_reference_id":"{other}","payment_link":"plink_1","metadata":"#);
        assert_eq!(session(&format!("{link}{{}}}}")), WorkspaceLink::Absent, "the buyer can edit it");
        assert_eq!(session(&format!(r#"{link}{{"workspace_id":"{ID}"}}}}"#)), named());
        assert_eq!(session(r#"{"client_reference_id":"order 7"}"#), WorkspaceLink::Absent);
        assert_eq!(session(r#"{"metadata":{"workspaceId":"7"}}"#), WorkspaceLink::Invalid);
    }

    #[test]
    fn a_value_that_is_not_a_uuid_is_invalid() {
        for value in ["\"42\"", "42", "{}", "true", "\"0c8f5a54-3b1e-4f57-9a53\""] {
            assert_eq!(link(&format!(r#"{{"workspace_id":{value}}}"#)), WorkspaceLink::Invalid, "{value}");
        }
    }
}
