//! Errors as RFC 9457 problem details, from one closed catalogue.
//!
//! A handler returns a `Problem`; the outermost layer (`api::finish`) adds the request id, counts it and renders
//! it. Details say what is wrong and how to fix it; they repeat names of fields, never their values.

mod catalogue;
mod database;
pub(crate) mod stripe;

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};

pub use self::catalogue::Code;

/// One invalid field or parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = ProblemField)]
pub(crate) struct FieldError {
    /// JSON pointer to the field of the body (`/name`), or the name of a parameter (`query size`).
    pub(crate) pointer: String,
    /// What is wrong.
    pub(crate) detail: String,
}

/// A problem, as a handler returns it.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) detail: Cow<'static, str>,
    pub(crate) errors: Vec<FieldError>,
    /// Further members for programs, such as what is left of a limit.
    pub(crate) members: Map<String, Value>,
    /// When the request may succeed.
    pub(crate) retry_after: Option<Duration>,
}

/// The document that the client gets.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProblemDocument<'a> {
    /// `urn:billing-sync:problem:` and the code.
    #[serde(rename = "type")]
    pub(crate) problem_type: String,
    /// What went wrong, in a few words; the same for each code.
    pub(crate) title: &'a str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// What is wrong with this request, and how to fix it.
    pub(crate) detail: &'a str,
    /// The code, for programs.
    pub(crate) code: &'a str,
    /// Id of the request, also in the header `X-Request-Id`, and in the log of level debug.
    pub(crate) request_id: &'a str,
    /// Whether the same request may succeed later without any change.
    pub(crate) retryable: bool,
    /// The invalid fields and parameters.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) errors: &'a [FieldError],
    /// What is left of a limit (`limit-used-up`), why a subscription is inactive (`subscription-inactive`), why a payment
    /// was declined (`payment-declined`), what Stripe refused (`stripe-rejected`).
    #[serde(flatten)]
    pub(crate) members: &'a Map<String, Value>,
}

impl Problem {
    /// A problem with a detail.
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        Self { code, detail, errors: Vec::new(), members: Map::new(), retry_after: None }
    }

    /// The problem of a resource that does not exist, or that the caller may not see: the two must look the same.
    pub(crate) fn not_found(resource: &'static str) -> Self {
        Self::new(Code::NotFound, format!("there is no such {resource}, or this token may not see it"))
    }

    /// The problem of invalid fields or parameters.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        let names = errors.iter().map(|error| error.pointer.as_str()).collect::<Vec<_>>().join(", ");
        Self { errors, ..Self::new(Code::InvalidFields, format!("correct {names}")) }
    }

    /// The same problem with one more member.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// The same problem with the time after which the request may succeed.
    #[must_use]
    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The document for the client.
    pub(crate) fn document<'a>(&'a self, request_id: &'a str) -> ProblemDocument<'a> {
        ProblemDocument {
            problem_type: format!("urn:billing-sync:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status(),
            detail: &self.detail,
            code: self.code.as_str(),
            request_id,
            retryable: self.code.is_retryable(),
            errors: &self.errors,
            members: &self.members,
        }
    }
}

impl IntoResponse for Problem {
    /// A response without a body: the outermost layer renders the problem.
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
