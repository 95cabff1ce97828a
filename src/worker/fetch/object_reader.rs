//! Reads one object from Stripe: its own read, and the lists that its fields do not carry.
//!
//! Knows which reads belong to which type; must not know the database. Returns the objects, each with the version at
//! which it was read. Called by the fetcher, the backfill and `verify`, outside any transaction.

use time::OffsetDateTime;

use crate::client::{ApiError, PaymentsOf, Read, StripeApi, Urgency};
use crate::domain::object::ObjectKey;
use crate::stripe::expandable::id_or_object;
use crate::stripe::json::{Document, Json};
use crate::stripe::nested::TRIAL_OFFER;
use crate::stripe::views::generation_failure;
use crate::worker::fetched::{FetchedObject, object_of, version};

/// Maximum number of pages of 100 in a list that belongs to one object. A longer list is an error of the server.
const MOST_PAGES: usize = 100;

/// All objects read for one job. The object of the job is the first part, unless Stripe has no read for its type.
#[derive(Debug, Default)]
pub(crate) struct FetchedObjects {
    pub(crate) parts: Vec<FetchedObject>,
    pub(crate) request_id: Option<String>,
    /// Set if the key may not read something beside the object. The object itself was read.
    pub(crate) forbidden: Option<ApiError>,
    /// Why other objects are not expanded in it. They are read separately if rows need them.
    pub(crate) not_expanded: Option<ApiError>,
}

/// Reads for one job.
pub(crate) struct ObjectReader<'a> {
    api: &'a dyn StripeApi,
    account: &'a str,
    urgency: Urgency,
    /// Staleness margin of reads.
    margin: std::time::Duration,
    found: FetchedObjects,
}

impl<'a> ObjectReader<'a> {
    pub(crate) fn new(api: &'a dyn StripeApi, account: &'a str, urgency: Urgency, margin: std::time::Duration) -> Self {
        Self { api, account, urgency, margin, found: FetchedObjects::default() }
    }

    /// Reads an object and what belongs to it.
    pub(crate) async fn read_object(mut self, object_type: &str, id: &str) -> Result<FetchedObjects, ApiError> {
        if object_type == generation_failure::EVENT {
            if let Some((object_type, id)) = self.generation_failure(id).await? {
                self.any(&object_type, &id).await?;
            }
        } else {
            self.any(object_type, id).await?;
        }
        Ok(self.found)
    }

    async fn any(&mut self, object_type: &str, id: &str) -> Result<(), ApiError> {
        match object_type {
            "subscription" => self.subscription(id).await?,
            "invoice" => self.invoice(id).await?,
            "payment_intent" => self.payment_intent(id).await?,
            "price" => self.price(id).await?,
            _ => _ = self.object(object_type, id).await?,
        }
        Ok(())
    }

