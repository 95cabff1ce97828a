//! A TCP proxy before PostgreSQL, for clients that need a host and a port, which can lose the answer to a COMMIT.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    answers_to_lose: Arc<AtomicU32>,
}

impl Proxy {
    /// Serves until the runtime of the test ends.
    pub(crate) async fn start(upstream: &PgConnectOptions) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers_to_lose = Arc::new(AtomicU32::new(0));
        let (upstream, losing) = (upstream.clone(), answers_to_lose.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, upstream.clone(), losing.clone()));
            }
        });
        Self { address, answers_to_lose }
    }

    /// Closes the connection instead of passing on the answer to a COMMIT, as often as this.
    pub(crate) fn lose_answers(&self, times: u32) {
        self.answers_to_lose.store(times, Ordering::SeqCst);
    }

    /// How many answers are not lost yet.
    pub(crate) fn answers_to_lose(&self) -> u32 {
        self.answers_to_lose.load(Ordering::SeqCst)
    }
}

async fn connect(client: TcpStream, upstream: PgConnectOptions, losing: Arc<AtomicU32>) {
    let port = upstream.get_port();
    let folder = upstream.get_socket().map(|path| path.display().to_string());
    match folder.as_deref().unwrap_or(upstream.get_host()) {
        folder if folder.starts_with('/') => {
            let server = UnixStream::connect(format!("{folder}/.s.PGSQL.{port}")).await.unwrap();
            pass(client, server, losing).await;
        }
        host => pass(client, TcpStream::connect((host, port)).await.unwrap(), losing).await,
    }
}

/// Passes bytes in both directions until one side closes, or until an answer is lost.
async fn pass(client: TcpStream, server: impl AsyncRead + AsyncWrite, losing: Arc<AtomicU32>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let is_commit_sent = AtomicBool::new(false);
    let requests = async {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            // clients send it in a message of its own
            if bytes[..count].windows(6).any(|word| word.eq_ignore_ascii_case(b"COMMIT")) {
                is_commit_sent.store(true, Ordering::SeqCst);
            }
            if to_server.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    let answers = async {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            // the answer shows that the server has committed
            let one_less = |times: u32| times.checked_sub(1);
            if is_commit_sent.swap(false, Ordering::SeqCst)
                && losing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
            {
                return;
            }
            if to_client.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = requests => {}
        () = answers => {}
    }
}
