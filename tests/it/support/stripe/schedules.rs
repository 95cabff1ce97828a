//! Subscription schedules.

use serde_json::{Value, json};

use super::FakeStripe;

impl FakeStripe {
    /// Puts a subscription under a schedule: the price of its first item in each phase, start and end; the first phase
    /// is current. The other items stay, and every phase lists them before that price.
    pub(crate) fn schedule(&self, subscription: &str, phases: &[(&str, i64, i64)], end_behavior: &str) -> String {
        let mut world = self.world();
        let items = world.object(subscription)["items"]["data"].as_array().cloned().unwrap_or_default();
        let phase = |(price, start, end): &(&str, i64, i64)| {
            let prices = items.iter().skip(1).map(|item| item["price"].clone()).chain([json!(price)]);
            let items: Vec<Value> = prices
                .map(|price| json!({ "price": price, "plan": price, "quantity": 1, "discounts": [], "metadata": {} }))
                .collect();
            json!({
                "start_date": start, "end_date": end, "currency": "eur", "discounts": [], "metadata": {},
                "items": items,
                "proration_behavior": "create_prorations", "trial_end": null, "default_payment_method": null,
            })
        };
        let (_, start, end) = phases.first().expect("a schedule has a phase");
        let schedule = json!({
            "id": world.id("sub_sched"), "object": "subscription_schedule", "canceled_at": null, "completed_at": null,
            "created": world.now, "current_phase": { "start_date": start, "end_date": end },
            "customer": world.text(subscription, "/customer"), "customer_account": null,
            "default_settings": { "billing_cycle_anchor": "automatic", "default_payment_method": null },
            "end_behavior": end_behavior, "livemode": false, "metadata": {},
            "pause_schedules": [], "phases": phases.iter().map(phase).collect::<Vec<_>>(), "released_at": null,
            "released_subscription": null, "status": "active", "subscription": subscription, "test_clock": null,
        });
        let schedule = world.create("subscription_schedule.created", schedule);
        world.change(subscription, |subscription| subscription["schedule"] = json!(schedule));
        schedule
    }

    /// Starts the next phase: the schedule advances, and the subscription gets the price of that phase.
    pub(crate) fn next_phase(&self, schedule: &str) {
        let mut world = self.world();
        let phases = world.object(schedule)["phases"].clone();
        let running = world.object(schedule)["current_phase"]["end_date"].clone();
        let next = phases.as_array().into_iter().flatten().find(|phase| phase["start_date"] == running);
        let next = next.expect("no phase follows");
        let subscription = world.text(schedule, "/subscription");
        let price =
            next["items"].as_array().and_then(|items| items.last()).map_or(Value::Null, |item| item["price"].clone());
        world.change(&subscription, |subscription| subscription["items"]["data"][0]["price"] = price);
        let current = json!({ "start_date": next["start_date"], "end_date": next["end_date"] });
        world.change(schedule, |schedule| schedule["current_phase"] = current);
    }

    /// Schedules a pause, and its end if given.
    pub(crate) fn plan_pause(&self, schedule: &str, pause_at: i64, resume_at: Option<i64>) {
        let resume = resume_at.map(|at| json!({ "resume_at": at, "status": { "type": "scheduled" } }));
        let pause = json!({ "pause_at": pause_at, "settings": null, "status": { "type": "scheduled" } });
        let planned = json!([{ "key": "pause", "pause": pause, "resume": resume }]);
        self.world().change(schedule, |schedule| schedule["pause_schedules"] = planned);
    }

    /// Starts the scheduled pause: the schedule records it, and the subscription is paused by request.
    pub(crate) fn begin_pause(&self, schedule: &str) {
        let subscription = {
            let mut world = self.world();
            world.change(schedule, |schedule| {
                schedule["pause_schedules"][0]["pause"]["status"]["type"] = json!("succeeded");
            });
            world.text(schedule, "/subscription")
        };
        self.pause(&subscription);
    }

    /// Ends the scheduled pause.
    pub(crate) fn end_pause(&self, schedule: &str) {
        let subscription = {
            let mut world = self.world();
            world.change(schedule, |schedule| {
                schedule["pause_schedules"][0]["resume"]["status"]["type"] = json!("succeeded");
            });
            world.text(schedule, "/subscription")
        };
        self.resume(&subscription);
    }

    /// Releases the subscription from its schedule.
    pub(crate) fn release(&self, schedule: &str) {
        let mut world = self.world();
        let (now, subscription) = (world.now, world.text(schedule, "/subscription"));
        world.edit(schedule, |schedule| {
            schedule["status"] = json!("released");
            schedule["released_at"] = json!(now);
            schedule["released_subscription"] = schedule["subscription"].take();
            schedule["current_phase"] = Value::Null;
        });
        world.emit("subscription_schedule.released", schedule);
        world.change(&subscription, |subscription| subscription["schedule"] = Value::Null);
    }
}
