//! Errors of reads from Stripe: what happened, and the fix for the operator.
//!
//! PURE. No text here contains part of a response body, a key or an id, except the `code` or `type` of Stripe's error,
//! which comes from a closed list of Stripe's. Created by [`super::response`], handled by the caller.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use stripe_client_core::StripeClientErr;
use time::OffsetDateTime;

use super::permission::Permission;
use crate::base::waits::RATE_LIMIT;

/// Why a read failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// Stripe has no such object, for this key and account. Final.
    #[error("stripe has no such object")]
    NotFound {
        /// Time of the request, as in [`super::Answer::at`]. `None` in some fakes.
        at: Option<OffsetDateTime>,
        /// Stripe's request id.
        request_id: Option<String>,
    },
    /// Too many requests, or the object is locked: retry later.
    #[error("stripe asks to retry later")]
    RateLimited {
        /// Delay requested by Stripe, if any; at most one minute.
        retry_after: Option<Duration>,
        /// Stripe's request id.
        request_id: Option<String>,
    },
    /// The key is expired, revoked, or without access to the account. Every other request fails too.
    #[error("stripe refuses the key ({status}{})", suffix(.code.as_ref()))]
    Unauthorised {
        /// 401 or 403.
        status: u16,
        /// The `code` of Stripe's error, else its `type`.
        code: Option<String>,
        /// Stripe's request id.
        request_id: Option<String>,
    },
    /// The key does not have the permission for this operation. Other operations are not affected.
    #[error(
        "this key may not read {} (403{}): {}",
        objects(.operation, .wanted), suffix(.code.as_ref()), advice(.operation, .wanted)
    )]
    Forbidden {
        /// The operation, as in [`super::Read::operation`].
        operation: &'static str,
        /// The permissions that Stripe's response names (`rak_product_read`); empty if it names none.
        wanted: Vec<String>,
        /// The `code` of Stripe's error, else its `type`.
        code: Option<String>,
        /// Stripe's request id.
        request_id: Option<String>,
    },
    /// The request can never succeed, or was not sent for that reason. Final.
    #[error("stripe cannot answer this request ({status}{})", suffix(.code.as_ref()))]
    Rejected {
        /// Stripe's status, or the one that Stripe would have sent.
        status: u16,
        /// The `code` of Stripe's error, else its `type`; or our own description of the error.
        code: Option<String>,
        /// Stripe's request id.
        request_id: Option<String>,
    },
    /// Stripe cannot be reached, or something else answered: retry later.
    #[error("{why}")]
    Unavailable {
        /// What happened, in one line.
        why: String,
        /// Delay requested by Stripe, if any; at most one minute.
        retry_after: Option<Duration>,
        /// Stripe's request id.
        request_id: Option<String>,
    },
}

/// Text for a 404 that does not come from Stripe's API.
pub(super) const UNKNOWN_PATH: &str = "a server that is not Stripe's API answered 404";

/// Beginning of the text for any answer that does not come from Stripe's API.
pub(super) const NOT_STRIPE: &str = "a server that is not Stripe's API answered";

/// Beginning of the text for a request without an answer.
const UNREACHABLE: &str = "stripe cannot be reached";

impl ApiError {
    /// The outcome of a successful request.
    pub const OK: &str = "ok";
    /// Every outcome, including success: the values of a metric's label.
    pub const OUTCOMES: [&str; 7] =
        [Self::OK, "not_found", "rate_limited", "unauthorised", Self::FORBIDDEN, "rejected", "unavailable"];

    /// The outcome of a request that the key has no permission for.
    pub const FORBIDDEN: &str = "forbidden";

    /// The outcome, as a label's value.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unauthorised { .. } => "unauthorised",
            Self::Forbidden { .. } => Self::FORBIDDEN,
            Self::Rejected { .. } => "rejected",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// Delay before a retry, if Stripe requested one.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
            Self::NotFound { .. } | Self::Unauthorised { .. } | Self::Forbidden { .. } | Self::Rejected { .. } => None,
        }
    }

    /// What a caller waits for before a retry.
    pub fn awaited(&self) -> Cow<'static, str> {
        match self {
            Self::RateLimited { .. } => RATE_LIMIT.into(),
            Self::Unavailable { why, .. } => format!("Stripe ({why})").into(),
            error => format!("Stripe ({})", error.outcome()).into(),
        }
    }

    /// Stripe's request id, if the request was answered.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::NotFound { request_id, .. }
            | Self::RateLimited { request_id, .. }
            | Self::Unauthorised { request_id, .. }
            | Self::Forbidden { request_id, .. }
            | Self::Rejected { request_id, .. }
            | Self::Unavailable { request_id, .. } => request_id.as_deref(),
        }
    }

    /// Whether the key does not have the permission for the operation. Other operations may be allowed.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Forbidden { .. })
    }

    /// Whether the server does not know the path: it is not Stripe, or implements only part of its API. A proxy may
    /// answer so too, so this says nothing about the object.
    pub fn is_unknown_path(&self) -> bool {
        matches!(self, Self::Unavailable { why, .. } if why == UNKNOWN_PATH)
    }

    /// Error for an answer that cannot be used. The text says what happened.
    pub fn unavailable(why: impl Into<String>) -> Self {
        Self::Unavailable { why: why.into(), retry_after: None, request_id: None }
    }

    /// Error for a request without an answer.
    pub(super) fn unreachable(why: &str) -> Self {
        Self::unavailable(format!("{UNREACHABLE}: {why}"))
    }

    /// What the operator can do. `setting` is the one that contains the key.
    pub fn fix(&self, setting: &str) -> String {
        match self {
            Self::NotFound { .. } => format!("check that the id belongs to the account and the mode of {setting}"),
            Self::RateLimited { .. } => "try again later, or lower BILLING_SYNC_STRIPE_RATE".to_owned(),
            Self::Unauthorised { .. } => format!("set {setting} to a valid key of the account"),
            Self::Forbidden { .. } => "then try again".to_owned(),
            Self::Rejected { .. } => "report this as a bug of billing-sync".to_owned(),
            Self::Unavailable { why, .. } if why.starts_with(NOT_STRIPE) => {
                "correct STRIPE_API_BASE, or the proxy between this machine and Stripe".to_owned()
            }
            Self::Unavailable { why, .. } if why.starts_with(UNREACHABLE) => {
                "check that this machine can reach STRIPE_API_BASE, then try again".to_owned()
            }
            Self::Unavailable { .. } => "try again later; see https://status.stripe.com".to_owned(),
        }
    }

    /// Error for a request that was not sent because it could not succeed.
    pub(super) fn not_sent(why: &str) -> Self {
        Self::Rejected { status: 400, code: Some(why.to_owned()), request_id: None }
    }
}

