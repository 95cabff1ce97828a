//! The closed list of problems: code, status, title, and whether the same request may succeed later. PURE.

/// What is wrong with a request, or why it could not be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The request has no credentials.
    AuthenticationRequired,
    /// The credentials are invalid, expired or revoked.
    InvalidToken,
    /// The keys of the identity provider cannot be loaded.
    IdentityProviderUnavailable,
    /// The token does not have the required scope.
    InsufficientScope,
    /// Only an owner of the workspace may do this.
    OwnerRequired,
    /// The request needs a user, and the token is bound to none.
    UserRequired,
    /// Only a service may do this, not a user.
    ServiceRequired,
    /// The resource does not exist, or the caller may not see it.
    NotFound,
    /// The resource does not have this method.
    MethodNotAllowed,
    /// The request cannot be read.
    MalformedRequest,
    /// The body is not JSON.
    UnsupportedMediaType,
    /// The body is too large.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// Fields or parameters are missing or invalid.
    InvalidFields,
    /// The resource has changed since the client read it.
    PreconditionFailed,
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// The first request with this idempotency key is still running.
    IdempotencyKeyInUse,
    /// The user owns as many workspaces as allowed.
    TooManyWorkspaces,
    /// A subscription of the workspace has not ended.
    WorkspaceHasSubscription,
    /// Less than the amount is left of the limit.
    LimitUsedUp,
    /// The workspace's subscription is not active.
    SubscriptionInactive,
    /// The workspace has no subscription.
    NoSubscription,
    /// The workspace has no such limit.
    NoSuchLimit,
    /// It is not known yet whether the workspace has such a limit.
    LimitNotKnownYet,
    /// The limit renews, so nothing can be released.
    LimitNotReleasable,
    /// More would be released than was consumed.
    ReleaseExceedsUsage,
    /// More would be used in one period than can be stored.
    UsageOutOfRange,
    /// The principal sends too many requests.
    RateLimited,
    /// The service is busy.
    Busy,
    /// The database does not answer.
    DatabaseUnavailable,
    /// A bug.
    InternalError,
}

/// What is the same in all problems of a code.
struct Entry {
    code: &'static str,
    status: u16,
    title: &'static str,
    /// Whether the same request may succeed later without any change.
    retryable: bool,
}

impl Code {
    /// All codes, in the order in which they are documented.
    pub const ALL: [Self; 31] = [
        Self::MalformedRequest,
        Self::AuthenticationRequired,
        Self::InvalidToken,
        Self::InsufficientScope,
        Self::OwnerRequired,
        Self::UserRequired,
        Self::ServiceRequired,
        Self::NotFound,
        Self::NoSuchLimit,
        Self::MethodNotAllowed,
        Self::BodyTooSlow,
        Self::TooManyWorkspaces,
        Self::WorkspaceHasSubscription,
        Self::IdempotencyKeyInUse,
        Self::LimitUsedUp,
        Self::SubscriptionInactive,
        Self::NoSubscription,
        Self::LimitNotReleasable,
        Self::ReleaseExceedsUsage,
        Self::UsageOutOfRange,
        Self::PreconditionFailed,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidFields,
        Self::IdempotencyKeyReused,
        Self::RateLimited,
        Self::InternalError,
        Self::LimitNotKnownYet,
        Self::IdentityProviderUnavailable,
        Self::DatabaseUnavailable,
        Self::Busy,
    ];

    /// The code as text; part of the API, never renamed.
    pub fn as_str(self) -> &'static str {
        self.entry().code
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        self.entry().status
    }

    /// What went wrong, in a few words.
    pub fn title(self) -> &'static str {
        self.entry().title
    }

    /// Whether the same request may succeed later without any change.
    pub fn is_retryable(self) -> bool {
        self.entry().retryable
    }

    fn entry(self) -> Entry {
        let (code, status, title, retryable) = match self {
            Self::MalformedRequest => ("malformed-request", 400, "The request cannot be read", false),
            Self::AuthenticationRequired => ("authentication-required", 401, "Authentication is required", false),
            Self::InvalidToken => ("invalid-token", 401, "The token is not accepted", false),
            Self::InsufficientScope => ("insufficient-scope", 403, "The token does not have the required scope", false),
            Self::OwnerRequired => ("owner-required", 403, "Only an owner of the workspace may do this", false),
            Self::UserRequired => ("user-required", 403, "The token is not bound to a user", false),
            Self::ServiceRequired => ("service-required", 403, "Only a service may do this", false),
            Self::NotFound => ("not-found", 404, "Not found", false),
            Self::NoSuchLimit => ("no-such-limit", 404, "The workspace has no such limit", false),
            Self::MethodNotAllowed => ("method-not-allowed", 405, "The method is not allowed here", false),
            Self::BodyTooSlow => ("body-too-slow", 408, "The body did not arrive in time", true),
            Self::TooManyWorkspaces => {
                ("too-many-workspaces", 409, "The user owns as many workspaces as allowed", false)
            }
            Self::WorkspaceHasSubscription => {
                ("workspace-has-subscription", 409, "A subscription of the workspace has not ended", false)
            }
            Self::IdempotencyKeyInUse => {
                ("idempotency-key-in-use", 409, "The first request with this key is still running", true)
            }
            Self::LimitUsedUp => ("limit-used-up", 409, "Less than the amount is left", false),
            Self::SubscriptionInactive => ("subscription-inactive", 409, "The subscription is not active", false),
            Self::NoSubscription => ("no-subscription", 409, "The workspace has no subscription", false),
            Self::LimitNotReleasable => ("limit-not-releasable", 409, "The limit renews and cannot be released", false),
            Self::ReleaseExceedsUsage => ("release-exceeds-usage", 409, "More was released than was consumed", false),
            Self::UsageOutOfRange => ("usage-out-of-range", 409, "More would be used than can be stored", false),
            Self::PreconditionFailed => ("precondition-failed", 412, "The resource has changed", false),
            Self::BodyTooLarge => ("body-too-large", 413, "The body is too large", false),
            Self::UnsupportedMediaType => ("unsupported-media-type", 415, "The body is not JSON", false),
            Self::InvalidFields => ("invalid-fields", 422, "Fields are missing or invalid", false),
            Self::IdempotencyKeyReused => {
                ("idempotency-key-reused", 422, "The idempotency key was used for another request", false)
            }
            Self::RateLimited => ("rate-limited", 429, "Too many requests", true),
            Self::InternalError => ("internal-error", 500, "An internal error occurred", false),
            Self::LimitNotKnownYet => {
                ("limit-not-known-yet", 503, "It is not known yet whether the limit exists", true)
            }
            Self::IdentityProviderUnavailable => {
                ("identity-provider-unavailable", 503, "Tokens cannot be verified at the moment", true)
            }
            Self::DatabaseUnavailable => ("database-unavailable", 503, "The database does not answer", true),
            Self::Busy => ("busy", 503, "The service is busy", true),
        };
        Entry { code, status, title, retryable }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_sorted_by_status() {
        let codes: BTreeSet<_> = Code::ALL.map(Code::as_str).into();
        assert_eq!(codes.len(), Code::ALL.len());
        assert!(Code::ALL.is_sorted_by_key(|code| code.status()));
    }
}
