//! A successful answer: its body, its entity tag, and the headers that say how fresh it is.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, LOCATION, VARY,
};
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::problem::{Code, Problem};
use super::rows::Freshness;

/// How far events have been compared with Stripe's list.
pub(super) const BILLING_AS_OF: HeaderName = HeaderName::from_static("billing-as-of");
/// Number of stored events of the customer that are not applied yet.
pub(super) const BILLING_PENDING: HeaderName = HeaderName::from_static("billing-pending");
/// Set if an earlier answer is repeated.
pub(super) const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// An answer with a JSON body.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
    pub(super) freshness: Option<Freshness>,
    pub(super) location: Option<String>,
    /// An entity tag that is not the hash of the whole body.
    weak_etag: Option<String>,
    /// Whether this is the answer to an earlier request with the same idempotency key.
    pub(super) replayed: bool,
    /// A field that is null in `body`, which is stored, and its value, which is not.
    secret: Option<Secret>,
}

/// The name and value of a field.
#[derive(Clone)]
struct Secret(&'static str, String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Secret").field(&self.0).finish_non_exhaustive()
    }
}

impl Secret {
    /// The body with the value in its field.
    fn put_into(self, body: Vec<u8>) -> Vec<u8> {
        let Self(field, value) = self;
        let (Ok(body), Ok(value)) = (std::str::from_utf8(&body), serde_json::to_string(&value)) else { return body };
        body.replacen(&format!("\"{field}\":null"), &format!("\"{field}\":{value}"), 1).into_bytes()
    }
}

impl Answer {
    /// 200 with this body.
    pub(super) fn ok(body: &impl Serialize, freshness: Option<Freshness>) -> Result<Self, Problem> {
        let body = serde_json::to_vec(body).map_err(|error| {
            tracing::error!(%error, "could not render an answer");
            Problem::new(Code::InternalError, "the answer could not be rendered")
        })?;
        let (status, location) = (StatusCode::OK, None);
        Ok(Self { status, body, freshness, location, weak_etag: None, replayed: false, secret: None })
    }

    /// The entity tag: a hash of the body, because the body also depends on the time.
    pub(super) fn etag(&self) -> String {
        if let Some(etag) = &self.weak_etag {
            return etag.clone();
        }
        format!("\"{}\"", hex::encode(&Sha256::digest(&self.body)[..16]))
    }

    /// The same answer as 201, with the path of the new resource.
    #[must_use]
    pub(super) fn created(self, location: String) -> Self {
        Self { status: StatusCode::CREATED, location: Some(location), ..self }
    }

    /// The same answer to a repeated request.
    #[must_use]
    pub(super) fn into_replayed(self) -> Self {
        Self { replayed: true, ..self }
    }

    /// The answer to an earlier request with the same idempotency key.
    pub(super) fn replayed(status: StatusCode, body: Vec<u8>, location: Option<String>) -> Self {
        Self { status, body, freshness: None, location, weak_etag: None, replayed: true, secret: None }
    }

    /// The same answer with the tag of a part of its body, because the rest changes without a change of the row.
    #[must_use]
    pub(super) fn with_weak_etag(self, etag: &str) -> Self {
        Self { weak_etag: Some(format!("W/{etag}")), ..self }
    }

    /// The same answer with a value in a field that is null, and that is not stored.
    #[must_use]
    pub(super) fn with_secret(self, secret: Option<(&'static str, String)>) -> Self {
        Self { secret: secret.map(|(field, value)| Secret(field, value)), ..self }
    }

    /// The response to a GET, 304 if the client has this body already.
    pub(super) fn conditional(self, headers: &HeaderMap) -> Response {
        let etag = self.etag();
        let known = headers.get_all(IF_NONE_MATCH).iter().any(|value| matches(value, &etag));
        let mut response = self.into_response();
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
            response.headers_mut().remove(CONTENT_TYPE);
        }
        response
    }

    /// Refuses a change of a resource that is no longer the one that the client read (`If-Match`). `self` is the
    /// current answer to a GET.
    pub(super) fn check_if_match(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let mut wanted = headers.get_all(IF_MATCH).iter().peekable();
        if wanted.peek().is_none() || wanted.any(|value| matches_strongly(value, &self.etag())) {
            return Ok(());
        }
        Err(Problem::new(Code::PreconditionFailed, "the resource has changed; read it again and repeat the change"))
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let etag = self.etag();
        let body = match self.secret {
            Some(secret) => secret.put_into(self.body),
            None => self.body,
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // the answer depends on the caller, and on the time: caches must ask every time
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        headers.insert(VARY, HeaderValue::from_static("authorization"));
        let mut set = |name: HeaderName, value: Option<String>| {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name, value);
            }
        };
        set(ETAG, Some(etag));
        set(LOCATION, self.location);
        let freshness = self.freshness.unwrap_or_default();
        set(
            BILLING_AS_OF,
            freshness.as_of.and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok()),
        );
        set(BILLING_PENDING, freshness.pending.map(|pending| pending.to_string()));
        if self.replayed {
            headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// Whether a list of entity tags contains this one, compared strongly (RFC 9110, 13.1.1), or is `*`.
fn matches_strongly(value: &HeaderValue, etag: &str) -> bool {
    let Ok(text) = value.to_str() else { return false };
    text.split(',').map(str::trim).any(|tag| tag == "*" || (tag == etag && !tag.starts_with("W/")))
}

/// Whether a list of entity tags contains this one, compared weakly (RFC 9110, 13.1.2), or is `*`.
fn matches(value: &HeaderValue, etag: &str) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let strong = |tag: &str| tag.trim_start_matches("W/").to_owned();
    text.split(',').map(str::trim).any(|tag| tag == "*" || strong(tag) == strong(etag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer::ok(&"body", None).unwrap()
    }

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_known_body_is_not_sent_again() {
        let etag = answer().etag();
        for known in [etag.clone(), format!("W/{etag}"), format!("\"a\", {etag}"), "*".to_owned()] {
            let response = answer().conditional(&headers(IF_NONE_MATCH, &known));
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(response.headers()[ETAG], etag);
        }
        let response = answer().conditional(&headers(IF_NONE_MATCH, "\"other\""));
        assert_eq!(response.status(), StatusCode::OK);
    }

    #[test]
    fn a_change_of_a_stale_copy_is_refused() {
        assert!(answer().check_if_match(&HeaderMap::new()).is_ok());
        assert!(answer().check_if_match(&headers(IF_MATCH, &answer().etag())).is_ok());
        for stale in ["\"other\"".to_owned(), format!("W/{}", answer().etag())] {
            let refused = answer().check_if_match(&headers(IF_MATCH, &stale)).unwrap_err();
            assert_eq!(refused.code, Code::PreconditionFailed, "{stale}");
        }
    }
}
