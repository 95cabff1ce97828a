//! The layers around the dialects, and the paths that need no authentication: the description and its reader.

use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use hyper::Method;
use hyper::header::{
    AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH,
    LOCATION, REFERRER_POLICY, RETRY_AFTER, WWW_AUTHENTICATE,
};
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use super::answer::{BILLING_AS_OF, BILLING_PENDING, IDEMPOTENT_REPLAYED};
use super::authenticate::authenticate;
use super::context::Shared;
use super::finish::{X_REQUEST_ID, finish};
use super::wait::PREFERENCE_APPLIED;
use super::{checkout_links, openapi, workspaces};

/// How long a browser may remember the answer to a preflight request.
const PREFLIGHT_AGE: Duration = Duration::from_hours(1);

/// All routes, below their prefixes.
pub(super) fn router(api: Shared, cors_origins: &[String]) -> Router {
    let prefix = api.prefix.clone();
    let document = openapi::workspaces_at(&prefix);
    let mut all = dialect(&api, workspaces::routes(), document, (&prefix, &prefix));
    if let Some(prefix) = api.links_prefix.clone() {
        let document = openapi::checkout_links_at(&prefix);
        let described = format!("{prefix}{}", checkout_links::LINKS);
        all = all.merge(dialect(&api, checkout_links::routes(), document, (&prefix, &described)));
    }
    let all = if cors_origins.is_empty() { all } else { all.layer(cors(cors_origins)) };
    all.layer(map_response(harden)).layer(from_fn_with_state(api, finish))
}

/// The routes of a dialect below its prefix, and its description and reader below another path.
fn dialect(
    api: &Shared,
    routes: OpenApiRouter<Shared>,
    document: OpenApi,
    (prefix, described): (&str, &str),
) -> Router {
    let (routes, _) = routes.split_for_parts();
    let routes = routes.route_layer(from_fn_with_state(api.clone(), authenticate)).with_state(api.clone());
    let reader = SwaggerUi::new(format!("{described}/docs")).url(format!("{described}/openapi.json"), document);
    let reader = Router::from(reader).layer(map_response(confine));
    let routes = if prefix.is_empty() { Router::new().merge(routes) } else { Router::new().nest(prefix, routes) };
    routes.merge(reader)
}

/// Which pages may call the API from a browser. Without this layer: none.
fn cors(origins: &[String]) -> CorsLayer {
    let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            AUTHORIZATION,
            CONTENT_TYPE,
            IF_MATCH,
            IF_NONE_MATCH,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("prefer"),
        ])
        .expose_headers([
            ETAG,
            LOCATION,
            RETRY_AFTER,
            BILLING_AS_OF,
            BILLING_PENDING,
            IDEMPOTENT_REPLAYED,
            X_REQUEST_ID,
            PREFERENCE_APPLIED,
            WWW_AUTHENTICATE,
        ])
        .max_age(PREFLIGHT_AGE)
}

/// The reader may load nothing from elsewhere, and no other page may show it.
async fn confine(mut response: Response) -> Response {
    let policy = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Browsers must not guess another type of an answer.
async fn harden(mut response: Response) -> Response {
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(hyper::header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}
