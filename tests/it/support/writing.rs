//! Changes at the fake Stripe through the ledger, without the HTTP API.

use std::sync::Arc;
use std::time::Duration;

use billing_sync::base::clock::RemoteClock;
use billing_sync::client::{HttpStripe, Urgency, Write, metrics};
use billing_sync::metrics::writes::WriteMetrics;
use billing_sync::writes::{self, Completed, NewWrite, OnFailure, Then, Writer};
use prometheus::Registry;
use uuid::Uuid;

use super::app::TestApp;
use super::fetching::{client, stripe_config};
use super::stripe::FakeStripe;

/// What makes the changes of a test.
pub(crate) fn writer(app: &TestApp, stripe: &FakeStripe) -> Arc<Writer> {
    let (registry, config) = (Registry::new(), stripe_config(stripe));
    let writes =
        HttpStripe::for_writes(&config, metrics(&registry, &Write::OPERATIONS).unwrap(), RemoteClock::default(), None)
            .unwrap();
    let counted = WriteMetrics::new(&registry, &Write::OPERATIONS).unwrap();
    let reads = Arc::new(client(app, stripe));
    Arc::new(Writer::new(app.context.clone(), writes, reads, counted, Duration::from_secs(2)))
}

/// Changes the name of a customer; its row is changed when this returns.
pub(crate) async fn rename(app: &TestApp, writer: &Arc<Writer>, customer: &str, name: &str) {
    let write = Write::UpdateCustomer {
        customer: customer.to_owned(),
        name: name.to_owned(),
        email: "product@example.com".to_owned(),
    };
    let new = NewWrite {
        id: Uuid::new_v4(),
        principal: "token:test",
        account: "",
        workspace: None,
        write: &write,
        then: Then::Nothing,
    };
    assert!(writes::begin(&mut app.pool.acquire().await.unwrap(), &new).await.unwrap());
    writer.run(new.id, OnFailure::Keep, Urgency::Normal, Completed::nothing()).await.unwrap();
}