impl StripeClientErr for ApiError {
    /// Drops the message, because it may contain part of the response.
    fn deserialize_err(_: impl Display) -> Self {
        Self::unavailable("stripe's answer does not have the requested shape")
    }
}

fn suffix(code: Option<&String>) -> String {
    code.map(|code| format!(", {code}")).unwrap_or_default()
}

/// The missing permissions: those that Stripe's response names, else the one that the operation needs. For an expanded
/// field the response names another permission than the operation's own.
fn missing(operation: &str, wanted: &[String]) -> Vec<Permission> {
    let named: BTreeSet<Permission> = wanted.iter().filter_map(|word| Permission::named(word)).collect();
    if named.is_empty() { Permission::of(operation).into_iter().collect() } else { named.into_iter().collect() }
}

fn objects(operation: &str, wanted: &[String]) -> String {
    match &missing(operation, wanted)[..] {
        [] => operation.to_owned(),
        missing => list(missing, Permission::objects),
    }
}

fn advice(operation: &str, wanted: &[String]) -> String {
    let named = match &missing(operation, wanted)[..] {
        [] => String::new(),
        missing => format!(" {}", list(missing, Permission::in_dashboard)),
    };
    let words = if wanted.is_empty() { String::new() } else { format!("; {}", wanted.join(", ")) };
    format!("give it the permission{named} (read{words}) in the Stripe dashboard")
}

fn list(permissions: &[Permission], name: fn(Permission) -> &'static str) -> String {
    permissions.iter().map(|one| name(*one)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_of_every_error_is_listed() {
        let request_id = || Some("req_1".to_owned());
        let retry_after = Some(Duration::from_secs(7));
        let errors = [
            ApiError::NotFound { at: None, request_id: request_id() },
            ApiError::RateLimited { retry_after, request_id: request_id() },
            ApiError::Unauthorised { status: 401, code: None, request_id: request_id() },
            ApiError::Forbidden { operation: "prices.list", wanted: Vec::new(), code: None, request_id: request_id() },
            ApiError::Rejected { status: 400, code: None, request_id: request_id() },
            ApiError::Unavailable { why: String::new(), retry_after, request_id: request_id() },
        ];
        assert_eq!(errors.each_ref().map(ApiError::outcome)[..], ApiError::OUTCOMES[1..]);
        assert!(errors.iter().all(|error| error.request_id() == Some("req_1")));
        assert_eq!(errors.iter().filter(|error| error.retry_after() == retry_after).count(), 2);
    }

    #[test]
    fn an_error_contains_the_fix() {
        let error = ApiError::Unauthorised { status: 403, code: Some("account_invalid".to_owned()), request_id: None };
        assert_eq!(error.to_string(), "stripe refuses the key (403, account_invalid)");
        let forbidden = |operation, wanted: &[&str]| {
            let wanted = wanted.iter().map(|word| (*word).to_owned()).collect();
            ApiError::Forbidden { operation, wanted, code: None, request_id: None }.to_string()
        };
        assert_eq!(
            forbidden("products.list", &[]),
            "this key may not read products (403): give it the permission Products (read) in the Stripe dashboard"
        );
        assert_eq!(
            forbidden("price.retrieve", &["rak_plan_read"]),
            "this key may not read prices (403): give it the permission Prices (read; rak_plan_read) in the Stripe dashboard"
        );
        assert_eq!(
            forbidden("customers.list", &["rak_payment_method_read"]),
            "this key may not read payment methods (403): give it the permission PaymentMethods (read; \
             rak_payment_method_read) in the Stripe dashboard"
        );
        assert!(
            forbidden("other", &["rak_new_read"])
                .starts_with("this key may not read other (403): give it the permission (")
        );
    }

    #[test]
    fn a_deserializer_error_is_not_repeated() {
        assert!(!ApiError::deserialize_err("ada@example.com").to_string().contains("ada"));
    }
}
