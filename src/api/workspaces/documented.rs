//! The description of the workspace API, and the problems of its operations.

use utoipa::openapi::OpenApi;

use crate::api::documented::{frame, problems};

/// Version of the API. The first number rises with a breaking change; a test refuses one without it.
const VERSION: &str = "1.0.0";

const DESCRIPTION: &str = "\
Workspaces with their billing state, kept up to date by Stripe's webhooks. No read asks Stripe. Changes of billing contacts and \
checkout sessions are made at Stripe, once for each request, also if a request is repeated or interrupted.

Authenticate with `Authorization: Bearer`: a JWT of the identity provider, or a token of `billing-sync token create`. \
What the caller may not see is answered like what does not exist: 404.

Errors are problem details (RFC 9457) with a `code` from a closed list. Unknown fields and parameters are ignored, and \
empty parameters count as absent. Absent values are null. \
`ETag` and `If-None-Match` save transfers; `Billing-As-Of` and `Billing-Pending` say how fresh an answer is.";

/// The frame of the document, for a service at this path.
pub(crate) fn document(prefix: &str) -> OpenApi {
    frame(prefix, "Workspace API of billing-sync", VERSION, DESCRIPTION)
}

problems! {
    /// Problems of a list.
    ListProblems: InvalidFields;
    /// Problems of reading one resource.
    ReadProblems: NotFound;
    /// Problems of reading one resource by a query parameter, or a page of what belongs to it.
    QueryProblems: NotFound, InvalidFields;
    /// Problems of creating a workspace.
    CreateProblems: MalformedRequest, UserRequired, BodyTooSlow, TooManyWorkspaces, IdempotencyKeyInUse,
        IdempotencyKeyExpired, BodyTooLarge, UnsupportedMediaType, InvalidFields, IdempotencyKeyReused;
    /// Problems of changing a workspace.
    UpdateProblems: MalformedRequest, OwnerRequired, NotFound, BodyTooSlow, PreconditionFailed, BodyTooLarge,
        UnsupportedMediaType, InvalidFields;
    /// Problems of deleting a workspace.
    DeleteProblems: OwnerRequired, NotFound, WorkspaceHasSubscription, PreconditionFailed;
    /// Problems of changing a billing contact.
    ContactProblems: MalformedRequest, PaymentDeclined, OwnerRequired, NotFound, BodyTooSlow, IdempotencyKeyInUse,
        WriteInProgress, IdempotencyKeyExpired, PreconditionFailed, BodyTooLarge, UnsupportedMediaType, InvalidFields,
        IdempotencyKeyReused, StripeRateLimited, WritesNotConfigured, StripeRejected, StripeKeyRefused,
        StripeUnavailable, OutcomeUnknown;
    /// Problems of creating a checkout session.
    CheckoutProblems: MalformedRequest, PaymentDeclined, OwnerRequired, NotFound, BodyTooSlow, IdempotencyKeyInUse,
        SubscriptionExists, WriteInProgress, IdempotencyKeyExpired, BodyTooLarge, UnsupportedMediaType, InvalidFields,
        IdempotencyKeyReused, StripeRateLimited, WritesNotConfigured, StripeRejected, StripeKeyRefused,
        StripeUnavailable, OutcomeUnknown;
    /// Problems of consuming a limit.
    ConsumeProblems: MalformedRequest, ServiceRequired, NotFound, NoSuchLimit, BodyTooSlow, IdempotencyKeyInUse,
        LimitUsedUp, SubscriptionInactive, NoSubscription, LimitUnreadable, UsageOutOfRange, BodyTooLarge,
        UnsupportedMediaType, InvalidFields, IdempotencyKeyReused, LimitNotKnownYet, LimitNotComputable;
    /// Problems of releasing a limit.
    ReleaseProblems: MalformedRequest, ServiceRequired, NotFound, NoSuchLimit, BodyTooSlow, IdempotencyKeyInUse,
        NoSubscription, LimitUnreadable, LimitNotReleasable, ReleaseExceedsUsage, BodyTooLarge, UnsupportedMediaType,
        InvalidFields, IdempotencyKeyReused, LimitNotKnownYet, LimitNotComputable;
}
