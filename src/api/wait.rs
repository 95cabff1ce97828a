//! `Prefer: wait=20`: a GET that is answered when the row changes, or after that time.
//!
//! The row is read again every second, because a view also changes when time passes, without any notification. A
//! waiting request holds no connection meanwhile.

use std::time::Duration;

use axum::response::Response;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue, IF_NONE_MATCH};
use tokio::time::{Instant, sleep_until};

use super::answer::Answer;
use super::context::ApiContext;
use super::principal::Principal;
use super::problem::{Code, Problem};

const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Says that the preference was followed.
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Longer waits are shortened: proxies often close a connection after 60 s without a byte.
const MAX_WAIT: u64 = 30;
/// Interval at which the row is read.
const INTERVAL: Duration = Duration::from_secs(1);

/// In the extensions of a response: the request waited, so its duration is not that of the service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waited;

/// Answers a GET with what `read` returns, after waiting for a change if the client prefers that. The client compares
/// with its own copy (`If-None-Match`), otherwise with the state at the beginning. A resource that does not exist is
/// waited for too.
pub(super) async fn answer<F>(
    api: &ApiContext,
    principal: &Principal,
    headers: &HeaderMap,
    read: impl Fn() -> F + Send,
) -> Result<Response, Problem>
where
    F: Future<Output = Result<Answer, Problem>> + Send,
{
    let first = read().await;
    let wait = preferred(headers).filter(|wait| !wait.is_zero());
    // too many waiting requests: this one is answered at once, without Preference-Applied
    let Some((wait, _waiting)) = wait.and_then(|wait| Some((wait, api.waiting.begin(&principal.id)?))) else {
        return Ok(first?.conditional(headers));
    };
    // with a copy, a response 304 means that nothing has changed
    let has_copy = headers.contains_key(IF_NONE_MATCH);
    let is_new = |latest: &Result<Answer, Problem>| match (latest, &first) {
        (Ok(latest), _) if has_copy => latest.clone().conditional(headers).status().is_success(),
        (Ok(latest), Ok(first)) => latest.etag() != first.etag(),
        (Err(problem), Err(_)) => problem.code != Code::NotFound,
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => true,
    };
    let deadline = Instant::now() + wait;
    let mut latest = first.clone();
    while !is_new(&latest) && Instant::now() < deadline && !api.draining.is_cancelled() {
        let next = (Instant::now() + INTERVAL).min(deadline);
        api.draining.run_until_cancelled(sleep_until(next)).await;
        latest = read().await;
    }
    let mut response = latest?.conditional(headers);
    let applied = HeaderValue::try_from(format!("wait={}", wait.as_secs()));
    if let Ok(applied) = applied
        && !api.draining.is_cancelled()
    {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    response.extensions_mut().insert(Waited);
    Ok(response)
}

/// The time that the client prefers to wait (RFC 7240, 4.3).
fn preferred(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split([',', ';']));
    let seconds: u64 = preferences.find_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"').parse().ok())?
    })?;
    Some(Duration::from_secs(seconds.min(MAX_WAIT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preferred_wait_is_read_and_bounded() {
        for (value, expected) in [
            ("wait=20", Some(20)),
            ("respond-async, wait=5", Some(5)),
            ("Wait = \"7\"", Some(7)),
            ("wait=3600", Some(MAX_WAIT)),
            ("wait=0", Some(0)),
            ("wait", None),
            ("wait=-1", None),
            ("wait=soon", None),
            ("return=minimal", None),
        ] {
            let headers = HeaderMap::from_iter([(PREFER, HeaderValue::from_str(value).unwrap())]);
            assert_eq!(preferred(&headers).map(|wait| wait.as_secs()), expected, "{value}");
        }
    }
}
