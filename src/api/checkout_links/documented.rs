//! The description of the API of checkout links, and the problems of its operations.

use utoipa::openapi::OpenApi;

use crate::api::documented::{frame, problems};

/// The path of all links, which also comes before the description and its reader.
pub(crate) const LINKS: &str = "/checkout-links";

/// Version of the API. The first number rises with a breaking change; a test refuses one without it.
const VERSION: &str = "1.0.0";

const DESCRIPTION: &str = "\
Links at which customers buy what they list. Each one is a payment link in Stripe, created once for each request, also if \
a request is repeated or interrupted.

Authenticate with `Authorization: Bearer`: a token of `billing-sync token create --scopes checkout-link:write`, or a JWT \
with an admin role.

Ids of plans are UUIDs of billing-sync, or those of their prices in Stripe; both are accepted wherever a plan or a price \
is named. Products have the ids of Stripe.

Stripe has no counterpart of contract periods, of the URL of the back button, of trials that do not apply to a single \
price, and of plans that customers configure. The first two are kept and returned as they were sent, and have no effect.

Errors are problem details (RFC 9457) with a `code` from a closed list. Unknown fields are ignored. Absent values are null.";

/// The frame of the document, for a service at this path.
pub(crate) fn document(prefix: &str) -> OpenApi {
    frame(prefix, "Checkout links of billing-sync", VERSION, DESCRIPTION)
}

problems! {
    /// Problems of creating a checkout link.
    CreateProblems: MalformedRequest, BodyTooSlow, IdempotencyKeyInUse, WriteInProgress, IdempotencyKeyExpired,
        BodyTooLarge, UnsupportedMediaType, InvalidFields, IdempotencyKeyReused, StripeRateLimited,
        WritesNotConfigured, StripeRejected, StripeKeyRefused, StripeUnavailable, OutcomeUnknown;
}
