//! Another user of the database, which repeatedly looks up one row by its key.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use billing_sync::database::Connection;
use billing_sync::embedded::Cluster;
use sqlx::ConnectOptions;
use tokio_util::task::AbortOnDropHandle;

/// Runs queries until it is dropped.
pub(crate) struct Bystander {
    times: Arc<Mutex<Vec<Duration>>>,
    _asking: AbortOnDropHandle<()>,
}

impl Bystander {
    /// Queries the subscription of one of `customers` customers, 50 times a second.
    pub(crate) async fn start(cluster: &Cluster, customers: u32) -> Self {
        let mut conn = Connection::from(cluster.connect_options().connect().await.unwrap());
        let times = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&times);
        let asking = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let (id, began) = (format!("sub_{}", fastrand::u32(0..customers)), Instant::now());
                sqlx::query("SELECT * FROM billing.subscriptions WHERE account = '' AND stripe_subscription_id = $1")
                    .bind(id)
                    .fetch_optional(&mut conn)
                    .await
                    .unwrap();
                noted.lock().unwrap().push(began.elapsed());
            }
        });
        Self { times, _asking: AbortOnDropHandle::new(asking) }
    }

    /// The number of queries and their median duration.
    pub(crate) fn result(&self) -> (usize, Duration) {
        let mut times = self.times.lock().unwrap().clone();
        times.sort_unstable();
        (times.len(), times.get(times.len() / 2).copied().unwrap_or_default())
    }
}
