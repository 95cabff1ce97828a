//! Looks at Stripe whether a change was made, where the idempotency key says nothing any more: Stripe has forgotten it,
//! or has saved an error under it.

use time::{Duration, OffsetDateTime};

use super::begin::MARK;
use super::complete::{Completed, Object, is_mirrored};
use super::send::SendError;
use super::writer::Writer;
use crate::client::{Answer, ApiError, ListKind, PAGE, Read, Span, Urgency, Write, WriteError};
use crate::domain::object::ObjectKey;
use crate::ledger::open::{self, Leased};
use crate::ledger::stripe_key;
use crate::stripe::json::{Document, Json};
use crate::worker::FetchedObject;

/// Time before the line that a search covers, because clocks are not exact.
const CLOCK_MARGIN: Duration = Duration::minutes(10);
/// Pages of a search. The objects of some days are fewer.
const MOST_PAGES: usize = 100;

/// What a look shows.
enum Seen {
    /// The change was made: this is the object.
    Made(Box<Object>),
    /// It was not made, so it can be made now, with another key.
    NotMade,
    /// It was not made, and no client waits for it any more.
    TooLate,
    /// The object is in another state, to which the change may have led before.
    Unclear,
}

impl Writer {
    /// The object of a line, if the change was made.
    pub(super) async fn look_up(&self, line: &Leased) -> Result<Object, SendError> {
        let seen = self.seen(line).await.map_err(|error| {
            let why = format!("a look at Stripe failed: {error}");
            SendError::Stripe(WriteError::Unknown { why, is_saved: line.is_error_saved, request_id: None })
        })?;
        match seen {
            Seen::Made(object) => Ok(*object),
            Seen::NotMade => {
                open::renew_key(&mut self.context.pool.acquire().await?, line).await?;
                Err(SendError::Busy)
            }
            Seen::TooLate => Err(SendError::Stripe(WriteError::Refused {
                status: 410,
                code: Some("not_executed".to_owned()),
                decline_code: None,
                param: None,
                request_id: None,
            })),
            Seen::Unclear => Err(SendError::Unknown),
        }
    }

    async fn seen(&self, line: &Leased) -> Result<Seen, ApiError> {
        let id = line.object_id.clone().unwrap_or_default();
        // within a day the client may still repeat its request
        let is_waited_for = !line.is_key_expired;
        Ok(match line.operation.as_str() {
            Write::UPDATE_CUSTOMER => {
                let answer = match self.read(line, &Read::Customer(id)).await {
                    // a customer that does not exist cannot be changed
                    Err(ApiError::NotFound { .. }) => return Ok(Seen::TooLate),
                    answer => answer?,
                };
                let is_shown = shows(line, Document::parse_or_null(&answer.body).root());
                // it may have been changed again since
                if is_shown || self.has_event(line, "customer.updated", answer.at).await? {
                    Seen::Made(Box::new(self.object(line, answer)))
                } else if is_waited_for {
                    Seen::NotMade
                } else {
                    Seen::Unclear
                }
            }
            Write::CANCEL_SUBSCRIPTION => match self.read(line, &Read::Subscription(id)).await {
                Ok(answer) if status_of(&answer) != "canceled" => Seen::NotMade,
                Ok(_) | Err(ApiError::NotFound { .. }) => Seen::Made(Box::new(Object::without_content(line, None))),
                Err(error) => return Err(error),
            },
            Write::SET_PAYMENT_LINK_ACTIVE => Seen::NotMade,
            Write::CREATE_CUSTOMER => self.search(line, &ListKind::Customers).await?.unwrap_or(Seen::NotMade),
            Write::CREATE_CHECKOUT_SESSION => {
                let of = ListKind::Sessions(line.field("customer"));
                let not_found = if is_waited_for { Seen::NotMade } else { Seen::TooLate };
                self.search(line, &of).await?.unwrap_or(not_found)
            }
            _ => {
                let not_found = if is_waited_for { Seen::NotMade } else { Seen::TooLate };
                self.search(line, &ListKind::PaymentLinks).await?.unwrap_or(not_found)
            }
        })
    }

