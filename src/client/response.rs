//! Interprets an HTTP response: the requested JSON, or an error and whether another attempt may help.
//!
//! PURE. Statuses and codes are those of <https://docs.stripe.com/error-low-level> and
//! <https://docs.stripe.com/error-codes>. Called by [`super::http`].

use time::OffsetDateTime;

use super::error::{ApiError, NOT_STRIPE, UNKNOWN_PATH};
use super::headers::ResponseHeaders;
use crate::stripe::json::{Document, Json};

/// Codes that mean "retry later" with any status: too many requests, or another request has locked the object.
pub(super) const NOT_NOW: [&str; 3] = ["rate_limit", "lock_timeout", "rate_limit_error"];
/// The code in [`NOT_NOW`] that concerns one object only, so other requests need not wait.
const LOCKED: &str = "lock_timeout";
/// Stripe's code for a key without access to the account.
const NO_ACCESS: &str = "account_invalid";
/// The operation that reads the account itself.
const ACCOUNT: &str = "account.retrieve";
/// Maximum length of an error code or permission name. Stripe's are shorter.
const LONGEST_CODE: usize = 64;

/// A failed attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Error for the caller if this was the last attempt.
    pub(super) error: ApiError,
    /// Whether another attempt may help.
    pub(super) again: bool,
    /// Whether Stripe requests that all requests slow down.
    pub(super) pauses_all: bool,
}

impl Refusal {
    /// No response, a late one, or an incomplete one.
    pub(super) fn unanswered(why: &str) -> Self {
        Self { error: ApiError::unreachable(why), again: true, pauses_all: false }
    }

    /// Adds the time of the request to a not-found error: until then the object did not exist.
    pub(super) fn requested_at(mut self, asked: OffsetDateTime) -> Self {
        if let ApiError::NotFound { at, .. } = &mut self.error {
            *at = Some(asked);
        }
        self
    }

    /// A failure that no other attempt can fix.
    pub(super) fn last(error: ApiError) -> Self {
        Self { error, again: false, pauses_all: false }
    }
}

/// Returns the response's text if it is a JSON object with a 2xx status. `operation` is the operation of the request.
pub(super) fn of(
    operation: &'static str,
    status: u16,
    headers: &ResponseHeaders,
    body: &[u8],
) -> Result<String, Refusal> {
    let text = std::str::from_utf8(body).ok();
    let document = text.and_then(|text| Document::parse(text).ok());
    let json = document.as_ref().map(Document::root);
    if (200..300).contains(&status) {
        return match (text, json.and_then(Json::object)) {
            (Some(text), Some(_)) => Ok(text.to_owned()),
            _ => Err(Refusal::last(unavailable(format!("stripe answered {status} without a JSON object"), headers))),
        };
    }
    let code = json.and_then(code);
    let not_now = status == 429 || code.as_deref().is_some_and(|code| NOT_NOW.contains(&code));
    let pauses_all = status == 429 && code.as_deref() != Some(LOCKED);
    // a page that is not from Stripe (proxy, wrong base URL) must not count as a missing object or an invalid key
    let is_stripes = body.is_empty() || json.is_some_and(is_stripes);
    let error = match json.filter(|_| status == 403 && is_stripes && !not_now) {
        Some(json) => {
            let message = json.get("error").get("message").text().unwrap_or_default();
            forbidden(operation, code, headers, &message)
        }
        None => error(operation, status, code, headers, not_now, !is_stripes),
    };
    let again = headers.should_retry.unwrap_or(not_now || status >= 500);
    Err(Refusal { error, again, pauses_all })
}

fn error(
    operation: &'static str,
    status: u16,
    code: Option<String>,
    headers: &ResponseHeaders,
    not_now: bool,
    is_foreign: bool,
) -> ApiError {
    let request_id = headers.request_id.clone();
    match status {
        _ if not_now => ApiError::RateLimited { retry_after: headers.retry_after, request_id },
        404 if is_foreign => unavailable(UNKNOWN_PATH.to_owned(), headers),
        _ if is_foreign => unavailable(format!("{NOT_STRIPE} {status}"), headers),
        401 => ApiError::Unauthorised { status, code, request_id },
        403 => forbidden(operation, code, headers, ""),
        404 => ApiError::NotFound { at: None, request_id },
        400 if code.as_deref() == Some("resource_missing") => ApiError::NotFound { at: None, request_id },
        400..500 => ApiError::Rejected { status, code, request_id },
        _ => unavailable(format!("stripe answered {status}"), headers),
    }
}

