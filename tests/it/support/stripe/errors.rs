//! Stripe's refusals of writes.

use serde_json::json;

use super::routes::Answer;

impl Answer {
    pub(crate) fn with_code(mut self, code: &str) -> Self {
        self.body["error"]["code"] = json!(code);
        self
    }

    fn with_type(mut self, error_type: &str) -> Self {
        self.body["error"]["type"] = json!(error_type);
        self
    }

    /// 400 because of one parameter.
    pub(crate) fn invalid(message: &str, param: &str) -> Self {
        let mut answer = Self::refusal(400, message);
        answer.body["error"]["param"] = json!(param);
        answer
    }

    pub(crate) fn unknown_parameter(param: &str) -> Self {
        Self::invalid(&format!("Received unknown parameter: {param}"), param).with_code("parameter_unknown")
    }

    pub(crate) fn missing_parameter(param: &str) -> Self {
        Self::invalid(&format!("Missing required param: {param}."), param).with_code("parameter_missing")
    }

    pub(crate) fn empty_parameter(param: &str) -> Self {
        let message = format!(
            "You passed an empty string for '{param}'. We assume empty values are an attempt to unset a parameter; \
             however '{param}' cannot be unset. You should remove '{param}' from your request or supply a non-empty \
             value."
        );
        Self::invalid(&message, param).with_code("parameter_invalid_empty")
    }

    /// A parameter names an object that does not exist.
    pub(crate) fn unknown_reference(kind: &str, id: &str, param: &str) -> Self {
        let kind = kind.replace(['.', '_'], " ");
        Self::invalid(&format!("No such {kind}: '{id}'"), param).with_code("resource_missing")
    }

    /// 500 of Stripe itself.
    pub(crate) fn api_error() -> Self {
        let message = "An unknown error occurred. Contact us at https://support.stripe.com/contact.";
        Self::refusal(500, message).with_type("api_error")
    }

    pub(crate) fn card_declined() -> Self {
        let message = "Your card has insufficient funds.";
        let mut answer = Self::refusal(402, message).with_type("card_error").with_code("card_declined");
        answer.body["error"]["decline_code"] = json!("insufficient_funds");
        answer
    }

    pub(crate) fn lock_timeout(status: u16) -> Self {
        let message = "This object cannot be accessed right now because another API request or Stripe process is \
                       currently accessing it. If you see this error intermittently, retry the request.";
        Self::refusal(status, message).with_code("lock_timeout")
    }

    pub(crate) fn key_in_use(key: &str) -> Self {
        let message = format!(
            "There is currently another in-progress request using this Idempotent Key (that probably means you \
             submitted twice, and the other request is still going through): {key}. Please try again later."
        );
        Self::refusal(409, &message).with_code("idempotency_key_in_use")
    }

    pub(crate) fn other_parameters(key: &str) -> Self {
        let message = format!(
            "Keys for idempotent requests can only be used with the same parameters they were first used with. Try \
             using a key other than '{key}' if you meant to execute a different request."
        );
        Self::refusal(400, &message).with_type("idempotency_error")
    }

    pub(crate) fn other_endpoint(key: &str, first: &str, path: &str) -> Self {
        let message = format!(
            "Keys for idempotent requests can only be used for the same endpoint they were first used for ('{path}' vs \
             '{first}'). Try using a key other than '{key}' if you meant to execute a different request."
        );
        Self::refusal(400, &message).with_type("idempotency_error")
    }
}
