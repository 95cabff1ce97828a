//! The law of changes: any sequence of requests, repetitions, webhooks (late, twice, in any order), faults and `kill -9`
//! ends with Stripe = rows = what clients have learned, and each change was made at most once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::harness::{CALLBACK, Shop};
use super::kill::{Case, end_sessions, number, send, start_with, until};
use crate::support::client::Reply;
use crate::support::process::Server;
use crate::support::stripe::{Epoch, Event, Fault, shuffled};

/// Requests, webhooks and kills of one history.
const ACTS: usize = 14;
/// Generated histories; `make soak` sets more.
const HISTORIES: u64 = 4;

const FAULTS: [Fault; 10] = [
    Fault::Close,
    Fault::CloseAfterEffect,
    Fault::HangAfterEffect,
    Fault::ServerError,
    Fault::ServerErrorAfterEffect,
    Fault::ApiError,
    Fault::ApiErrorAfterEffect,
    Fault::CardDeclined,
    Fault::LockTimeout { status: 409 },
    Fault::TooManyRequests { retry_after: Some(1) },
];

/// A request with its key, and what the client has learned.
struct Asked {
    case: Case,
    key: String,
    /// The answer, if it was a success.
    answer: Option<String>,
}

/// One generated history.
struct History {
    shop: Shop,
    rng: fastrand::Rng,
    server: Option<Server>,
    asked: Vec<Asked>,
    /// Events that have not arrived yet.
    in_flight: Vec<Event>,
    mark: usize,
}

impl History {
    async fn begin(seed: u64) -> Self {
        let shop = Shop::open_reading().await;
        let mark = shop.stripe.mark();
        let server = Some(start(&shop).await);
        let (rng, asked, in_flight) = (fastrand::Rng::with_seed(seed), Vec::new(), Vec::new());
        Self { shop, rng, server, asked, in_flight, mark }
    }

    async fn act(&mut self) {
        match self.rng.u8(..12) {
            0..5 => {
                let case = self.case().await;
                let key = format!("key {}", self.asked.len());
                self.ask(Asked { case, key, answer: None }).await;
            }
            5 | 6 if !self.asked.is_empty() => {
                let asked = self.asked.swap_remove(self.rng.usize(..self.asked.len()));
                self.ask(asked).await;
            }
            7 => self.shop.stripe.update(&self.shop.customer, json!({ "name": format!("M {}", self.rng.u8(..)) })),
            8 => self.visit(),
            9 | 10 => self.deliver().await,
            _ => self.shop.stripe.tick(self.rng.i64(0..20)),
        }
        self.in_flight.extend(self.shop.stripe.events_since(self.mark));
        self.mark = self.shop.stripe.mark();
    }

    async fn case(&mut self) -> Case {
        let contact = self.shop.contact_path().await;
        match self.rng.u8(..4) {
            0 | 1 => {
                let body = json!({ "name": format!("N {}", self.rng.u16(..)), "email": "ada@example.com" });
                Case { method: "PUT", path: contact, body, at_stripe: "/v1/customers/" }
            }
            2 => {
                let body = json!({ "callbackUrl": CALLBACK, "pricingPlanId": self.shop.plan().await });
                let path = format!("{contact}/stripe-checkout-sessions");
                Case { method: "POST", path, body, at_stripe: "/v1/checkout/sessions" }
            }
            _ => {
                let (path, body) = ("/v1/workspaces".to_owned(), json!({ "name": "New" }));
                Case { method: "POST", path, body, at_stripe: "/v1/customers" }
            }
        }
    }

    /// Sends a request, perhaps with a fault, and perhaps kills the process meanwhile.
    async fn ask(&mut self, mut asked: Asked) {
        if self.rng.bool() {
            let (fault, times) = (FAULTS[self.rng.usize(..FAULTS.len())], [1, 1, 50][self.rng.usize(..3)]);
            self.shop.stripe.fail_next_of("POST", asked.case.at_stripe, times, fault);
        }
        let server = self.server.take().unwrap();
        let reply = if self.rng.u8(..3) == 0 {
            let reply = tokio::select! {
                reply = send(&self.shop, &server, &asked.case, &asked.key) => reply,
                () = sleep(Duration::from_millis(self.rng.u64(..400))) => None,
            };
            server.kill().await;
            end_sessions(&self.shop.test.app.pool).await;
            // the lease of the killed process ends
            self.shop.test.execute("UPDATE billing.api_writes SET leased_until = NULL").await;
            self.server = Some(start(&self.shop).await);
            reply
        } else {
            let reply = send(&self.shop, &server, &asked.case, &asked.key).await;
            self.server = Some(server);
            reply
        };
        self.shop.stripe.recover();
        match reply {
            Some(reply) if is_success(&reply) => {
                self.check_repetition(&asked, &reply);
                asked.answer = Some(reply.text);
            }
            // nothing was changed: the client gives up
            Some(reply) if reply.text.contains("\"retryable\":false") => {
                assert!(asked.answer.is_none(), "it succeeded before: {}", reply.text);
                return;
            }
            _ => {}
        }
        self.asked.push(asked);
    }

    fn check_repetition(&self, asked: &Asked, reply: &Reply) {
        if let Some(first) = &asked.answer {
            assert_eq!(*first, reply.text, "two answers for {}: {:#?}", asked.key, self.shop.stripe.effects());
        }
    }

    /// A visitor completes an open session.
    fn visit(&mut self) {
        let truth = self.shop.stripe.truth();
        let is_open = |one: &&Value| one["object"] == "checkout.session" && one["status"] == "open";
        if let Some(session) = truth.values().find(is_open) {
            self.shop.stripe.visit_checkout(session["id"].as_str().unwrap());
        }
    }

