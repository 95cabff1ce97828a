//! The layer that authenticates every request of a dialect, before any handler.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::Body as _;
use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, Method};
use tokio_util::sync::CancellationToken;

use super::context::Shared;
use super::principal::jwt::JwtError;
use super::principal::{Principal, Scope, token, token_store};
use super::problem::{Code, Problem};

/// In the extensions of a request: cancelled once it is authenticated and received, so that its connection keeps its
/// slot.
#[derive(Debug, Clone, Default)]
pub(super) struct Authenticated(pub(super) CancellationToken);

/// Authenticates the request and puts its [`Principal`] into its extensions.
pub(super) async fn authenticate(
    State(api): State<Shared>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let principal = principal(&api, request.headers()).await?;
    // otherwise the body is received first, by `JsonObject`
    if let Some(authenticated) = request.extensions().get::<Authenticated>().filter(|_| reads_no_body(&request)) {
        authenticated.0.cancel();
    }
    api.rate.check(&principal.id)?;
    request.extensions_mut().insert(principal);
    Ok(next.run(request).await)
}

/// Whether the handler reads no body.
fn reads_no_body(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::DELETE) || request.body().is_end_stream()
}

async fn principal(api: &Shared, headers: &HeaderMap) -> Result<Principal, Problem> {
    let credentials = bearer(headers)?;
    if credentials.starts_with(token::PREFIX) {
        let refused = "the token is unknown, expired or revoked; see `billing-sync token list`";
        // before a connection is used for it
        if token::Token::parse(credentials).is_none() {
            return Err(Problem::new(Code::InvalidToken, refused));
        }
        let principal = token_store::authenticate(&mut api.connection().await?, credentials).await?;
        return principal.ok_or_else(|| Problem::new(Code::InvalidToken, refused));
    }
    let Some(verifier) = &api.verifier else {
        let detail = "only tokens of `billing-sync token create` (bs_…) are accepted, because no identity provider is \
                      configured";
        return Err(Problem::new(Code::InvalidToken, detail));
    };
    verifier.verify(credentials).await.map_err(|error| match error {
        JwtError::KeysUnavailable => {
            Problem::new(Code::IdentityProviderUnavailable, "the keys of the identity provider cannot be loaded")
                .retry_after(std::time::Duration::from_secs(5))
        }
        error => Problem::new(Code::InvalidToken, format!("the JWT is not accepted: {error}")),
    })
}

/// The credentials of the one header `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let required =
        || Problem::new(Code::AuthenticationRequired, "send one header Authorization: Bearer with a token or a JWT");
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().and_then(|value| value.to_str().ok()).ok_or_else(required)?;
    if values.next().is_some() {
        return Err(required());
    }
    let (scheme, credentials) = value.split_once(' ').ok_or_else(required)?;
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !credentials.is_empty() { Ok(credentials) } else { Err(required()) }
}

impl Principal {
    /// Refuses a principal without a scope.
    pub(super) fn require(&self, scope: Scope) -> Result<(), Problem> {
        if self.may(scope) {
            return Ok(());
        }
        Err(Problem::new(Code::InsufficientScope, format!("the token needs the scope {}", scope.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn bearer_of(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        bearer(&headers).ok().map(ToOwned::to_owned)
    }

    #[test]
    fn one_bearer_header_is_accepted() {
        assert_eq!(bearer_of(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(bearer_of(&["bearer  abc "]).as_deref(), Some("abc"));
        for wrong in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["Basic abc"],
            &["abc"],
            &["Bearer a", "Bearer a"],
            &["Bearer ä"],
        ] {
            assert_eq!(bearer_of(wrong), None, "{wrong:?}");
        }
    }
}