/// Classifies a 403: the key does not have a permission, or has no access to the account at all, which affects every
/// operation. A restricted key often may not read its account. Then the response names the missing permission, so this
/// is not an error of the account.
fn forbidden(operation: &'static str, code: Option<String>, headers: &ResponseHeaders, message: &str) -> ApiError {
    let request_id = headers.request_id.clone();
    let wanted = permissions_in(message);
    let lacks_permission =
        !wanted.is_empty() || [code.as_deref(), Some(message)].into_iter().flatten().any(names_permission);
    let is_of_account = code.as_deref() == Some(NO_ACCESS) || operation == ACCOUNT && !lacks_permission;
    if is_of_account {
        return ApiError::Unauthorised { status: 403, code, request_id };
    }
    ApiError::Forbidden { operation, wanted, code, request_id }
}

fn names_permission(text: &str) -> bool {
    text.to_ascii_lowercase().contains("permission")
}

/// The permissions that an error message names. The message itself is not kept, because it contains part of the key.
pub(super) fn permissions_in(message: &str) -> Vec<String> {
    let is_part = |character: char| character.is_ascii_lowercase() || character == '_';
    let words = message.split(|character| !is_part(character)).filter(|word| word.starts_with("rak_"));
    words.filter(|word| word.len() <= LONGEST_CODE).map(str::to_owned).collect()
}

fn unavailable(why: String, headers: &ResponseHeaders) -> ApiError {
    ApiError::Unavailable { why, retry_after: headers.retry_after, request_id: headers.request_id.clone() }
}

/// Whether an error has the form of Stripe's errors.
pub(super) fn is_stripes(json: Json<'_>) -> bool {
    json.get("error").is_object()
}

/// The `code` of Stripe's error, else its `type`; only if it has the form of Stripe's codes.
pub(super) fn code(json: Json<'_>) -> Option<String> {
    let error = json.get("error");
    word(error, "code").or_else(|| word(error, "type"))
}

