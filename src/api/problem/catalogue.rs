//! The closed list of problems: code, status, title, and whether the same request may succeed later. PURE.

/// Declares [`Code`]: each problem once, with its code, its HTTP status, its title, and whether the same request may
/// succeed later without any change.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident: $code:literal, $status:literal, $title:literal, $retryable:literal;)*) => {
        /// What is wrong with a request, or why it could not be answered.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All codes, in the order in which they are documented.
            pub const ALL: [Self; [$($status),*].len()] = [$(Self::$name),*];

            /// The code as text; part of the API, never renamed.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                }
            }

            /// What went wrong, in a few words.
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                }
            }

            /// Whether the same request may succeed later without any change.
            pub fn is_retryable(self) -> bool {
                match self {
                    $(Self::$name => $retryable,)*
                }
            }
        }
    };
}

codes! {
    /// The request cannot be read.
    MalformedRequest: "malformed-request", 400, "The request cannot be read", false;
    /// The request has no credentials.
    AuthenticationRequired: "authentication-required", 401, "Authentication is required", false;
    /// The credentials are invalid, expired or revoked.
    InvalidToken: "invalid-token", 401, "The token is not accepted", false;
    /// Stripe declined the payment.
    PaymentDeclined: "payment-declined", 402, "The payment was declined", false;
    /// The token does not have the required scope.
    InsufficientScope: "insufficient-scope", 403, "The token does not have the required scope", false;
    /// Only an owner of the workspace may do this.
    OwnerRequired: "owner-required", 403, "Only an owner of the workspace may do this", false;
    /// The request needs a user, and the token is bound to none.
    UserRequired: "user-required", 403, "The token is not bound to a user", false;
    /// Only a service may do this, not a user.
    ServiceRequired: "service-required", 403, "Only a service may do this", false;
    /// The resource does not exist, or the caller may not see it.
    NotFound: "not-found", 404, "Not found", false;
    /// The workspace has no such limit.
    NoSuchLimit: "no-such-limit", 404, "The workspace has no such limit", false;
    /// The resource does not have this method.
    MethodNotAllowed: "method-not-allowed", 405, "The method is not allowed here", false;
    /// The body did not arrive in time.
    BodyTooSlow: "body-too-slow", 408, "The body did not arrive in time", true;
    /// The user owns as many workspaces as allowed.
    TooManyWorkspaces: "too-many-workspaces", 409, "The user owns as many workspaces as allowed", false;
    /// A subscription of the workspace has not ended.
    WorkspaceHasSubscription: "workspace-has-subscription", 409, "A subscription of the workspace has not ended", false;
    /// The first request with this idempotency key is still running.
    IdempotencyKeyInUse: "idempotency-key-in-use", 409, "The first request with this key is still running", true;
    /// Less than the amount is left of the limit.
    LimitUsedUp: "limit-used-up", 409, "Less than the amount is left", false;
    /// The workspace's subscription is not active.
    SubscriptionInactive: "subscription-inactive", 409, "The subscription is not active", false;
    /// The workspace has no subscription.
    NoSubscription: "no-subscription", 409, "The workspace has no subscription", false;
    /// A value of the limit in Stripe is neither a number nor unlimited.
    LimitUnreadable: "limit-unreadable", 409, "The limit has an invalid value in Stripe", false;
    /// The limit renews, so nothing can be released.
    LimitNotReleasable: "limit-not-releasable", 409, "The limit renews and cannot be released", false;
    /// More would be released than was consumed.
    ReleaseExceedsUsage: "release-exceeds-usage", 409, "More was released than was consumed", false;
    /// More would be used in one period than can be stored.
    UsageOutOfRange: "usage-out-of-range", 409, "More would be used than can be stored", false;
    /// The workspace has a subscription, and checkout must not replace it.
    SubscriptionExists: "subscription-exists", 409, "The workspace has a subscription already", false;
    /// Another change of the same customer or workspace is in progress.
    WriteInProgress: "write-in-progress", 409, "Another change is in progress", true;
    /// The answer to this idempotency key is not kept any more.
    IdempotencyKeyExpired: "idempotency-key-expired", 410, "The answer to this key is not kept any more", false;
    /// The resource has changed since the client read it.
    PreconditionFailed: "precondition-failed", 412, "The resource has changed", false;
    /// The body is too large.
    BodyTooLarge: "body-too-large", 413, "The body is too large", false;
    /// The body is not JSON.
    UnsupportedMediaType: "unsupported-media-type", 415, "The body is not JSON", false;
    /// Fields or parameters are missing or invalid.
    InvalidFields: "invalid-fields", 422, "Fields are missing or invalid", false;
    /// The idempotency key was used for another request.
    IdempotencyKeyReused: "idempotency-key-reused", 422, "The idempotency key was used for another request", false;
    /// The principal sends too many requests.
    RateLimited: "rate-limited", 429, "Too many requests", true;
    /// Stripe asks to send fewer requests.
    StripeRateLimited: "stripe-rate-limited", 429, "Stripe asks to send fewer requests", true;
    /// A bug.
    InternalError: "internal-error", 500, "An internal error occurred", false;
    /// No key for writes is configured.
    WritesNotConfigured: "writes-not-configured", 501, "Changes at Stripe are not configured", false;
    /// Stripe refuses the request of billing-sync.
    StripeRejected: "stripe-rejected", 502, "Stripe rejected the request", false;
    /// Stripe refuses the key for writes.
    StripeKeyRefused: "stripe-key-refused", 502, "Stripe refuses the key of billing-sync", false;
    /// Stripe cannot be reached; nothing was changed.
    StripeUnavailable: "stripe-unavailable", 503, "Stripe cannot be reached", true;
    /// The change may have been made or not.
    OutcomeUnknown: "outcome-unknown", 503, "It is not known yet whether the change was made", true;
    /// It is not known yet whether the workspace has such a limit.
    LimitNotKnownYet: "limit-not-known-yet", 503, "It is not known yet whether the limit exists", true;
    /// The limits of the subscription cannot be computed.
    LimitNotComputable: "limit-not-computable", 503, "The limits cannot be computed", true;
    /// The keys of the identity provider cannot be loaded.
    IdentityProviderUnavailable: "identity-provider-unavailable", 503, "Tokens cannot be verified at the moment", true;
    /// The database does not answer.
    DatabaseUnavailable: "database-unavailable", 503, "The database does not answer", true;
    /// The service is busy.
    Busy: "busy", 503, "The service is busy", true;
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
