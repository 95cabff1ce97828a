//! The parts of an OpenAPI document that several dialects share: its frame, and the responses of problems.

use std::collections::BTreeMap;

use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ServerBuilder};

use super::problem::{Code, FieldError, ProblemDocument};

/// The frame of the document of a dialect, for a service at this path.
pub(super) fn frame(prefix: &str, title: &str, version: &str, description: &str) -> OpenApi {
    let info = InfoBuilder::new().title(title).version(version).description(Some(description)).build();
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
pub(super) fn responses(codes: &[Code]) -> BTreeMap<String, RefOr<Response>> {
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

/// Declares the responses of problems: a type for each set, with the codes of its problems.
macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident: $($code:ident),* $(,)?;)*) => {
        $($(#[$doc])*
        pub(super) struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<
                String,
                utoipa::openapi::RefOr<utoipa::openapi::response::Response>,
            > {
                $crate::api::documented::responses(&[$($crate::api::problem::Code::$code),*])
            }
        })*
    };
}

pub(super) use problems;
