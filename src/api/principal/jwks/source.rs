//! One read of the JWKS, from the identity provider's URL or from a file, with limits on size and time.
//!
//! Does not parse the content, and never logs or returns credentials or the query of the URL. Called by
//! [`super::Jwks`].

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use url::{Position, Url};

use crate::base::file;
use crate::client::{self, Connector};
use crate::config::api::KeySource;
use crate::config::egress::Egress;

/// Maximum size of a JWKS: more than a hundred keys with certificates need.
const MAX_BYTES: usize = 256 * 1024;
/// Connect timeout.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Timeout for the whole request. A request of the API may wait for it.
const LIMIT: Duration = Duration::from_secs(5);
const AGENT: &str = concat!("billing-sync/", env!("CARGO_PKG_VERSION"));

/// Where the JWKS comes from.
pub(super) enum Source {
    /// A file of the operator.
    File(PathBuf),
    /// The identity provider.
    Url(Box<Endpoint>),
}

/// The identity provider's URL, and how it is reached.
pub(super) struct Endpoint {
    client: Client<Connector, Empty<Bytes>>,
    /// Without user and password: a JWKS is public.
    url: Url,
    egress: Egress,
}

impl Source {
    /// Prepares the reads; does not connect. `egress` is the way to the URL.
    pub(super) fn new(keys: &KeySource, egress: &Egress) -> Self {
        match keys {
            KeySource::File(path) => Self::File(path.clone()),
            KeySource::Url(url) => Self::Url(Box::new(Endpoint::new(url.clone(), egress.clone()))),
        }
    }

    /// The path of the file, or the URL without query.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Url(endpoint) => endpoint.url[..Position::AfterPath].to_owned(),
        }
    }

    /// Reads the content.
    ///
    /// # Errors
    /// The cause in one line, phrased to follow [`Source::describe`].
    pub(super) async fn read(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::File(path) => {
                let path = path.clone();
                let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
                let read = tokio::task::spawn_blocking(move || file::read(&path, most)).await;
                read.map_err(|_| "it could not be read".to_owned())?.map_err(|error| error.to_string())
            }
            Self::Url(endpoint) => tokio::time::timeout(LIMIT, endpoint.fetch())
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {} s{}", LIMIT.as_secs(), endpoint.proxy()))),
        }
    }
}

impl Endpoint {
    fn new(mut url: Url, egress: Egress) -> Self {
        // these fail only for URLs without a host, which have neither
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let connector = client::http_connector(&egress, CONNECT_LIMIT);
        // reads are minutes apart: no connection is kept
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self { client, url, egress }
    }

    /// Sends one request. Redirects are not followed, because the operator chose this host to be trusted.
    async fn fetch(&self) -> Result<Vec<u8>, String> {
        let request = Request::get(self.url.as_str())
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .body(Empty::new())
            .map_err(|_| "it cannot be requested; set BILLING_SYNC_API_JWT_KEYS to the URL of a JWKS")?;
        let response = self.client.request(request).await.map_err(|error| self.unanswered(&causes(&error)))?;
        let status = response.status();
        if status.is_redirection() {
            let fix = "set BILLING_SYNC_API_JWT_KEYS to the final URL";
            return Err(format!("it answered {}, and redirects are not followed; {fix}", status.as_u16()));
        }
        if status != StatusCode::OK {
            return Err(format!("it answered {} instead of 200", status.as_u16()));
        }
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
        body.map(|body| body.to_bytes().to_vec()).map_err(|error| {
            if error.is::<LengthLimitError>() {
                return format!("it has more than {MAX_BYTES} bytes");
            }
            self.unanswered(&causes(error.as_ref()))
        })
    }

    /// Describes the failure, with the local settings that may have caused it.
    fn unanswered(&self, why: &str) -> String {
        let mut why = format!("{why}{}", self.proxy());
        if why.contains("invalid peer certificate") {
            let roots = self.egress.roots.origin();
            why.push_str("; it was checked against ");
            why.push_str(roots);
            why.push_str(". If a private CA signs it, SSL_CERT_FILE must name a file with that CA's certificate");
        }
        why
    }

    fn proxy(&self) -> String {
        self.egress.proxy.as_ref().map(|proxy| format!(" ({})", proxy.describe())).unwrap_or_default()
    }
}

/// The error with all its causes, in one line.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> String {
    let below = |error: &&'a (dyn Error + 'static)| (*error).source();
    let causes = std::iter::successors(Some(error), below).map(ToString::to_string);
    causes.collect::<Vec<_>>().join(": ").replace('\n', " ")
}
