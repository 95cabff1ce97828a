//! Hostile and broken input, slow and numerous clients, other origins, and failures of the database. Each is answered
//! by a problem of the catalogue, or by hyper's own 4xx, and the service stays alive.
//!
//! Owns the requests that no correct client sends.

mod bodies;
mod clients;
mod failures;
mod heads;
mod origins;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::harness::{ApiClient, PREFIX};
use crate::support::client::{Client, Reply};

const LIST: &str = "/v1/workspaces";

/// Longer than every timeout of the API.
const LIMIT: Duration = Duration::from_secs(40);

/// The bytes of a request with a token and further header lines, which may be wrong.
fn bytes(client: &ApiClient, method: &str, path: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{method} {PREFIX}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n", client.token);
    [head.as_bytes(), lines.as_bytes(), b"\r\n", body].concat()
}

/// The reply to one request.
async fn send(address: SocketAddr, bytes: &[u8]) -> Reply {
    let mut client = Client::connect(address).await;
    client.send(bytes).await;
    timeout(LIMIT, client.reply()).await.expect("a reply in time").expect("a reply")
}

/// Sends bytes, and reads until the server closes the connection.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // the server may refuse the request before it has read all of it
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let ended = timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("the connection is closed");
    // a reset after the answer is an end too
    ended.unwrap_or_default();
    String::from_utf8(answer).unwrap()
}

/// The reply to the creation of a workspace with this body.
async fn create(client: &ApiClient, address: SocketAddr, body: &[u8]) -> Reply {
    let lines = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    send(address, &bytes(client, "POST", LIST, &lines, body)).await
}

async fn number_of_workspaces(client: &ApiClient) -> Value {
    client.get(LIST).await.json(200)["page"]["totalElements"].clone()
}

/// Whether the problem names this field or parameter.
fn names(reply: &Reply, pointer: &str) -> bool {
    let problem = reply.problem("invalid-fields");
    assert_eq!(reply.status, 422);
    problem["errors"].as_array().unwrap().iter().any(|error| error["pointer"] == pointer)
}