    /// Reads one object and keeps it, with a copy of the fields that only reads carry. `None` if Stripe has no such
    /// object, or no read for its type.
    async fn object(&mut self, object_type: &str, id: &str) -> Result<Option<String>, ApiError> {
        let Some(read) = read_of(object_type, id) else { return Ok(None) };
        let key = ObjectKey::new(self.account, object_type, id);
        let answer = match self.api.read(self.account, &read, self.urgency).await {
            Ok(answer) => answer,
            Err(ApiError::NotFound { at: Some(at), request_id }) => {
                self.found.request_id = self.found.request_id.take().or(request_id);
                self.found.parts.push(FetchedObject::not_found(key, at, self.margin));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.found.request_id = self.found.request_id.take().or(answer.request_id);
        self.found.not_expanded = self.found.not_expanded.take().or(answer.forbidden);
        self.found.parts.push(FetchedObject::of_json(key, answer.body.clone(), answer.at, self.margin));
        Ok(Some(answer.body))
    }

    /// Reads a subscription. If it has more items than it shows, all of them are listed.
    async fn subscription(&mut self, id: &str) -> Result<(), ApiError> {
        let index = self.found.parts.len();
        let Some(body) = self.object("subscription", id).await? else {
            return Ok(());
        };
        if Document::parse_or_null(&body).root().get("items").get("has_more").boolean() == Some(true) {
            let page = |after| Read::SubscriptionItems { subscription: id.to_owned(), after };
            let items = self.list(page).await;
            let Some(items) = self.permitted(items)? else { return Ok(()) };
            let items: Vec<String> = items.into_iter().map(|(item, _)| item).collect();
            self.found.parts[index].expansion = Some(object_of(&[("items", format!("[{}]", items.join(",")))]));
        }
        Ok(())
    }

    /// Reads an invoice, its payments, and all charges of those: since 2025-03-31.basil the invoice itself names none,
    /// and a payment intent names only its last charge.
    async fn invoice(&mut self, id: &str) -> Result<(), ApiError> {
        let index = self.found.parts.len();
        if self.object("invoice", id).await?.is_none() {
            return Ok(());
        }
        let intents = self.payments(index, &PaymentsOf::Invoice(id.to_owned()), "payment_intent").await?;
        for intent in intents {
            self.charges(&intent).await?;
        }
        Ok(())
    }

    /// Reads a payment intent, its charges, and the invoices that it pays.
    async fn payment_intent(&mut self, id: &str) -> Result<(), ApiError> {
        let index = self.found.parts.len();
        if self.object("payment_intent", id).await?.is_none() {
            return Ok(());
        }
        self.charges(id).await?;
        for invoice in self.payments(index, &PaymentsOf::PaymentIntent(id.to_owned()), "invoice").await? {
            let read = self.object("invoice", &invoice).await;
            self.permitted(read)?;
        }
        Ok(())
    }

    /// Lists invoice payments and records them in the expansion of the part at `index`; returns the ids in their
    /// `field`.
    async fn payments(&mut self, index: usize, of: &PaymentsOf, field: &str) -> Result<Vec<String>, ApiError> {
        let page = |after| Read::InvoicePayments { of: of.clone(), after };
        let listed = self.list(page).await;
        let Some(listed) = self.permitted(listed)? else { return Ok(Vec::new()) };
        let mut named = Vec::new();
        let mut ids = Vec::new();
        for (payment, version) in listed {
            let document = Document::parse_or_null(&payment);
            let fields = document.root();
            let target = if field == "invoice" { fields.get(field) } else { fields.get("payment").get(field) };
            named.extend(id_or_object(target));
            let id = fields.get("id").text();
            drop(document);
            if let Some(id) = id {
                ids.push(format!("{id:?}"));
                let key = ObjectKey::new(self.account, "invoice_payment", &id);
                self.found.parts.push(FetchedObject::part(key, version, payment));
            }
        }
        self.found.parts[index].expansion = Some(object_of(&[("payments", format!("[{}]", ids.join(",")))]));
        named.sort();
        named.dedup();
        Ok(named)
    }

    async fn charges(&mut self, payment_intent: &str) -> Result<(), ApiError> {
        let page = |after| Read::Charges { payment_intent: payment_intent.to_owned(), after };
        let listed = self.list(page).await;
        for (charge, version) in self.permitted(listed)?.unwrap_or_default() {
            let id = Document::parse_or_null(&charge).root().get("id").text();
            if let Some(id) = id {
                let key = ObjectKey::new(self.account, "charge", &id);
                self.found.parts.push(FetchedObject::part(key, version, charge));
            }
        }
        Ok(())
    }

    /// Turns a missing permission into `None` and records it. The object is kept as far as it was read.
    fn permitted<T>(&mut self, read: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
        match read {
            Err(error) if error.is_forbidden() => {
                self.found.forbidden = Some(error);
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    /// Type and id of the object for which Stripe failed to generate an event, as the notification contains them.
    async fn generation_failure(&self, event_id: &str) -> Result<Option<(String, String)>, ApiError> {
        let event = match self.api.read(self.account, &Read::CoreEvent(event_id.to_owned()), self.urgency).await {
            Err(ApiError::NotFound { .. }) => return Ok(None),
            event => event?,
        };
        let Some(failure) = generation_failure::read(&event.body) else { return Ok(None) };
        // another account has a notification of its own, which names the object
        if failure.account.is_some_and(|of| of != self.account) {
            return Ok(None);
        }
        tracing::warn!(
            event.id = event_id,
            missing.r#type = failure.event_type,
            object.r#type = failure.object_type,
            object.id = failure.object_id,
            "Stripe failed to generate an event; its object is read instead"
        );
        Ok(Some((failure.object_type, failure.object_id)))
    }

    /// Reads a price; if none has this id, the plan. The ids of very old plans are not valid as prices everywhere.
    async fn price(&mut self, id: &str) -> Result<(), ApiError> {
        if self.object("price", id).await?.is_none() {
            self.object("plan", id).await?;
        }
        Ok(())
    }

    /// Reads all elements of a list, each with the version of its page.
    async fn list(&self, page: impl Fn(Option<String>) -> Read) -> Result<Vec<(String, OffsetDateTime)>, ApiError> {
        let mut elements = Vec::new();
        let mut after = None;
        for _ in 0..MOST_PAGES {
            let answer = self.api.read(self.account, &page(after.take()), self.urgency).await?;
            let body = Document::parse_or_null(&answer.body);
            let body = body.root();
            let version = version(body, answer.at, self.margin);
            let data = body.get("data").array().unwrap_or_default();
            let last = data.last().and_then(|element| element.get("id").text());
            elements.extend(data.into_iter().map(|element| (element.raw().to_owned(), version)));
            match (body.get("has_more").boolean(), last) {
                (Some(true), Some(last)) => after = Some(last),
                _ => return Ok(elements),
            }
        }
        Err(ApiError::unavailable("a list from Stripe does not end"))
    }
}

/// The read of an object; `None` if Stripe has none for its type.
fn read_of(object_type: &str, id: &str) -> Option<Read> {
    let id = id.to_owned();
    Some(match object_type {
        "customer" => Read::Customer(id),
        "subscription" => Read::Subscription(id),
        "payment_method" => Read::PaymentMethod(id),
        "source" => Read::Source(id),
        "invoice" => Read::Invoice(id),
        "payment_intent" => Read::PaymentIntent(id),
        "charge" => Read::Charge(id),
        "dispute" => Read::Dispute(id),
        "subscription_schedule" => Read::Schedule(id),
        "coupon" => Read::Coupon(id),
        "promotion_code" => Read::PromotionCode(id),
        "product" => Read::Product(id),
        "price" => Read::Price(id),
        "plan" => Read::Plan(id),
        TRIAL_OFFER => Read::TrialOffer(id),
        "checkout.session" => Read::CheckoutSession(id),
        generation_failure::EVENT => Read::CoreEvent(id),
        _ => return None,
    })
}

/// Type and id of the carrier, whose read contains an object that has no read of its own.
pub(super) fn carrier(object_type: &str, content: Json<'_>) -> Option<(&'static str, String)> {
    let named = |field, kind| Some((kind, id_or_object(content.get(field))?));
    match object_type {
        "discount" => named("subscription", "subscription").or_else(|| named("customer", "customer")),
        "card" | "bank_account" => named("customer", "customer"),
        "invoice_payment" => named("invoice", "invoice"),
        _ => None,
    }
}

/// Whether Stripe has a read for objects of this type.
pub(crate) fn is_readable(object_type: &str) -> bool {
    read_of(object_type, "").is_some()
}
