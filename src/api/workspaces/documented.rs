//! The parts of the OpenAPI document that several operations share.

use std::collections::BTreeMap;

use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ServerBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::api::problem::{Code, FieldError, ProblemDocument};

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
    let info = InfoBuilder::new()
        .title("Workspace API of billing-sync")
        .version(VERSION)
        .description(Some(DESCRIPTION))
        .build();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A JWT of the identity provider, or a token of `billing-sync token create`"))
        .build();
    let mut components = utoipa::openapi::Components::new();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let mut schemas =
        vec![(ProblemDocument::name().into_owned(), <ProblemDocument<'_> as utoipa::PartialSchema>::schema())];
    schemas.push((FieldError::name().into_owned(), <FieldError as utoipa::PartialSchema>::schema()));
    components.schemas.extend(schemas);
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([ServerBuilder::new().url(if prefix.is_empty() { "/" } else { prefix }).build()]))
        .components(Some(components))
        .build()
}

/// The problems of every operation: of authentication, of the rate, and of the service itself.
const COMMON: [Code; 8] = [
    Code::AuthenticationRequired,
    Code::InvalidToken,
    Code::InsufficientScope,
    Code::RateLimited,
    Code::InternalError,
    Code::IdentityProviderUnavailable,
    Code::DatabaseUnavailable,
    Code::Busy,
];

/// The responses for these problems, one for each status.
fn responses(codes: &[Code]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for code in codes.iter().chain(&COMMON) {
        by_status.entry(code.status()).or_default().push(code.as_str());
    }
    let problem = || ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = |codes: Vec<&str>| {
        let mut response = ResponseBuilder::new()
            .description(codes.join(", "))
            .content("application/problem+json", problem())
            .header("X-Request-Id", header(Type::String, "Id of the request"));
        if codes.contains(&"rate-limited") {
            response = response.header("Retry-After", header(Type::Integer, "Seconds to wait"));
        }
        response.build()
    };
    by_status.into_iter().map(|(status, codes)| (status.to_string(), response(codes).into())).collect()
}

fn header(schema: Type, description: &str) -> utoipa::openapi::header::Header {
    HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(schema))).description(Some(description)).build()
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident: $($code:ident),* $(,)?;)*) => {
        $($(#[$doc])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                responses(&[$(Code::$code),*])
            }
        })*
    };
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
        LimitUsedUp, SubscriptionInactive, NoSubscription, UsageOutOfRange, BodyTooLarge, UnsupportedMediaType,
        InvalidFields, IdempotencyKeyReused, LimitNotKnownYet;
    /// Problems of releasing a limit.
    ReleaseProblems: MalformedRequest, ServiceRequired, NotFound, NoSuchLimit, BodyTooSlow, IdempotencyKeyInUse,
        NoSubscription, LimitNotReleasable, ReleaseExceedsUsage, BodyTooLarge, UnsupportedMediaType, InvalidFields,
        IdempotencyKeyReused, LimitNotKnownYet;
}
