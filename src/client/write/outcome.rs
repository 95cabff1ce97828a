//! Interprets the answer to a write: what Stripe did, or did not do, or may have done.
//!
//! PURE. Statuses and codes are those of <https://docs.stripe.com/error-low-level>; which answers Stripe saves under an
//! idempotency key is described in <https://docs.stripe.com/api/idempotent_requests>. Called by the client.

use std::time::Duration;

use time::OffsetDateTime;

use crate::client::headers::ResponseHeaders;
use crate::client::response::{NOT_NOW, code, is_stripes, permissions_in, word};
use crate::client::transport::Failure;
use crate::stripe::json::{Document, Json};

/// Stripe's answer to a write.
#[derive(Clone, PartialEq, Eq)]
pub struct WriteAnswer {
    /// The object after the write, as Stripe sent it. May contain a client secret, which must not be stored.
    pub body: String,
    /// Time of the request, by Stripe's clock, rounded down to the second, like [`crate::client::Answer::at`].
    pub at: OffsetDateTime,
    /// Stripe's request id.
    pub request_id: Option<String>,
    /// Whether Stripe repeated the answer to an earlier request with the same key: it shows the object as it was then.
    pub is_replayed: bool,
}

/// Without the body, because it contains personal data and secrets.
impl std::fmt::Debug for WriteAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("WriteAnswer");
        shown.field("at", &self.at).field("request_id", &self.request_id).finish_non_exhaustive()
    }
}

/// Why there is no success. No text here contains part of an answer, except Stripe's codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Nothing was changed: Stripe could not be reached.
    #[error("{why}")]
    Unreachable {
        /// What happened, in one line.
        why: String,
    },
    /// Nothing was changed: Stripe asks to retry later, because of too many requests or a lock on the object.
    #[error("stripe asks to retry later ({code})")]
    Later {
        /// `rate_limit` or `lock_timeout`.
        code: &'static str,
        /// Delay requested by Stripe, if any; at most one minute.
        retry_after: Option<Duration>,
        /// Stripe's request id.
        request_id: Option<String>,
    },
    /// Nothing was changed: Stripe refuses the key, or the key does not have the permission.
    #[error("stripe refuses STRIPE_WRITE_KEY ({status}{}): {}", suffix(.code.as_ref()), advice(.permissions))]
    KeyRefused {
        /// 401 or 403.
        status: u16,
        /// The `code` of Stripe's error, else its `type`.
        code: Option<String>,
        /// The permissions that Stripe's answer names (`rak_customer_write`); empty if it names none.
        permissions: Vec<String>,
        /// Stripe's request id.
        request_id: Option<String>,
    },
    /// Nothing was changed: Stripe refuses this request, and would refuse it again.
    #[error("stripe refuses the request ({status}{})", suffix(.code.as_ref()))]
    Refused {
        /// Stripe's status, 400 to 499.
        status: u16,
        /// The `code` of Stripe's error, else its `type`.
        code: Option<String>,
        /// Why a card was declined.
        decline_code: Option<String>,
        /// Name of the wrong parameter.
        param: Option<String>,
        /// Stripe's request id.
        request_id: Option<String>,
    },
    /// Stripe may have changed the object or not: the answer is lost, or is an error of Stripe.
    #[error("the outcome at Stripe is unknown: {why}")]
    Unknown {
        /// Reason, in one line.
        why: String,
        /// Whether Stripe has saved this error under the key, so that repeating the request tells nothing more.
        is_saved: bool,
        /// Stripe's request id.
        request_id: Option<String>,
    },
}

impl WriteError {
    /// Outcomes beside those of reads, as values of a metric's label.
    pub(crate) const OUTCOMES: [&str; 1] = ["unknown"];

    /// The outcome, as a label's value.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unavailable",
            Self::Later { .. } => "rate_limited",
            Self::KeyRefused { status: 401, .. } => "unauthorised",
            Self::KeyRefused { .. } => "forbidden",
            Self::Refused { status: 404, .. } => "not_found",
            Self::Refused { .. } => "rejected",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// Stripe's request id, if the request was answered.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Unreachable { .. } => None,
            Self::Later { request_id, .. }
            | Self::KeyRefused { request_id, .. }
            | Self::Refused { request_id, .. }
            | Self::Unknown { request_id, .. } => request_id.as_deref(),
        }
    }

    /// Whether sending the same request once more, at once or after a short wait, may help.
    pub(crate) fn is_brief(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Later { .. } | Self::Unknown { is_saved: false, .. })
    }

    /// Stripe's status, if it is an answer of Stripe.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::KeyRefused { status, .. } | Self::Refused { status, .. } => Some(*status),
            Self::Later { .. } => Some(429),
            Self::Unreachable { .. } | Self::Unknown { .. } => None,
        }
    }

    /// The same error after an earlier attempt whose outcome is unknown. Stripe's refusal of the request itself says
    /// that neither attempt changed anything; the others say nothing about the earlier one.
    #[must_use]
    pub(crate) fn after_unknown(self) -> Self {
        match self {
            Self::Unreachable { .. } | Self::Later { .. } | Self::KeyRefused { .. } => Self::Unknown {
                why: self.to_string(),
                is_saved: false,
                request_id: self.request_id().map(str::to_owned),
            },
            known => known,
        }
    }
}

