//! A raw HTTP client: the test writes every byte of a request.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// One connection to a server.
pub(crate) struct Client(BufReader<TcpStream>);

/// A response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) text: String,
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).await.expect("a listener")
    }

    /// `None` if nothing listens on the address.
    pub(crate) async fn try_connect(addr: SocketAddr) -> Option<Self> {
        Some(Self(BufReader::new(TcpStream::connect(addr).await.ok()?)))
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.expect("an open connection");
    }

    /// `None` if the peer has closed the connection.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> Option<()> {
        self.0.get_mut().write_all(bytes).await.ok()
    }

    /// The next reply; `None` when the server has closed the connection.
    pub(crate) async fn reply(&mut self) -> Option<Reply> {
        let mut headers = String::new();
        while !headers.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut headers).await.ok()? == 0 {
                return None;
            }
        }
        let length = header(&headers, "content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.ok()?;
        let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Reply { status, text: String::from_utf8(body).unwrap(), headers })
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

fn header<'a>(headers: &'a str, name: &str) -> Option<&'a str> {
    headers
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
}

/// A POST with one signature header.
pub(crate) fn post(path: &str, signature: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nStripe-Signature: {signature}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A GET with these headers.
pub(crate) fn get(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{}\r\n", headers.concat()).into_bytes()
}
