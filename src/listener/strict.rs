//! Refuses heads that hyper accepts and RFC 9112 forbids: two servers on the way could interpret them differently.

use hyper::header::{HOST, TRANSFER_ENCODING};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Request, Version};

use super::handler::Refusal;

/// Checks a request's head.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Refusal> {
    if request.version() >= Version::HTTP_2 {
        return Ok(());
    }
    if !is_only_chunked(request.headers()) {
        return Err(Refusal::TransferEncoding);
    }
    if request.version() == Version::HTTP_11 && !has_one_host(request.headers()) {
        return Err(Refusal::Host);
    }
    Ok(())
}

/// RFC 9112, 6.1: a server answers an unknown coding with an error. With any coding except `chunked` the body would not
/// be the one that was signed.
fn is_only_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked =
        codings.next().is_none_or(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    is_chunked && codings.next().is_none()
}

/// RFC 9112, 3.2. An empty host is allowed.
fn has_one_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let is_valid = hosts.next().is_some_and(|host| host.is_empty() || Authority::try_from(host.as_bytes()).is_ok());
    is_valid && hosts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(version: Version, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap())
    }

    #[test]
    fn http_1_1_has_one_host_and_http_1_0_may_have_none() {
        for (version, headers, expected) in [
            (Version::HTTP_11, vec![("host", "x")], Ok(())),
            (Version::HTTP_11, vec![("host", "[::1]:8080")], Ok(())),
            (Version::HTTP_11, vec![("host", "")], Ok(())),
            (Version::HTTP_11, vec![], Err(Refusal::Host)),
            (Version::HTTP_11, vec![("host", "a"), ("host", "a")], Err(Refusal::Host)),
            (Version::HTTP_11, vec![("host", "a, b")], Err(Refusal::Host)),
            (Version::HTTP_11, vec![("host", "a/b")], Err(Refusal::Host)),
            (Version::HTTP_10, vec![], Ok(())),
            (Version::HTTP_2, vec![], Ok(())),
        ] {
            assert_eq!(checked(version, &headers), expected, "{version:?} {headers:?}");
        }
    }

    #[test]
    fn only_a_single_chunked_coding_is_accepted() {
        let refused = Err(Refusal::TransferEncoding);
        for (codings, expected) in [
            (vec!["chunked"], Ok(())),
            (vec!["Chunked"], Ok(())),
            (vec!["gzip, chunked"], refused),
            (vec!["gzip", "chunked"], refused),
            (vec!["chunked", "chunked"], refused),
            (vec!["chunked, chunked"], refused),
            (vec!["identity, chunked"], refused),
            (vec!["chunked;a=b"], refused),
            (vec!["gzip"], refused),
            (vec![""], refused),
        ] {
            let mut headers = vec![("host", "x")];
            headers.extend(codings.iter().map(|coding| ("transfer-encoding", *coding)));
            assert_eq!(checked(Version::HTTP_11, &headers), expected, "{codings:?}");
            assert_eq!(checked(Version::HTTP_10, &headers), expected, "{codings:?}");
        }
    }
}
