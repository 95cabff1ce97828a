//! Create a checkout link.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::HeaderMap;
use utoipa::ToSchema;

use super::documented::{CreateProblems, LINKS};
use super::render;
use super::schema::{Action, CheckoutLink, ItemType};
use super::wanted::Wanted;
use crate::api::answer::Answer;
use crate::api::changes::{self, LinkRequest, Read, create_link};
use crate::api::context::Shared;
use crate::api::idempotency::KeyedRequest;
use crate::api::principal::{Principal, Scope};
use crate::api::problem::Problem;
use crate::api::request::JsonObject;
use crate::api::rows;
use crate::api::rows::SoldPlan;

/// Maximum length of a name in characters.
const MAX_NAME: usize = 255;

/// What a new checkout link sells, and how.
#[derive(Debug, ToSchema)]
#[schema(as = CheckoutLinkWrite, rename_all = "camelCase")]
#[expect(dead_code, reason = "documents the body, which `Wanted` reads")]
pub(super) struct CheckoutLinkWrite {
    /// Without it, Stripe's page confirms the checkout.
    after_checkout: Option<AfterCheckoutWrite>,
    /// Whether customers can visit the link; true by default.
    is_enabled: Option<bool>,
    /// What is sold. All prices have one currency, and those that are recurring one billing interval.
    #[schema(min_items = 1, max_items = 20)]
    items: Vec<CheckoutLinkItemWrite>,
    options: Option<CheckoutLinkOptionsWrite>,
}

/// What follows a checkout.
#[derive(Debug, ToSchema)]
#[schema(as = AfterCheckoutWrite, rename_all = "camelCase")]
#[expect(dead_code, reason = "documents the body, which `Wanted` reads")]
pub(super) struct AfterCheckoutWrite {
    action: Action,
    /// The URL of a button that leads back. Stripe has no counterpart: it is kept and returned, and has no effect.
    #[schema(max_length = 255)]
    back_to_provider_url: Option<String>,
    /// The message after the checkout; by default that of Stripe.
    #[schema(max_length = 255)]
    confirmation_message: Option<String>,
    /// The URL to which the customer is sent; required for the action `redirect`. May contain `{CHECKOUT_SESSION_ID}`.
    #[schema(max_length = 255)]
    url: Option<String>,
}

/// The options of a checkout link. Those that are absent are false.
#[derive(Debug, ToSchema)]
#[schema(as = CheckoutLinkOptionsWrite, rename_all = "camelCase")]
#[expect(dead_code, reason = "documents the body, which `Wanted` reads")]
pub(super) struct CheckoutLinkOptionsWrite {
    /// Whether customers may enter promotion codes.
    allow_coupons: Option<bool>,
    /// Whether the name of a company is required, and its tax id asked for.
    force_company: Option<bool>,
    /// Whether customers may change the quantities.
    quantity_editable: Option<bool>,
    /// Days of the trial; needs an item with a recurring price. The trial applies to the whole subscription.
    #[schema(minimum = 0, maximum = 730)]
    trial_days: Option<i64>,
}

/// What a checkout link sells.
#[derive(Debug, ToSchema)]
#[schema(as = CheckoutLinkItemWrite, rename_all = "camelCase")]
#[expect(dead_code, reason = "documents the body, which `Wanted` reads")]
pub(super) struct CheckoutLinkItemWrite {
    /// The contract periods. Stripe has no counterpart: they are kept and returned, and have no effect.
    #[schema(value_type = Option<Vec<Object>>)]
    periods: Option<Vec<serde_json::Value>>,
    /// The plan of the price; required if `type` is `plan`.
    plan: Option<ReferenceWrite>,
    /// The price: the id of its plan, or that of the price in Stripe.
    price: ReferenceWrite,
    /// The product of the price, by its id in Stripe; required if `type` is `product`.
    product: Option<ReferenceWrite>,
    /// How many are sold; required if `type` is `product`, otherwise 1 by default.
    #[schema(minimum = 1, maximum = 999_999)]
    quantity: Option<i64>,
    r#type: ItemType,
}

/// The id of another object.
#[derive(Debug, ToSchema)]
#[schema(as = ReferenceWrite)]
#[expect(dead_code, reason = "documents the body, which `Wanted` reads")]
pub(super) struct ReferenceWrite {
    #[schema(min_length = 1, max_length = 255)]
    id: String,
}

/// Create a link at which customers buy the given items.
#[utoipa::path(post, path = "/checkout-links", operation_id = "createCheckoutLink", tag = "Checkout",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats get the first answer for 24 hours",
        min_length = 1, max_length = 255, pattern = r"^[!-~]([ -~]*[!-~])?$")),
    request_body = CheckoutLinkWrite,
    responses((status = 201, description = "The new checkout link", body = CheckoutLink,
        headers(("Location" = String), ("ETag" = String), ("Idempotent-Replayed" = String))), CreateProblems),
    security(("bearer" = ["checkout-link:write"])))]
pub(super) async fn create(
    State(api): State<Shared>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    body: JsonObject,
) -> Result<Response, Problem> {
    principal.require(Scope::CheckoutLinkWrite)?;
    api.writer()?;
    let wanted = Arc::new(Wanted::read(&body.fields)?);
    let request = KeyedRequest::read(&headers, &principal, &format!("POST {LINKS}"), &body.bytes)?;
    let (ids, prices) = wanted.prices();
    let found = rows::sold_plans(&mut api.connection().await?, ids, prices).await?;
    let plans = Arc::new(wanted.sold(&found)?);
    let name = name(&plans);
    let items = plans.iter().zip(&wanted.items).map(|(plan, item)| (plan, item.quantity));
    // serde has read it as JSON, so it is text
    let text = String::from_utf8_lossy(&body.bytes);
    let link = LinkRequest {
        items: items.collect(),
        name: name.as_deref(),
        after: match (wanted.after.action, &wanted.after.url) {
            (Action::Redirect, Some(url)) => changes::AfterCheckout::Redirect(url.clone()),
            _ => changes::AfterCheckout::Message(wanted.after.confirmation_message.clone()),
        },
        allows_coupons: wanted.options.allow_coupons,
        requires_company: wanted.options.force_company,
        is_quantity_editable: wanted.options.quantity_editable,
        trial_days: wanted.options.trial_days,
        is_enabled: wanted.is_enabled,
        body: &text,
    };
    let links = format!("{}{LINKS}", api.links_prefix.as_deref().unwrap_or_default());
    let read: Read = {
        let (wanted, plans) = (Arc::clone(&wanted), Arc::clone(&plans));
        Arc::new(move |conn, payment_link| {
            let (links, wanted, plans) = (links.clone(), Arc::clone(&wanted), Arc::clone(&plans));
            Box::pin(async move {
                let row = rows::link(conn, &payment_link).await?;
                let row = row.ok_or_else(|| Problem::not_found("checkout link"))?;
                let location = format!("{links}/{}", row.id);
                Ok(Answer::ok(&render::link(row, &wanted, &plans), None)?.created(location))
            })
        })
    };
    Ok(create_link(&api, &principal, request, link, read).await?.into_response())
}

/// The names of what is sold, each once.
fn name(plans: &[SoldPlan]) -> Option<String> {
    let mut names: Vec<&str> = plans.iter().filter_map(|plan| plan.display_name.as_deref()).collect();
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    let name: String = names.join(", ").chars().take(MAX_NAME).collect();
    Some(name).filter(|name| !name.is_empty())
}
