//! Creates a checkout link: a payment link in Stripe, and our row beside it.
//!
//! Stripe creates every payment link active. One that is not enabled is disabled by a second change, which is made also
//! if this process ends, and for which the answer waits.

use uuid::Uuid;

use super::change::{Change, Read, Rendering, With};
use crate::api::answer::Answer;
use crate::api::context::ApiContext;
use crate::api::idempotency::KeyedRequest;
use crate::api::principal::Principal;
use crate::api::problem::Problem;
use crate::api::rows::{NewCheckoutLink, SoldPlan};
use crate::client::{AfterCompletion, NewPaymentLink, Write};
use crate::writes::{MARK, NewWrite, Then};

/// The field of `metadata` with the name of the link.
const NAME: &str = "name";
/// The field of `metadata` with the ids of its plans, separated by commas.
const PLANS: &str = "pricing_plan_ids";
/// Stripe's maximum of characters of a value of `metadata`.
const MAX_METADATA: usize = 500;

/// What follows a payment.
#[derive(Debug, Clone)]
pub(crate) enum AfterCheckout {
    /// The customer is sent to this URL.
    Redirect(String),
    /// Stripe's page shows this message, or its own.
    Message(Option<String>),
}

/// A checkout link to create.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent options")]
pub(crate) struct LinkRequest<'a> {
    /// What is sold, and how many of it.
    pub(crate) items: Vec<(&'a SoldPlan, u32)>,
    pub(crate) name: Option<&'a str>,
    pub(crate) after: AfterCheckout,
    pub(crate) allows_coupons: bool,
    pub(crate) requires_company: bool,
    pub(crate) is_quantity_editable: bool,
    /// Days of the trial; without it, or 0, there is none.
    pub(crate) trial_days: Option<u32>,
    pub(crate) is_enabled: bool,
    /// The body of the request, as it was sent.
    pub(crate) body: &'a str,
}

/// Creates the link, and answers with what `read` reads by the id of the payment link.
pub(crate) async fn create_link(
    api: &ApiContext,
    principal: &Principal,
    request: Option<KeyedRequest>,
    link: LinkRequest<'_>,
    read: Read,
) -> Result<Answer, Problem> {
    let writer = api.writer()?;
    let id = Uuid::new_v4();
    let write = Write::CreatePaymentLink(payment_link(id, &link));
    let new = NewWrite {
        id,
        principal: &principal.id,
        account: "",
        workspace: None,
        write: &write,
        then: if link.is_enabled { Then::Nothing } else { Then::Deactivate },
    };
    let row = NewCheckoutLink { id, name: link.name, request: link.body, principal: &principal.id };
    let rendering = Rendering { read, request, secret_field: None };
    Change { writer, new, with: With::Link(&row), rendering }.make(api).await
}

fn payment_link(id: Uuid, link: &LinkRequest<'_>) -> NewPaymentLink {
    let plans = link.items.iter().map(|(plan, _)| plan.id.to_string()).collect::<Vec<_>>().join(",");
    let mut metadata = vec![(MARK, id.to_string())];
    metadata.extend(link.name.map(|name| (NAME, name.to_owned())));
    metadata.push((PLANS, plans));
    metadata.retain(|(_, value)| value.chars().count() <= MAX_METADATA);
    NewPaymentLink {
        items: link.items.iter().map(|(plan, quantity)| (plan.stripe_price_id.clone(), u64::from(*quantity))).collect(),
        is_quantity_adjustable: link.is_quantity_editable,
        after_completion: Some(match &link.after {
            AfterCheckout::Redirect(url) => AfterCompletion::Redirect(url.clone()),
            AfterCheckout::Message(message) => AfterCompletion::Message(message.clone()),
        }),
        allow_promotion_codes: link.allows_coupons,
        requires_business: link.requires_company,
        trial_days: link.trial_days.filter(|days| *days > 0),
        metadata,
    }
}