/// The error of an attempt without an answer.
pub(in crate::client) fn unanswered(failure: Failure) -> WriteError {
    match failure {
        Failure::Unwritable => WriteError::Refused {
            status: 400,
            code: Some("not_sent".to_owned()),
            decline_code: None,
            param: None,
            request_id: None,
        },
        Failure::Unanswered { why, was_sent: false } => {
            WriteError::Unreachable { why: format!("stripe cannot be reached: {why}") }
        }
        Failure::Unanswered { why, was_sent: true } => WriteError::Unknown { why, is_saved: false, request_id: None },
        Failure::TooLong { request_id, .. } => {
            WriteError::Unknown { why: "its answer is too long".to_owned(), is_saved: false, request_id }
        }
    }
}

/// Returns the object in the answer if the status is 2xx.
pub(in crate::client) fn of(status: u16, headers: &ResponseHeaders, body: &[u8]) -> Result<String, WriteError> {
    let text = std::str::from_utf8(body).ok();
    let document = text.and_then(|text| Document::parse(text).ok());
    let json = document.as_ref().map(Document::root);
    let request_id = headers.request_id.clone();
    let unknown = |is_saved| {
        let why = format!("status {status}");
        Err(WriteError::Unknown { why, is_saved, request_id: request_id.clone() })
    };
    if (200..300).contains(&status) {
        return match (text, json.and_then(Json::object)) {
            (Some(text), Some(_)) => Ok(text.to_owned()),
            _ => unknown(false),
        };
    }
    let code = json.and_then(code);
    if let Some(code) = NOT_NOW.into_iter().find(|known| code.as_deref() == Some(*known)) {
        return Err(WriteError::Later { code, retry_after: headers.retry_after, request_id });
    }
    // a page of a proxy says nothing of what happened behind it
    let json = json.filter(|json| is_stripes(*json));
    match (status, json) {
        (429, _) => Err(WriteError::Later { code: NOT_NOW[0], retry_after: headers.retry_after, request_id }),
        // the first request with the key is still running
        (409, _) if code.as_deref() == Some("idempotency_key_in_use") => unknown(false),
        (401 | 403, Some(json)) => {
            let message = json.get("error").get("message").text().unwrap_or_default();
            Err(WriteError::KeyRefused { status, code, permissions: permissions_in(&message), request_id })
        }
        (400..500, Some(json)) => {
            let error = json.get("error");
            let (decline_code, param) = (word(error, "decline_code"), parameter(error));
            Err(WriteError::Refused { status, code, decline_code, param, request_id })
        }
        (500.., Some(_)) => unknown(headers.is_replayed),
        _ => unknown(false),
    }
}

/// The name of the wrong parameter, if it has the form of one: `line_items[0][price]`.
fn parameter(error: Json<'_>) -> Option<String> {
    let is_name = |text: &String| {
        text.len() <= 100 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_[]".contains(&byte))
    };
    error.get("param").text().filter(is_name)
}

fn suffix(code: Option<&String>) -> String {
    code.map(|code| format!(", {code}")).unwrap_or_default()
}

fn advice(permissions: &[String]) -> String {
    if permissions.is_empty() {
        return "check the key in the Stripe dashboard".to_owned();
    }
    format!("give it the permission {} in the Stripe dashboard", permissions.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u16, code: &str) -> &'static str {
        let body =
            format!(r#"{{"error": {{"code": "{code}", "type": "api_error", "message": "No ada@example.com"}}}}"#);
        let error = of(status, &ResponseHeaders::default(), body.as_bytes()).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("ada@"), "{error}");
        error.outcome()
    }

    #[test]
    fn every_answer_says_whether_something_was_changed() {
        for (status, code, expected) in [
            (400, "parameter_unknown", "rejected"),
            (400, "lock_timeout", "rate_limited"),
            (401, "api_key_expired", "unauthorised"),
            (402, "card_declined", "rejected"),
            (403, "more_permissions_required", "forbidden"),
            (404, "resource_missing", "not_found"),
            (409, "idempotency_key_in_use", "unknown"),
            (409, "lock_timeout", "rate_limited"),
            (429, "rate_limit", "rate_limited"),
            (500, "", "unknown"),
            (503, "", "unknown"),
        ] {
            assert_eq!(outcome(status, code), expected, "{status} {code}");
        }
        for (status, page) in [(200, "<html>"), (404, "<html>"), (403, "{\"message\": 1}"), (502, ""), (302, "")] {
            let error = of(status, &ResponseHeaders::default(), page.as_bytes()).unwrap_err();
            assert!(matches!(error, WriteError::Unknown { is_saved: false, .. }), "{status} {page} {error:?}");
        }
    }

    #[test]
    fn a_repeated_error_of_stripe_is_saved() {
        let body = br#"{"error": {"type": "api_error"}}"#;
        for is_replayed in [false, true] {
            let headers = ResponseHeaders { is_replayed, ..ResponseHeaders::default() };
            let error = of(500, &headers, body).unwrap_err();
            assert!(matches!(error, WriteError::Unknown { is_saved, .. } if is_saved == is_replayed), "{error:?}");
        }
    }

    #[test]
    fn only_a_refusal_of_the_request_settles_an_earlier_attempt() {
        let unreachable = WriteError::Unreachable { why: "refused".to_owned() };
        assert_eq!(unreachable.after_unknown().outcome(), "unknown");
        let refused = of(
            402,
            &ResponseHeaders::default(),
            br#"{"error": {"code": "card_declined", "decline_code": "stolen_card"}}"#,
        );
        let refused = refused.unwrap_err().after_unknown();
        assert!(
            matches!(&refused, WriteError::Refused { decline_code: Some(code), .. } if code == "stolen_card"),
            "{refused:?}"
        );
    }
}
