//! A blocking HTTP/1.1 connection, for load generators and probes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Timeout of an answer, after which the benchmark fails.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The status of an answer to a request without a body.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<u16> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    Connection::open(address)?.exchange(request.as_bytes())
}

/// One connection, reopened if the server closes it after an answer.
pub(crate) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    received: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { address, stream: Some(connect(address)?), received: Vec::new() })
    }

    /// Sends one request and reads its answer to the end.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.address)?,
        };
        stream.write_all(request)?;
        self.received.clear();
        let mut buffer = [0; 4096];
        loop {
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(&buffer[..read]);
            if let Some(answer) = Answer::whole(&self.received) {
                if !answer.closes {
                    self.stream = Some(stream);
                }
                return Ok(answer.status);
            }
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// The parts of an answer that are used.
struct Answer {
    status: u16,
    closes: bool,
}

impl Answer {
    /// Parses an answer; `None` until it is complete.
    fn whole(received: &[u8]) -> Option<Self> {
        let end = received.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&received[..end]).unwrap().to_ascii_lowercase();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length: usize = header("content-length:").expect("an answer of known length").parse().unwrap();
        if received.len() < end + length {
            return None;
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Self { status, closes: header("connection:") == Some("close") })
    }
}
