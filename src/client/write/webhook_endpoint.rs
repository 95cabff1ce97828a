//! The writes of `doctor --fix`: the event types of a webhook endpoint, and a new endpoint.
//!
//! PURE. They are not among [`super::Write`], because no process sends them, and no ledger repeats them. async-stripe's
//! builders for them are in a crate of their own, so the forms are written here.

use url::form_urlencoded::Serializer;

use super::WriteRequest;
use super::segment;

/// Replaces the event types that an endpoint receives. Its API version cannot be changed.
pub fn enable_events<'a>(endpoint: &str, types: impl IntoIterator<Item = &'a str>) -> WriteRequest {
    let path = format!("/webhook_endpoints/{}", segment(endpoint));
    WriteRequest { operation: "webhook_endpoint.update", path, form: form(&[], types) }
}

/// Creates an endpoint for the events of the account, in this API version. Only the answer contains its signing secret.
pub fn create_webhook_endpoint<'a>(
    url: &str,
    api_version: &str,
    types: impl IntoIterator<Item = &'a str>,
) -> WriteRequest {
    let path = "/webhook_endpoints".to_owned();
    let fields = [("api_version", api_version), ("url", url)];
    WriteRequest { operation: "webhook_endpoint.create", path, form: form(&fields, types) }
}

fn form<'a>(fields: &[(&str, &str)], types: impl IntoIterator<Item = &'a str>) -> String {
    let mut form = String::new();
    for (index, event_type) in types.into_iter().enumerate() {
        // Stripe's libraries do not encode the brackets of names
        push(&mut form, &format!("enabled_events[{index}]"), event_type);
    }
    for (name, value) in fields {
        push(&mut form, name, value);
    }
    form
}

fn push(form: &mut String, name: &str, value: &str) {
    let value = Serializer::new(String::new()).append_key_only(value).finish();
    let separator = if form.is_empty() { "" } else { "&" };
    *form = format!("{form}{separator}{name}={value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_contain_types_url_and_version() {
        let update = enable_events("we_1/x", ["customer.created", "*"]);
        assert_eq!(update.path, "/webhook_endpoints/we_1%2Fx");
        assert_eq!(update.form, "enabled_events[0]=customer.created&enabled_events[1]=*");
        let create = create_webhook_endpoint("https://a.example/x?y=1", "2026-09-30.endive", ["price.created"]);
        let form =
            "enabled_events[0]=price.created&api_version=2026-09-30.endive&url=https%3A%2F%2Fa.example%2Fx%3Fy%3D1";
        assert_eq!((create.path.as_str(), create.form.as_str()), ("/webhook_endpoints", form));
    }
}
