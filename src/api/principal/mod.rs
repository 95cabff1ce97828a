//! Who sends a request: a user of the product with a JWT, or a service with one of our tokens.
//!
//! ```text
//! Authorization: Bearer ─┬─ bs_<id>_<secret> ─▶ token, token_store   billing.api_tokens
//!                        └─ anything else ────▶ jwt                  keys of the identity provider (jwks)
//!                                    both ─▶ Principal: user, scopes ─▶ Access: which workspaces
//! ```
//!
//! There is no anonymous access. Called by `api::authenticate` and by the `token` commands.

pub mod jwks;
pub mod jwt;
pub mod token;
pub mod token_store;

use uuid::Uuid;

/// The permission to do one kind of thing, as written in tokens and in the roles claim of a JWT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Read the workspaces of the user.
    WorkspacesRead,
    /// Create workspaces, consume limits, and change the workspaces that the user owns. Includes reading.
    WorkspacesWrite,
    /// Read and change all workspaces.
    WorkspacesAdmin,
    /// Create checkout links.
    CheckoutLinkWrite,
}

impl Scope {
    /// All scopes, in the order in which they are listed.
    pub const ALL: [Self; 4] =
        [Self::WorkspacesRead, Self::WorkspacesWrite, Self::WorkspacesAdmin, Self::CheckoutLinkWrite];

    /// The name of the scope.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WorkspacesRead => "workspaces:read",
            Self::WorkspacesWrite => "workspaces:write",
            Self::WorkspacesAdmin => "workspaces:admin",
            Self::CheckoutLinkWrite => "checkout-link:write",
        }
    }

    /// The scope with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }

    /// Whether this scope permits what `wanted` permits. The scopes of workspaces do not permit checkout links, nor the
    /// other way round.
    fn includes(self, wanted: Self) -> bool {
        match self {
            Self::WorkspacesRead => wanted == Self::WorkspacesRead,
            Self::WorkspacesWrite => matches!(wanted, Self::WorkspacesRead | Self::WorkspacesWrite),
            Self::WorkspacesAdmin => wanted != Self::CheckoutLinkWrite,
            Self::CheckoutLinkWrite => wanted == Self::CheckoutLinkWrite,
        }
    }
}

/// Prefix of the id of a principal with one of our tokens.
pub const TOKEN: &str = "token:";

/// The authenticated sender of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Identifies the sender in rate limits and idempotency keys: `token:<id>` or `user:<uuid>`. Not a secret.
    pub id: String,
    /// The user who counts as logged in; `None` for a service.
    pub user: Option<Uuid>,
    /// The user's name, e-mail address and language, from the JWT.
    pub profile: Profile,
    /// The user's id in a legacy system, from the JWT; stored with workspaces that the user creates.
    pub legacy_customer: Option<i64>,
    /// What the principal may do.
    pub scopes: Vec<Scope>,
}

/// What the identity provider says of a user; empty for our tokens. Its `Debug` shows nothing of it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// The e-mail address.
    pub email: Option<String>,
    /// The full name.
    pub name: Option<String>,
    /// The language, such as `de` or `pt-BR`.
    pub locale: Option<String>,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").finish_non_exhaustive()
    }
}

/// Which workspaces a principal may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// All workspaces.
    All,
    /// The workspaces of which this user is a member.
    Member(Uuid),
    /// None: a token without a user and without the admin scope.
    Nothing,
}

impl Principal {
    /// Whether one of the scopes permits what `wanted` permits.
    pub fn may(&self, wanted: Scope) -> bool {
        self.scopes.iter().any(|scope| scope.includes(wanted))
    }

    /// Whether a service sends the request, not a user's browser: one of our tokens, or the admin scope.
    pub fn is_service(&self) -> bool {
        self.id.starts_with(TOKEN) || self.may(Scope::WorkspacesAdmin)
    }

    /// The workspaces that the principal may see.
    pub fn access(&self) -> Access {
        match self.user {
            _ if self.may(Scope::WorkspacesAdmin) => Access::All,
            Some(user) => Access::Member(user),
            None => Access::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(user: Option<Uuid>, scopes: &[Scope]) -> Principal {
        Principal {
            id: "token:1".to_owned(),
            user,
            profile: Profile::default(),
            legacy_customer: None,
            scopes: scopes.to_vec(),
        }
    }

    #[test]
    fn a_scope_includes_the_weaker_ones() {
        let writer = principal(None, &[Scope::WorkspacesWrite]);
        assert!(writer.may(Scope::WorkspacesRead) && writer.may(Scope::WorkspacesWrite));
        assert!(!writer.may(Scope::WorkspacesAdmin));
        assert!(!principal(None, &[]).may(Scope::WorkspacesRead));
        let admin = principal(None, &[Scope::WorkspacesAdmin]);
        let permitted = |principal: &Principal| Scope::ALL.map(|scope| principal.may(scope));
        assert_eq!(permitted(&admin), [true, true, true, false]);
        assert_eq!(permitted(&principal(None, &[Scope::CheckoutLinkWrite])), [false, false, false, true]);
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
        }
        assert_eq!(Scope::parse("workspaces"), None);
    }

    #[test]
    fn only_the_admin_scope_sees_all_workspaces() {
        let user = Some(Uuid::from_u128(1));
        assert_eq!(principal(user, &[Scope::WorkspacesRead]).access(), Access::Member(Uuid::from_u128(1)));
        assert_eq!(principal(user, &[Scope::WorkspacesAdmin]).access(), Access::All);
        assert_eq!(principal(None, &[Scope::WorkspacesWrite]).access(), Access::Nothing);
    }
}
