//! Creates a checkout session for a new subscription of a workspace.
//!
//! A workspace that never had a trial gets that of the plan. The coupon that the product offers for the plan is applied,
//! if there is exactly one; otherwise the customer may enter a promotion code. A live subscription ends once the new one
//! was bought, or the request is refused.

use uuid::Uuid;

use super::change::{Change, Read, Rendering, With};
use crate::api::answer::Answer;
use crate::api::context::ApiContext;
use crate::api::idempotency::KeyedRequest;
use crate::api::principal::Principal;
use crate::api::problem::{Code, Problem};
use crate::api::rows::CheckoutBasis;
use crate::client::{NewCheckoutSession, Write, is_checkout_locale};
use crate::config::api::LiveSubscription;
use crate::writes::{MARK, NewWrite, Then};

/// The field of `metadata` that names the workspace.
const WORKSPACE: &str = "workspace_id";
/// The field of `metadata` that names the subscription which the new one replaces.
const REPLACES: &str = "replaces";

/// Stripe's maximum of trial days.
pub(crate) const MAX_TRIAL_DAYS: u32 = 730;

/// A checkout session to create.
pub(crate) struct CheckoutRequest<'a> {
    pub(crate) workspace: Uuid,
    /// The payer, the plan, and what the workspace had before.
    pub(crate) basis: &'a CheckoutBasis,
    /// Where the customer returns; one of the product's pages.
    pub(crate) callback_url: String,
    /// The language that the client asks for.
    pub(crate) language: Option<&'a str>,
    /// The field of the answer that shows the client secret.
    pub(crate) secret_field: &'static str,
}

/// Creates the session, and answers with what `read` reads after it.
pub(crate) async fn create_session(
    api: &ApiContext,
    principal: &Principal,
    request: Option<KeyedRequest>,
    checkout: CheckoutRequest<'_>,
    read: Read,
) -> Result<Answer, Problem> {
    let writer = api.writer()?;
    let CheckoutRequest { workspace, basis, callback_url, language, secret_field } = checkout;
    let replaces = basis.live_subscription.as_deref();
    let id = Uuid::new_v4();
    let mut metadata = vec![(WORKSPACE, workspace.to_string()), (MARK, id.to_string())];
    metadata.extend(replaces.map(|replaces| (REPLACES, replaces.to_owned())));
    let trial_days = basis.plan.trial_days.and_then(|days| u32::try_from(days).ok());
    let trial_days = trial_days.filter(|days| !basis.had_trial && (1..=MAX_TRIAL_DAYS).contains(days));
    let write = Write::CreateCheckoutSession(NewCheckoutSession {
        customer: basis.stripe_customer_id.clone(),
        price: basis.plan.stripe_price_id.clone(),
        return_url: callback_url,
        locale: locale(language.or(principal.profile.locale.as_deref())),
        reference: workspace.to_string(),
        coupon: match basis.coupons.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        },
        trial_days,
        metadata,
    });
    let new = NewWrite {
        id,
        principal: &principal.id,
        account: &basis.account,
        workspace: Some(workspace),
        write: &write,
        then: replaces.map_or(Then::Nothing, Then::Replace),
    };
    let rendering = Rendering { read, request, secret_field: Some(secret_field) };
    let is_refused = replaces.is_some() && api.live_subscription == LiveSubscription::Refuse;
    let with = if is_refused {
        let detail = "the workspace has a subscription that has not ended (BILLING_SYNC_API_LIVE_SUBSCRIPTION)";
        With::Refusal(Problem::new(Code::SubscriptionExists, detail))
    } else {
        With::Nothing
    };
    Change { writer, new, with, rendering }.make(api).await
}

/// The nearest language in which Stripe's checkout exists: `de` for `de-AT`; `None` if there is none.
fn locale(wanted: Option<&str>) -> Option<String> {
    let wanted = wanted?.replace('_', "-");
    let language = wanted.split('-').next()?.to_lowercase();
    let known = [wanted.clone(), language];
    known.into_iter().find(|locale| is_checkout_locale(locale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_reduced_to_one_that_exists() {
        for (wanted, expected) in [
            ("de", Some("de")),
            ("de-AT", Some("de")),
            ("de_DE", Some("de")),
            ("pt-BR", Some("pt-BR")),
            ("DE", Some("de")),
            ("tlh", None),
            ("", None),
        ] {
            assert_eq!(locale(Some(wanted)).as_deref(), expected, "{wanted}");
        }
        assert_eq!(locale(None), None);
    }
}
