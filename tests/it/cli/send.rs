//! `send`: the request at the endpoint, and the output.

use std::io::Write;
use std::process::Stdio;

use super::{binary, code, run, words};

/// An endpoint that sends the same answer to every request. Returns the received requests.
fn endpoint(answer: &'static str, requests: usize) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/webhooks/stripe", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for _ in 0..requests {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            let mut request = Vec::new();
            while !String::from_utf8_lossy(&request).ends_with('}') {
                let read = std::io::Read::read(&mut stream, &mut buffer).unwrap();
                request.extend_from_slice(&buffer[..read]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            seen.push(String::from_utf8(request).unwrap());
        }
        seen
    });
    (url, thread)
}

#[test]
fn send_signs_with_the_first_secret_and_prints_the_answer() {
    let (url, thread) = endpoint("HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nstored", 2);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(br#"{"id":"evt_1"}"#).unwrap();
    let path = file.path().to_str().unwrap();
    let environment = [("STRIPE_WEBHOOK_SECRET", "whsec_a,whsec_b")];
    let output = run(&["send", path, "--to", &url, "--repeat", "2"], &environment);
    assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    assert_eq!(words(&output.stdout), format!("200 {path} (2 times): stored"));
    let request = thread.join().unwrap().remove(0);
    let header = request.lines().find_map(|line| line.strip_prefix("stripe-signature: ")).unwrap();
    let timestamp = header.strip_prefix("t=").unwrap().split(',').next().unwrap().parse().unwrap();
    let secret = billing_sync::config::secret::WebhookSecret::new("whsec_a").unwrap();
    let expected = billing_sync::receiver::signature::sign(&secret, timestamp, br#"{"id":"evt_1"}"#);
    assert_eq!(header, expected);
}

#[test]
fn send_fails_where_an_answer_is_not_2xx() {
    let (url, thread) = endpoint("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", 1);
    let mut process = binary(&["send", "-", "--to", &url], &[("STRIPE_WEBHOOK_SECRET", "whsec_a")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(b"{}").unwrap();
    let output = process.wait_with_output().unwrap();
    thread.join().unwrap();
    assert_eq!(code(&output), 1);
    assert!(words(&output.stdout).starts_with("404 -"), "{}", words(&output.stdout));
    assert!(words(&output.stderr).contains("/webhooks/stripe"), "{}", words(&output.stderr));
}

#[test]
fn what_send_prints_fits_the_terminal() {
    let answer = "HTTP/1.1 400 Bad Request\r\ncontent-length: 104\r\nconnection: close\r\n\r\n\
                  no signature matches: is STRIPE_WEBHOOK_SECRET the signing secret of this endpoint? and more to be read.";
    let (url, thread) = endpoint(answer, 1);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{}").unwrap();
    let path = file.path().to_str().unwrap();
    let output = run(&["send", path, "--to", &url], &[("STRIPE_WEBHOOK_SECRET", "whsec_a")]);
    thread.join().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.lines().count() > 1 && printed.lines().all(|line| line.chars().count() <= 80), "{printed}");
    assert_eq!(words(&output.stderr), "error: the delivery was not accepted");
}

#[test]
fn send_without_a_secret_or_with_an_odd_url_is_refused() {
    assert_eq!(code(&run(&["send", "x.json", "--to", "http://h/"], &[])), 2);
    assert_eq!(code(&run(&["send", "x.json", "--to", "h:80"], &[("STRIPE_WEBHOOK_SECRET", "whsec_a")])), 2);
}

#[test]
fn send_as_new_delivers_each_repetition_as_another_event() {
    let (url, thread) = endpoint("HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nstored", 2);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(br#"{"id":"evt_1","created":1,"type":"customer.updated"}"#).unwrap();
    let arguments = ["send", file.path().to_str().unwrap(), "--to", &url, "--repeat", "2", "--as-new"];
    let started = std::time::Instant::now();
    let output = run(&[&arguments[..], &["--interval", "200ms"]].concat(), &[("STRIPE_WEBHOOK_SECRET", "whsec_a")]);
    assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    assert!(started.elapsed() >= std::time::Duration::from_millis(200), "the interval was not kept");
    let bodies: Vec<serde_json::Value> = thread
        .join()
        .unwrap()
        .iter()
        .map(|request| serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap())
        .collect();
    assert_ne!(bodies[0]["id"], bodies[1]["id"]);
    for body in bodies {
        assert!(body["id"].as_str().unwrap().starts_with("evt_") && body["id"] != "evt_1", "{body}");
        assert!(body["created"].as_i64().unwrap() > 1_700_000_000, "{body}");
        assert_eq!(body["type"], "customer.updated");
    }
}