/// A field of Stripe's error, if it has the form of Stripe's codes.
pub(super) fn word(error: Json<'_>, field: &str) -> Option<String> {
    let is_word = |text: &String| {
        !text.is_empty()
            && text.len() <= LONGEST_CODE
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    error.get(field).text().filter(is_word)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn refusal(status: u16, body: &str) -> Refusal {
        of("products.list", status, &ResponseHeaders::default(), body.as_bytes()).unwrap_err()
    }

    fn error_body(code: &str) -> String {
        format!(
            r#"{{"error": {{"code": "{code}", "type": "invalid_request_error", "message": "No ada@example.com"}}}}"#
        )
    }

    #[test]
    fn a_json_object_is_returned_unchanged() {
        let text = " {\"id\": 1e400, \"odd\": \"\\ud800\" }\n";
        assert_eq!(of("products.list", 200, &ResponseHeaders::default(), text.as_bytes()).as_deref(), Ok(text));
    }

    #[test]
    fn other_content_with_status_200_is_not_retried() {
        for body in [&b"<html>"[..], b"", b"[]", b"null", b"{", b"{} {}", b"{\"a\": \"\xff\"}"] {
            let refusal = of("products.list", 200, &ResponseHeaders::default(), body).unwrap_err();
            assert_eq!((refusal.error.outcome(), refusal.again), ("unavailable", false), "{body:?}");
        }
    }

    #[test]
    fn only_transient_statuses_are_retried() {
        for (status, code, outcome, again, pauses_all) in [
            (400, "parameter_unknown", "rejected", false, false),
            (400, "resource_missing", "not_found", false, false),
            (400, "lock_timeout", "rate_limited", true, false),
            (400, "rate_limit", "rate_limited", true, false),
            (401, "api_key_expired", "unauthorised", false, false),
            (402, "card_declined", "rejected", false, false),
            (403, "more_permissions_required", "forbidden", false, false),
            (403, "account_invalid", "unauthorised", false, false),
            (404, "resource_missing", "not_found", false, false),
            (409, "idempotency_key_in_use", "rejected", false, false),
            (409, "lock_timeout", "rate_limited", true, false),
            (429, "rate_limit", "rate_limited", true, true),
            (429, "lock_timeout", "rate_limited", true, false),
            (500, "", "unavailable", true, false),
            (503, "", "unavailable", true, false),
            (302, "", "unavailable", false, false),
        ] {
            let found = refusal(status, &error_body(code));
            assert_eq!(
                (found.error.outcome(), found.again, found.pauses_all),
                (outcome, again, pauses_all),
                "{status} {code}"
            );
        }
    }

    #[test]
    fn a_403_concerns_one_operation_unless_the_account_is_refused() {
        let message = "The provided key 'rk_test_***' does not have the required permissions for this endpoint on account \
                       'acct_1'. Having the 'rak_accounts_kyc_basic_read' permission would allow this request to continue.";
        let missing_permission = format!(r#"{{"error": {{"type": "invalid_request_error", "message": "{message}"}}}}"#);
        let plain = r#"{"error": {"type": "invalid_request_error", "message": "Access denied"}}"#;
        for (operation, body, outcome) in [
            ("products.list", missing_permission.as_str(), "forbidden"),
            ("products.list", plain, "forbidden"),
            ("products.list", "", "forbidden"),
            ("account.retrieve", missing_permission.as_str(), "forbidden"),
            ("account.retrieve", plain, "unauthorised"),
            ("account.retrieve", "", "unauthorised"),
        ] {
            let error = of(operation, 403, &ResponseHeaders::default(), body.as_bytes()).unwrap_err().error;
            assert_eq!(error.outcome(), outcome, "{operation} {body}");
            assert!(!error.to_string().contains("acct_1") && !error.to_string().contains("rk_test"), "{error}");
        }
        let error =
            of("products.list", 403, &ResponseHeaders::default(), missing_permission.as_bytes()).unwrap_err().error;
        assert!(
            matches!(&error, ApiError::Forbidden { wanted, .. } if *wanted == ["rak_accounts_kyc_basic_read"]),
            "{error:?}"
        );
    }

    #[test]
    fn a_page_of_another_server_is_unavailable() {
        for status in [400, 401, 403, 404, 502] {
            for page in ["<html>Not here</html>", "{\"message\": \"no route\"}", "{\"error\": \"no route\"}"] {
                let error = refusal(status, page).error.to_string();
                assert_eq!(error, format!("a server that is not Stripe's API answered {status}"));
            }
        }
        assert_eq!(refusal(404, "").error.outcome(), "not_found");
        assert_eq!(refusal(429, "<html>").error.outcome(), "rate_limited");
    }

    #[test]
    fn the_should_retry_header_decides() {
        let headers = |should_retry| ResponseHeaders { should_retry: Some(should_retry), ..ResponseHeaders::default() };
        assert!(!of("products.list", 500, &headers(false), b"").unwrap_err().again);
        assert!(!of("products.list", 429, &headers(false), b"").unwrap_err().again);
        assert!(of("products.list", 409, &headers(true), b"").unwrap_err().again);
    }

    #[test]
    fn request_id_and_delay_are_kept() {
        let wait = Some(Duration::from_secs(7));
        let headers =
            ResponseHeaders { request_id: Some("req_1".to_owned()), retry_after: wait, ..ResponseHeaders::default() };
        for status in [429, 503] {
            let error = of("products.list", status, &headers, b"{}").unwrap_err().error;
            assert_eq!((error.request_id(), error.retry_after()), (Some("req_1"), wait));
        }
    }

    #[test]
    fn no_error_repeats_the_body() {
        let shown = |body: &str| format!("{:?} {}", refusal(400, body), refusal(400, body).error);
        assert!(shown(&error_body("parameter_unknown")).contains("400, parameter_unknown"));
        for body in [error_body("ada@example.com"), error_body("resource_missing")] {
            assert!(!shown(&body).contains("ada"), "{body}");
        }
    }
}
