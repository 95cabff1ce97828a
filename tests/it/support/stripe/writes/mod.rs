//! The writes of the API: `POST` and `DELETE`.
//!
//! A write is executed on a copy of the world that replaces it if all succeeds: a refused write has no effect.

mod customers;
mod endpoints;
mod links;
mod sessions;
mod subscriptions;

use serde_json::Value;

use super::epoch::Epoch;
use super::faults::Fault;
use super::idempotency::{Attempt, LookUp};
use super::routes::{self, Answer};
use super::server::{Sent, Served};
use super::world::{Cause, World};
use super::{FakeStripe, expand, form, params};

/// Result of the execution of a write.
struct Executed {
    answer: Answer,
    is_saved: bool,
}

impl Executed {
    fn saved(answer: Answer) -> Self {
        Self { answer, is_saved: true }
    }

    fn unsaved(answer: Answer) -> Self {
        Self { answer, is_saved: false }
    }

    /// 400 of any code. Stripe does not save those about parameters, because the execution has not begun.
    fn refused(code: &str) -> Self {
        let answer = Answer::refusal(400, "The request was refused.").with_code(code);
        let is_saved = !code.starts_with("parameter_") && code != "resource_missing";
        Self { answer, is_saved }
    }
}

impl FakeStripe {
    /// Answers an authorised write: executes it, or replays the answer saved for its key.
    pub(crate) fn write(&self, served: &Served, fault: Option<Fault>) -> Sent {
        let mut world = self.world_of(served);
        let Some(attempt) = attempt(&world, served) else {
            return Sent::from(self.execute(&mut world, served, fault).answer);
        };
        let found = self.control().saved.look_up(&attempt);
        let (answer, original) = match found {
            LookUp::Refuse(answer) => return Sent::from(answer),
            LookUp::Replay { answer, original } => (answer, Some(original)),
            LookUp::Execute => {
                let executed = self.execute(&mut world, served, fault);
                if executed.is_saved {
                    self.control().saved.save(&attempt, Some(executed.answer.clone()));
                }
                (executed.answer, None)
            }
        };
        let is_replayed = original.is_some();
        Sent { answer, key: Some(attempt.key), original: original.unwrap_or(attempt.request_id), is_replayed }
    }

    /// Begins a write that stays in progress until [`FakeStripe::end`]. Returns whether the request may be executed.
    pub(crate) fn begin(&self, served: &Served) -> bool {
        let world = self.world_of(served);
        let Some(attempt) = attempt(&world, served) else { return true };
        let mut control = self.control();
        let is_first = matches!(control.saved.look_up(&attempt), LookUp::Execute);
        if is_first {
            control.saved.save(&attempt, None);
        }
        is_first
    }

    /// Ends the progress of a write, which is then executed.
    pub(crate) fn end(&self, served: &Served) {
        let world = self.world_of(served);
        if let Some(attempt) = attempt(&world, served) {
            self.control().saved.remove(&attempt);
        }
    }

    fn execute(&self, world: &mut World, served: &Served, fault: Option<Fault>) -> Executed {
        let mut changed = world.clone();
        let (id, idempotency_key) = (served.request_id.clone(), served.idempotency_key.clone());
        changed.cause = Some(Cause { id, idempotency_key });
        let body = match change(&mut changed, served) {
            Ok(body) => body,
            Err(answer) => return Executed::unsaved(answer),
        };
        changed.cause = None;
        match fault {
            Some(Fault::ApiError) => return Executed::saved(Answer::api_error()),
            Some(Fault::CardDeclined) => return Executed::saved(Answer::card_declined()),
            Some(Fault::LockTimeout { status }) => return Executed::unsaved(Answer::lock_timeout(status)),
            Some(Fault::BadRequest { code }) => return Executed::refused(code),
            _ => *world = changed,
        }
        self.control().record_effect(served, world.is_elsewhere);
        let is_broken = fault == Some(Fault::ApiErrorAfterEffect);
        Executed::saved(if is_broken { Answer::api_error() } else { Answer { status: 200, body } })
    }
}

fn attempt(world: &World, served: &Served) -> Option<Attempt> {
    let account = if world.is_elsewhere { "acct_another" } else { "acct_fake" };
    Attempt::new(served, account, &given(served), world.now)
}

/// The parameters as sent: the form, or the query of a DELETE.
fn given(served: &Served) -> Value {
    form::parse(&[served.query.as_str(), &served.body].join("&"))
}

