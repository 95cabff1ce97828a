//! The first bytes of a connection: detects the protocol and refuses all but HTTP with an explanation.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

use crate::metrics::connections::Protocol;

/// First bytes of each protocol except HTTP/1.1. The longest decides how many bytes are needed at most.
const SIGNATURES: [(&[u8], Protocol); 4] = [
    // RFC 9113, 3.4: HTTP/2 with prior knowledge, without TLS
    (b"PRI * HTTP/2.0\r\n\r\n", Protocol::Http2),
    // a handshake record of any version from SSL 3.0 to TLS 1.3
    (&[0x16, 0x03], Protocol::Tls),
    (b"PROXY ", Protocol::ProxyProtocol),
    (b"\r\n\r\n\0\r\nQUIT\n", Protocol::ProxyProtocol),
];

/// Bytes read ahead of the protocol's own reader.
const READ_AHEAD: usize = 1024;
/// Bytes that a refused client may still send while it reads the answer.
const LINGER_BYTES: u64 = 64 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(1);

/// The protocol of a connection that begins with these bytes; `None` if more are needed.
fn protocol_of(start: &[u8]) -> Option<Protocol> {
    for (signature, protocol) in SIGNATURES {
        if start.starts_with(signature) {
            return Some(protocol);
        }
        if signature.starts_with(start) {
            return None;
        }
    }
    Some(Protocol::Http1)
}

/// Reads until the protocol is known. Also returns the bytes read, because the protocol's reader needs them.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<(Protocol, Vec<u8>)> {
    let mut start = Vec::with_capacity(READ_AHEAD);
    loop {
        if let Some(protocol) = protocol_of(&start) {
            return Ok((protocol, start));
        }
        if stream.read_buf(&mut start).await? == 0 {
            // the HTTP code handles an incomplete head; a connection without a byte is a balancer's probe
            let protocol = if start.is_empty() { Protocol::Empty } else { Protocol::Http1 };
            return Ok((protocol, start));
        }
    }
}

/// The explanation for a client that does not send HTTP.
pub(super) fn sentence(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tls => {
            "this port serves plain HTTP, but received a TLS handshake: terminate TLS at the proxy in front of it"
        }
        Protocol::ProxyProtocol => {
            "this port serves plain HTTP, but received a PROXY protocol header: disable it at the balancer"
        }
        Protocol::Http1 | Protocol::Http2 | Protocol::Empty => "this port serves plain HTTP",
    }
}

/// Answers with the explanation and closes. Reads for a moment longer, because closing a socket with unread bytes
/// resets the connection, and the client would see the reset instead of the answer.
pub(super) async fn refuse(mut stream: TcpStream, protocol: Protocol) {
    let body = format!("{}\n", sentence(protocol));
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // the result is ignored: the client may not read the answer
    let _ = timeout(LINGER_TIME, exchange).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_detected_by_its_first_bytes() {
        for (start, protocol) in [
            (b"".as_slice(), None),
            (b"P", None),
            (b"PR", None),
            (b"PRI * HTTP/2.0\r\n\r", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM", Some(Protocol::Http2)),
            (b"PRI / HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"PROXY TCP4 10.0.0.1", Some(Protocol::ProxyProtocol)),
            (b"PROXYING / HTTP/1.1", Some(Protocol::Http1)),
            (b"\r\n\r\n\0\r\nQUIT\n\x21", Some(Protocol::ProxyProtocol)),
            (b"\r\nPOST /", Some(Protocol::Http1)),
            (&[0x16, 0x03, 0x01], Some(Protocol::Tls)),
            (&[0x16], None),
            (b"POST /webhooks/stripe", Some(Protocol::Http1)),
            (b"GET", Some(Protocol::Http1)),
        ] {
            assert_eq!(protocol_of(start), protocol, "{start:?}");
        }
    }
}
