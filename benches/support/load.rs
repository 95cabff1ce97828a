//! The load generator: signed events over HTTP/1.1 keep-alive connections, each with its own thread.
//!
//! In a closed loop each connection sends its next event as soon as the last one is answered. A benchmark can use
//! another pace.
//!
//! Blocking threads use less processor time than an event loop here, and wake within 0.1 ms of the time at which a
//! request is due. Both matter, because generator and server share a machine.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use billing_sync::base::clock;
use billing_sync::config::secret::WebhookSecret;
use billing_sync::receiver::signature::sign;

use super::connection::Connection;
use super::month;

/// Events in order of delivery, generated on demand.
pub(crate) struct Events(Mutex<Box<dyn Iterator<Item = (usize, String)> + Send>>);

impl Events {
    /// The events of `customers` customers, ten each.
    pub(crate) fn of(customers: u32) -> Self {
        Self(Mutex::new(Box::new(month::events(0, customers).enumerate())))
    }

    fn next(&self) -> Option<(usize, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

/// Where requests go, and the secret that signs them.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    pub(crate) secret: WebhookSecret,
}

/// Result of a run.
pub(crate) struct Outcome {
    /// Number of 200 answers.
    pub(crate) accepted: usize,
    pub(crate) took: Duration,
    /// Sorted.
    latencies: Vec<Duration>,
}

impl Outcome {
    pub(crate) fn rate(&self) -> f64 {
        self.accepted as f64 / self.took.as_secs_f64()
    }

    /// The latency that this share of the requests does not exceed, in milliseconds.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        percentile(&self.latencies, share).as_secs_f64() * 1e3
    }
}

/// The exact percentile of sorted values, without buckets.
pub(crate) fn percentile<T: Copy>(sorted: &[T], share: f64) -> T {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Each connection sends its next event as soon as the last one is answered, for `time` or until no event is left.
pub(crate) fn closed_loop(target: &Target, events: &Events, connections: usize, time: Duration) -> Outcome {
    let began = Instant::now();
    drive(target, events, connections, [began; 2], |_| (began.elapsed() < time).then(Instant::now))
}

/// Sends events over connections. `wait` waits until the event is due and returns the start of its latency; `None` ends
/// the run. Latencies that start before `counted_from` are left out.
pub(crate) fn drive(
    target: &Target,
    events: &Events,
    connections: usize,
    [began, counted_from]: [Instant; 2],
    wait: impl Fn(usize) -> Option<Instant> + Sync,
) -> Outcome {
    let run = || {
        let mut connection = Connection::open(target.address).unwrap();
        let (mut accepted, mut latencies) = (0, Vec::new());
        // created before it is due, so that the time for this is not measured
        while let Some((index, body)) = events.next() {
            let request = request(target, &body);
            let Some(since) = wait(index) else { break };
            let status = connection.exchange(&request).unwrap();
            if since >= counted_from {
                latencies.push(since.elapsed());
            }
            accepted += usize::from(status == 200);
        }
        (accepted, latencies)
    };
    let done: Vec<(usize, Vec<Duration>)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let took = began.elapsed();
    let accepted = done.iter().map(|(accepted, _)| accepted).sum();
    let mut latencies: Vec<Duration> = done.into_iter().flat_map(|(_, latencies)| latencies).collect();
    latencies.sort_unstable();
    Outcome { accepted, took, latencies }
}

/// Builds head and body in one buffer, so that they are one write.
fn request(target: &Target, body: &str) -> Vec<u8> {
    let Target { address, path, secret } = target;
    let signature = sign(secret, clock::now().unix_timestamp(), body.as_bytes());
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\n\
         Accept: */*\r\nContent-Type: application/json; charset=utf-8\r\nStripe-Signature: {signature}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
