//! Infrastructure between this process and Stripe: a private CA, TLS in front of the fake Stripe, and proxies.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A private CA.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The CA's certificate, as an operator would mount it.
    pub(crate) file: NamedTempFile,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(params.self_signed(&key).unwrap().pem().as_bytes()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// The path of the CA's certificate.
    pub(crate) fn path(&self) -> &str {
        self.file.path().to_str().unwrap()
    }

    /// A server with a certificate of this CA for these names.
    fn acceptor(&self, names: &[&str]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap());
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }

    /// Serves TLS for these names in front of `upstream`, until the runtime ends.
    pub(crate) async fn front(&self, names: &[&str], upstream: SocketAddr) -> SocketAddr {
        let (listener, acceptor) = (TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), self.acceptor(names));
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // a client that does not trust the certificate hangs up here
                    if let Ok(stream) = acceptor.accept(stream).await {
                        join(stream, upstream).await;
                    }
                });
            }
        });
        address
    }
}

async fn join(mut stream: impl AsyncRead + AsyncWrite + Unpin, upstream: SocketAddr) {
    if let Ok(mut upstream) = TcpStream::connect(upstream).await {
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
    }
}

/// A forward proxy that always connects to `upstream`, so the requested name need not exist.
pub(crate) struct ForwardProxy {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl ForwardProxy {
    /// A CONNECT proxy; with a login it refuses clients without credentials.
    pub(crate) async fn http(upstream: SocketAddr, login: Option<&'static str>) -> Self {
        Self::start(move |stream, seen| http(stream, upstream, login, seen)).await
    }

    /// A CONNECT proxy that clients reach over TLS.
    pub(crate) async fn https(upstream: SocketAddr, authority: &Authority) -> Self {
        let acceptor = authority.acceptor(&["localhost"]);
        Self::start(move |stream, seen| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    http(stream, upstream, None, seen).await;
                }
            }
        })
        .await
    }

    /// A SOCKS 5 proxy without a login.
    pub(crate) async fn socks(upstream: SocketAddr) -> Self {
        Self::start(move |stream, seen| socks(stream, upstream, seen)).await
    }

    async fn start<S, F>(serve: S) -> Self
    where
        S: Fn(TcpStream, Arc<Mutex<Vec<String>>>) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&noted)));
            }
        });
        Self { address, seen }
    }

    /// The requests so far, in order: target and login.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn http<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    upstream: SocketAddr,
    login: Option<&str>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let given = head.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: ")).unwrap_or("-").to_owned();
    seen.lock().unwrap().push(format!("{target} {given}"));
    if login.is_some_and(|login| login != given) {
        let _ = stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").await;
        return;
    }
    let _ = stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await;
    join(stream, upstream).await;
}

/// SOCKS 5 (RFC 1928) for clients without a login: names only.
async fn socks(mut stream: TcpStream, upstream: SocketAddr, seen: Arc<Mutex<Vec<String>>>) {
    let mut greeting = [0; 3];
    let mut request = [0; 5];
    let handshake = async {
        stream.read_exact(&mut greeting).await?;
        stream.write_all(&[5, 0]).await?;
        stream.read_exact(&mut request).await?;
        let mut rest = vec![0; usize::from(request[4]) + 2];
        stream.read_exact(&mut rest).await?;
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
        std::io::Result::Ok(rest)
    };
    let Ok(rest) = handshake.await else { return };
    let (name, port) = rest.split_at(rest.len() - 2);
    let port = u16::from_be_bytes([port[0], port[1]]);
    seen.lock().unwrap().push(format!("{}:{port}", String::from_utf8_lossy(name)));
    join(stream, upstream).await;
}
