//! The TCP connection to Stripe, direct or through a proxy. The TLS connection to Stripe's API runs over it.
//!
//! Knows nothing of requests. Created once for each client, because the base URL, and therefore the proxy, never
//! changes. The API connects to its identity provider in the same way.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::config::egress::{Egress, Login, Proxy, ProxyKind};

/// Connects to Stripe's API or to another server, with TLS if its URL is https.
pub type Connector = HttpsConnector<Route>;

/// A TCP connection, or TLS to the proxy itself.
type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
type BoxError = Box<dyn Error + Send + Sync>;

/// How to connect to the server.
#[derive(Clone)]
pub enum Route {
    /// No proxy.
    Direct(HttpConnector),
    /// CONNECT over HTTP or HTTPS.
    Tunnel(Tunnel<HttpsConnector<HttpConnector>>),
    /// SOCKS 5.
    Socks(SocksV5<HttpConnector>),
}

/// A connector to a server other than Stripe, with the proxy and the trusted certificates of these settings. The
/// timeout is that of the TCP connection.
pub fn http_connector(egress: &Egress, connect_timeout: Duration) -> Connector {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect_timeout));
    connector(egress, tcp)
}

/// The connector for these settings; `tcp` makes the connections.
pub(super) fn connector(egress: &Egress, mut tcp: HttpConnector) -> Connector {
    // the configuration and the connectors around this one decide whether TLS is used
    tcp.enforce_http(false);
    let tls = egress.roots.client_config();
    let route = match &egress.proxy {
        None => Route::Direct(tcp),
        Some(proxy) => through(proxy, tcp, &tls),
    };
    HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(route)
}

fn through(proxy: &Proxy, tcp: HttpConnector, tls: &ClientConfig) -> Route {
    match proxy.kind {
        ProxyKind::Http => {
            let builder = HttpsConnectorBuilder::new().with_tls_config(tls.clone());
            let tunnel = Tunnel::new(proxy.uri.clone(), builder.https_or_http().enable_http1().wrap_connector(tcp));
            Route::Tunnel(match &proxy.login {
                Login::Basic(header) => tunnel.with_auth(header.clone()),
                Login::None | Login::Socks(..) => tunnel,
            })
        }
        ProxyKind::Socks5 { resolve_here } => {
            let socks = SocksV5::new(proxy.uri.clone(), tcp).local_dns(resolve_here);
            Route::Socks(match &proxy.login {
                Login::Socks(user, password) => socks.with_auth(user.clone(), password.expose_secret().to_owned()),
                Login::None | Login::Basic(_) => socks,
            })
        }
    }
}

impl Service<Uri> for Route {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Direct(connector) => connector.poll_ready(cx).map_err(Into::into),
            Self::Tunnel(connector) => connector.poll_ready(cx).map_err(Into::into),
            Self::Socks(connector) => connector.poll_ready(cx).map_err(|error| error.to_string().into()),
        }
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        match self {
            Self::Direct(connector) => {
                let connecting = connector.call(to);
                Box::pin(async { Ok(MaybeHttpsStream::Http(connecting.await?)) })
            }
            Self::Tunnel(connector) => {
                let connecting = connector.call(to);
                Box::pin(async { Ok(connecting.await?) })
            }
            Self::Socks(connector) => {
                let connecting = connector.call(to);
                Box::pin(async { Ok(MaybeHttpsStream::Http(connecting.await.map_err(|error| error.to_string())?)) })
            }
        }
    }
}
