//! Posts events over real HTTP, as Stripe does, and also forged, stale or unsigned.
//!
//! Must not know the expected answers.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::sandbox::Event;
use super::story::Delivery;
use crate::base::clock;
use crate::config::secret::WebhookSecret;
use crate::receiver::PATH;
use crate::receiver::signature::sign;

/// Timeout of a delivery to the listener on this machine; Stripe's is shorter.
const LIMIT: Duration = Duration::from_secs(30);
/// Age of a stale signature in seconds. The receiver accepts five minutes.
const STALE_SECONDS: i64 = 600;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The connection failed.
    #[error("could not connect to the demo's listener: {0}")]
    Connect(#[from] std::io::Error),
    /// The request or the answer is incomplete.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The request is invalid: a bug.
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
    /// No answer in time.
    #[error("no answer within {} s", LIMIT.as_secs())]
    Slow,
}

/// An answer of the receiver.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The text of the answer, one line.
    pub(super) text: String,
}

/// A random secret of 122 bits.
pub(super) fn random_secret() -> String {
    format!("whsec_{}", Uuid::new_v4().simple())
}

/// The sender of the webhooks: knows the address and the secrets.
#[derive(Debug)]
pub(super) struct Postman {
    to: SocketAddr,
    secret: WebhookSecret,
    forger: WebhookSecret,
}

impl Postman {
    pub(super) fn new(to: SocketAddr, secret: WebhookSecret, forger: WebhookSecret) -> Self {
        Self { to, secret, forger }
    }

    /// Posts an event and reads the answer.
    pub(super) async fn deliver(&self, event: &Event, delivery: Delivery) -> Result<Answer, DeliveryError> {
        tokio::time::timeout(LIMIT, self.post(event, delivery)).await.map_err(|_| DeliveryError::Slow)?
    }

    async fn post(&self, event: &Event, delivery: Delivery) -> Result<Answer, DeliveryError> {
        let body = event.body(u32::from(delivery != Delivery::Again));
        let mut request = Request::post(PATH)
            .header(HOST, self.to.to_string())
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .header(USER_AGENT, concat!("billing-sync-demo/", env!("CARGO_PKG_VERSION")));
        if let Some(signature) = self.signature(&body, delivery) {
            request = request.header("stripe-signature", signature);
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(TcpStream::connect(self.to).await?)).await?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let status = response.status();
        let text = String::from_utf8_lossy(&response.into_body().collect().await?.to_bytes()).trim().to_owned();
        drop(sender);
        let _ = connection.await;
        Ok(Answer { status, text })
    }

    fn signature(&self, body: &[u8], delivery: Delivery) -> Option<String> {
        let now = clock::now().unix_timestamp();
        match delivery {
            Delivery::Signed | Delivery::Again => Some(sign(&self.secret, now, body)),
            Delivery::Forged => Some(sign(&self.forger, now, body)),
            Delivery::Stale => Some(sign(&self.secret, now - STALE_SECONDS, body)),
            Delivery::Unsigned => None,
        }
    }
}
