//! One delivery: a signed POST request and its answer.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::base::clock;
use crate::cli::http_error::root_cause;
use crate::config::secret::WebhookSecret;
use crate::receiver::signature::sign;
use crate::tls::Roots;

/// Timeout of a delivery; Stripe's is shorter.
const LIMIT: Duration = Duration::from_secs(30);
/// Maximum size of an answer in bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// An event file to deliver.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) name: Arc<str>,
    pub(super) body: Bytes,
}

/// The answer of the endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: String,
}

/// The target of the deliveries, and the secret that signs them.
#[derive(Debug)]
pub(super) struct Endpoint {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    to: Uri,
    secret: WebhookSecret,
}

impl Endpoint {
    /// Creates the endpoint. It never uses a proxy, because it is a deployment of billing-sync.
    pub(super) fn new(to: Uri, secret: WebhookSecret, roots: &Roots) -> Self {
        let builder = HttpsConnectorBuilder::new().with_tls_config(roots.client_config());
        let connector = builder.https_or_http().enable_http1().build();
        Self { client: Client::builder(TokioExecutor::new()).build(connector), to, secret }
    }

    pub(super) async fn deliver(&self, file: &File) -> anyhow::Result<Answer> {
        let limited = tokio::time::timeout(LIMIT, self.post(file)).await;
        limited.with_context(|| format!("no answer within {} s", LIMIT.as_secs()))?
    }

    async fn post(&self, file: &File) -> anyhow::Result<Answer> {
        // sign as late as possible: a signature is valid for five minutes
        let signature = sign(&self.secret, clock::now().unix_timestamp(), &file.body);
        let request = Request::post(self.to.clone())
            .header("stripe-signature", signature)
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .header(USER_AGENT, concat!("billing-sync/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(file.body.clone()))?;
        let response = self.client.request(request).await.map_err(root_cause)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
        Ok(Answer { status, body: String::from_utf8_lossy(&body).trim().to_owned() })
    }
}