/// Changes the world, and returns the object of the answer.
fn change(world: &mut World, served: &Served) -> Result<Value, Answer> {
    let mut form = given(served);
    let paths = form.as_object_mut().and_then(|form| form.remove("expand"));
    let paths = paths.map_or(Ok(Value::Null), |paths| params::texts(&paths, "expand"))?;
    let id = route(world, served, &form)?;
    let mut shown = world.view().shown(&id, Epoch::Endive).unwrap_or_default();
    if shown["object"] == "webhook_endpoint" && served.path.ends_with("/webhook_endpoints") {
        shown["secret"] = endpoints::secret(&id);
    }
    for path in paths.as_array().into_iter().flatten().filter_map(Value::as_str) {
        expand::expand(world.view(), &mut shown, path)?;
    }
    Ok(shown)
}

/// Executes the endpoint; returns the id of its object.
fn route(world: &mut World, served: &Served, form: &Value) -> Result<String, Answer> {
    let unknown = || Answer::unknown_url(served);
    let path = routes::decoded(served.path.strip_prefix("/v1/").ok_or_else(unknown)?);
    match (served.method.as_str(), &path.split('/').collect::<Vec<_>>()[..]) {
        ("POST", ["customers"]) => customers::create(world, form),
        ("POST", ["customers", id]) => customers::update(world, id, form),
        ("POST", ["checkout", "sessions"]) => sessions::create(world, form),
        ("POST", ["checkout", "sessions", id, "expire"]) => sessions::expire(world, id, form),
        ("POST", ["payment_links"]) => links::create(world, form),
        ("POST", ["payment_links", id]) => links::update(world, id, form),
        ("POST", ["webhook_endpoints"]) => endpoints::create(world, form),
        ("POST", ["webhook_endpoints", id]) => endpoints::update(world, id, form),
        ("DELETE", ["subscriptions", id]) => subscriptions::cancel(world, id, form),
        _ => Err(unknown()),
    }
}

/// A form for each parameter that the fake accepts, after its operation, method and path.
pub(crate) fn parameter_examples() -> Vec<(&'static str, String)> {
    let lists = [
        ("customer.create POST /v1/customers", customers::FIELDS),
        ("customer.update POST /v1/customers/cus_1", customers::FIELDS),
        ("checkout_session.create POST /v1/checkout/sessions", sessions::FIELDS),
        ("payment_link.create POST /v1/payment_links", links::CREATE),
        ("payment_link.update POST /v1/payment_links/plink_1", links::UPDATE),
        ("subscription.cancel DELETE /v1/subscriptions/sub_1", subscriptions::FIELDS),
        ("webhook_endpoint.create POST /v1/webhook_endpoints", endpoints::CREATE),
        ("webhook_endpoint.update POST /v1/webhook_endpoints/we_1", endpoints::UPDATE),
    ];
    let forms = |(endpoint, fields)| params::examples(fields).into_iter().map(move |form| (endpoint, form));
    lists.into_iter().flat_map(forms).collect()
}

/// The object that the path names.
fn named<'a>(world: &'a World, kind: &str, id: &str) -> Result<&'a Value, Answer> {
    find(world, kind, id).ok_or_else(|| Answer::missing(kind, id))
}

/// Refuses a parameter that names an object that does not exist. It may be null.
fn check_reference(world: &World, kind: &str, id: &Value, param: &str) -> Result<(), Answer> {
    let Some(id) = id.as_str() else { return Ok(()) };
    find(world, kind, id).map(|_| ()).ok_or_else(|| Answer::unknown_reference(kind, id, param))
}

fn find<'a>(world: &'a World, kind: &str, id: &str) -> Option<&'a Value> {
    world.at(id, world.latest()).filter(|object| object["object"] == kind && object["deleted"] != true)
}

/// Prices and quantities of `line_items`; `recurring`: of recurring prices only.
fn lines(world: &World, params: &Value, recurring: bool) -> Result<Vec<(String, i64)>, Answer> {
    params::require(params, "line_items")?;
    let line = |(index, line): (usize, &Value)| {
        let (price, quantity) = (format!("line_items[{index}][price]"), format!("line_items[{index}][quantity]"));
        let id = line["price"].as_str().ok_or_else(|| Answer::missing_parameter(&price))?;
        let count = line["quantity"].as_i64().ok_or_else(|| Answer::missing_parameter(&quantity))?;
        check_reference(world, "price", &line["price"], &price)?;
        let of = world.object(id);
        if of["active"] != true {
            let message = "The price specified is inactive. This field only accepts active prices.";
            return Err(Answer::invalid(message, &price));
        }
        if recurring && of["type"] != "recurring" {
            let message = "You must provide at least one recurring price in `subscription` mode when using prices.";
            return Err(Answer::invalid(message, &price));
        }
        Ok((id.to_owned(), count))
    };
    params["line_items"].as_array().into_iter().flatten().enumerate().map(line).collect()
}