    async fn read(&self, line: &Leased, read: &Read) -> Result<Answer, ApiError> {
        self.reads.read(&line.account, read, Urgency::Normal).await
    }

    /// Searches a list for the object that names the line in its metadata.
    async fn search(&self, line: &Leased, of: &ListKind) -> Result<Option<Seen>, ApiError> {
        let mut after = None;
        for _ in 0..MOST_PAGES {
            let page = Read::List { of: of.clone(), span: Span::default(), after, expand: true };
            let answer = self.read(line, &page).await?;
            // by Stripe's clock, which may differ from the database's
            let begun = (answer.at - Duration::seconds(line.age_seconds) - CLOCK_MARGIN).unix_timestamp();
            let document = Document::parse_or_null(&answer.body);
            let list = document.root();
            let data = list.get("data").array().unwrap_or_default();
            let mark = line.id.to_string();
            let found = data.iter().find(|object| object.get("metadata").get(MARK).text().as_deref() == Some(&mark));
            if let Some(found) = found {
                let answer = Answer { body: found.raw().to_owned(), ..answer.clone() };
                return Ok(Some(Seen::Made(Box::new(self.object(line, answer)))));
            }
            // newest first
            let oldest = data.last().and_then(|object| object.get("created").integer());
            match next_page(list) {
                Some(next) if oldest.is_none_or(|at| at >= begun) => after = Some(next),
                _ => return Ok(None),
            }
        }
        Err(ApiError::unavailable("a list from Stripe does not end"))
    }

    /// Whether Stripe has an event that the line's request caused.
    async fn has_event(&self, line: &Leased, event_type: &str, now: OffsetDateTime) -> Result<bool, ApiError> {
        let key = stripe_key(line.id, line.key_number);
        let from = now - Duration::seconds(line.age_seconds) - CLOCK_MARGIN;
        let mut after = None;
        for _ in 0..MOST_PAGES {
            let page = Read::Events { types: vec![event_type.to_owned()], from, after, limit: PAGE };
            let answer = match self.read(line, &page).await {
                // a key for changes need not read events; making the same change again is better than never
                Err(error) if error.is_forbidden() => return Ok(false),
                answer => answer?,
            };
            let document = Document::parse_or_null(&answer.body);
            let list = document.root();
            let mut events = list.get("data").array().unwrap_or_default().into_iter();
            if events.any(|event| event.get("request").get("idempotency_key").text().as_deref() == Some(&key)) {
                return Ok(true);
            }
            match next_page(list) {
                Some(next) => after = Some(next),
                None => return Ok(false),
            }
        }
        Err(ApiError::unavailable("a list from Stripe does not end"))
    }

    /// The object of a read, merged like every read.
    fn object(&self, line: &Leased, answer: Answer) -> Object {
        let document = Document::parse_or_null(&answer.body);
        let object_id = document.root().get("id").text().unwrap_or_default();
        let completed =
            Completed { object_id: object_id.clone(), client_secret: None, url: document.root().get("url").text() };
        let key = ObjectKey::new(&line.account, &line.object_type, &object_id);
        let fetched = is_mirrored(line)
            .then(|| FetchedObject::of_json(key, answer.body.clone(), answer.at, self.context.read_margin));
        Object { completed, request_id: answer.request_id, fetched, confirm_after: None }
    }
}

/// The id after which a list from Stripe continues.
fn next_page(list: Json<'_>) -> Option<String> {
    let id = list.get("data").array()?.last()?.get("id").text();
    id.filter(|_| list.get("has_more").boolean() == Some(true))
}

fn status_of(answer: &Answer) -> String {
    Document::parse_or_null(&answer.body).root().get("status").text().unwrap_or_default()
}

/// Whether an object has the texts of the line's form.
fn shows(line: &Leased, object: Json<'_>) -> bool {
    ["name", "email"].into_iter().all(|name| line.field(name) == object.get(name).text())
}
