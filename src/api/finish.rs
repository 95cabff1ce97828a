//! The outermost layer: gives every request an id, renders problems, and counts the answer.

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

use super::checkout_links;
use super::context::{ApiContext, Shared};
use super::problem::{Code, Problem};
use super::wait::Waited;

/// Header with the id of the request.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Runs the request and finishes its answer.
pub(super) async fn finish(State(api): State<Shared>, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let id = Uuid::new_v4().to_string();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let span = tracing::info_span!("api", request.id = %id);
    let mut response = next.run(request).instrument(span).await;
    if let Some(problem) = problem_of(&mut response) {
        api.metrics.problem(problem.code.as_str());
        render(&mut response, &problem, &id);
    }
    if let Ok(id) = HeaderValue::try_from(&id) {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    let waited = response.extensions().get::<Waited>().is_some();
    let route = route.as_deref().and_then(|route| without_prefix(&api, route));
    // axum answers HEAD by the handler of GET
    let method = if method == hyper::Method::HEAD { "GET" } else { method.as_str() };
    let (status, duration) = (response.status().as_u16(), begin.elapsed());
    let milliseconds = duration.as_millis();
    tracing::debug!(request.id = %id, method, route, status, milliseconds, "answered an API request");
    api.metrics.answered(method, route, status, duration, waited);
    response
}

/// The template of a route without the prefix of its dialect.
fn without_prefix<'a>(api: &ApiContext, route: &'a str) -> Option<&'a str> {
    let links = api.links_prefix.as_deref().and_then(|prefix| route.strip_prefix(prefix));
    let links = links.filter(|route| route.starts_with(checkout_links::LINKS));
    links.or_else(|| route.strip_prefix(&api.prefix))
}

/// The problem of a response: the handler's, or one for the errors of the router itself.
fn problem_of(response: &mut Response) -> Option<Problem> {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return Some(problem);
    }
    match response.status() {
        StatusCode::NOT_FOUND => {
            Some(Problem::new(Code::NotFound, "there is no such path; openapi.json lists all paths"))
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            Some(Problem::new(Code::MethodNotAllowed, "use one of the methods in the header Allow"))
        }
        // a part of the path that is not UTF-8
        status if status.is_client_error() => Some(Problem::not_found("resource")),
        status if status.is_server_error() => Some(Problem::new(Code::InternalError, "the request failed")),
        _ => None,
    }
}

/// Makes the response the problem of the request with this id.
pub(super) fn render<B: From<Bytes>>(response: &mut Response<B>, problem: &Problem, id: &str) {
    *response.status_mut() = StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // a struct of texts and numbers cannot fail to serialise
    let body = serde_json::to_vec(&problem.document(id)).unwrap_or_default();
    *response.body_mut() = B::from(Bytes::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.remove(CONTENT_LENGTH);
    if let Some(wait) = problem.retry_after {
        // at least the time that is needed, in whole seconds
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
    }
    let challenge = match problem.code {
        Code::AuthenticationRequired => "Bearer realm=\"billing-sync\"",
        Code::InvalidToken => "Bearer realm=\"billing-sync\", error=\"invalid_token\"",
        Code::InsufficientScope => "Bearer realm=\"billing-sync\", error=\"insufficient_scope\"",
        _ => return,
    };
    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
}