    /// Some of the events arrive, in any order, some of them twice.
    async fn deliver(&mut self) {
        self.rng.shuffle(&mut self.in_flight);
        let mut arrived = self.in_flight.split_off(self.rng.usize(..=self.in_flight.len()));
        arrived.extend(arrived.first().cloned());
        self.shop.test.app.deliver_all(&arrived, Epoch::Endive).await;
        self.shop.test.app.drain().await;
    }

    /// Everything recovers, every request is repeated until it is answered, and all events arrive.
    async fn end(mut self, seed: u64) {
        self.shop.stripe.recover();
        self.shop.stripe.tick(60);
        self.settle().await;
        let server = self.server.take().unwrap();
        for asked in &self.asked {
            let reply = repeat(&self.shop, &server, asked).await;
            if is_success(&reply) {
                self.check_repetition(asked, &reply);
            } else {
                assert!(asked.answer.is_none(), "{} succeeded, and now {}", asked.key, reply.text);
            }
        }
        self.server = Some(server);
        let events = shuffled(&self.shop.stripe.events(), seed);
        self.shop.test.app.deliver_all(&events, Epoch::Endive).await;
        self.shop.test.app.drain().await;
        self.settle().await;
        self.shop.deliver(0).await;
        self.assert_each_change_was_made_once().await;
        self.assert_rows_are_true().await;
        self.server.take().unwrap().kill().await;
        self.shop.finish().await;
    }

    /// Waits until recovery has completed every line.
    async fn settle(&self) {
        let pool = &self.shop.test.app.pool;
        until("recovery completes everything", async || {
            let due = "UPDATE billing.api_writes SET retry_at = '-infinity' WHERE state IN ('begun', 'sent')";
            self.shop.test.execute(due).await;
            let open = "SELECT count(*) FROM billing.api_writes AS w WHERE w.state IN ('begun', 'sent')
                OR w.follow_up_due AND EXISTS (SELECT FROM billing.checkout_sessions AS s
                    WHERE s.stripe_session_id = w.object_id AND s.status = 'complete')";
            sleep(Duration::from_millis(100)).await;
            number(pool, open).await == 0
        })
        .await;
    }

    async fn assert_each_change_was_made_once(&self) {
        let lines: Vec<(String, String, String)> =
            sqlx::query_as("SELECT id::text, state, operation FROM billing.api_writes")
                .fetch_all(&self.shop.test.app.pool)
                .await
                .unwrap();
        let mut effects: BTreeMap<String, usize> = BTreeMap::new();
        for effect in self.shop.stripe.effects() {
            let key = effect.idempotency_key.expect("every change has a key");
            let line = key.trim_start_matches("billing-sync-").rsplit_once('-').unwrap().0.to_owned();
            *effects.entry(line).or_default() += 1;
        }
        for (line, state, operation) in lines {
            let made = effects.remove(&line).unwrap_or_default();
            // a subscription that is canceled already needs no effect
            let expected = usize::from(state == "done");
            assert!(made == expected || operation == "subscription.cancel" && made <= 1, "{operation} {state}: {made}");
        }
        assert_eq!(effects, BTreeMap::new(), "effects without a line");
    }

    /// Every row shows what Stripe has, and every workspace has one customer.
    async fn assert_rows_are_true(&self) {
        let truth = self.shop.stripe.truth();
        let mut customers: BTreeMap<&str, usize> = BTreeMap::new();
        for (id, object) in &truth {
            let (row, field) = match object["object"].as_str().unwrap() {
                "customer" => {
                    *customers.entry(object["metadata"]["workspace_id"].as_str().unwrap()).or_default() += 1;
                    (format!("SELECT name FROM billing.billing_contacts WHERE stripe_customer_id = '{id}'"), "name")
                }
                "checkout.session" => {
                    (format!("SELECT status FROM billing.checkout_sessions WHERE stripe_session_id = '{id}'"), "status")
                }
                "subscription" => (
                    format!("SELECT stripe_status FROM billing.subscriptions WHERE stripe_subscription_id = '{id}'"),
                    "status",
                ),
                _ => continue,
            };
            assert_eq!(
                self.shop.text(&row).await.as_deref(),
                object[field].as_str(),
                "{id} {}",
                self.shop.lines().await
            );
        }
        assert!(customers.values().all(|count| *count == 1), "{customers:?}");
        let workspaces = number(&self.shop.test.app.pool, "SELECT count(*) FROM billing.workspaces").await;
        assert_eq!(usize::try_from(workspaces).unwrap(), customers.len());
    }
}

fn is_success(reply: &Reply) -> bool {
    [200, 201].contains(&reply.status)
}

async fn start(shop: &Shop) -> Server {
    start_with(shop, &[("BILLING_SYNC_STRIPE_TIMEOUT", "500ms")]).await
}

/// Repeats a request until it is answered for good.
async fn repeat(shop: &Shop, server: &Server, asked: &Asked) -> Reply {
    for _ in 0..50 {
        let reply = send(shop, server, &asked.case, &asked.key).await.unwrap();
        if !reply.text.contains("\"retryable\":true") {
            return reply;
        }
        sleep(Duration::from_millis(200)).await;
    }
    let last = send(shop, server, &asked.case, &asked.key).await.unwrap();
    panic!("{} is never answered: {} {}", asked.key, last.text, shop.lines().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_sequence_of_changes_ends_with_the_truth() {
    #[expect(clippy::disallowed_methods, reason = "tests have no configuration but the environment")]
    let requested = std::env::var("SOAK_HISTORIES").ok().and_then(|text| text.parse().ok());
    for seed in 0..requested.unwrap_or(HISTORIES) {
        println!("history {seed}");
        let mut history = History::begin(seed).await;
        for _ in 0..ACTS {
            history.act().await;
        }
        history.end(seed).await;
    }
}
