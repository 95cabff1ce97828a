//! The address of metrics and health. Read by `serve`, which listens there, and by `health`, which sends requests
//! there.

use std::net::SocketAddr;

use super::error::Problem;
use super::parse;
use super::settings;
use super::source::Source;

/// Settings of the ops listener.
#[derive(Debug, Clone)]
pub struct OpsConfig {
    /// `BILLING_SYNC_OPS_LISTEN`, default `127.0.0.1:9464`.
    pub listen: SocketAddr,
}

impl OpsConfig {
    /// Reads the address.
    pub fn read(source: &mut Source) -> Option<Self> {
        Some(Self { listen: source.value(&settings::OPS_LISTEN, parse::address)? })
    }
}

/// Notes a problem if the two listeners of one process cannot both bind their addresses; port 0 takes a free port.
pub fn check_distinct(source: &mut Source, webhooks: SocketAddr, ops: SocketAddr) -> Option<()> {
    let same = webhooks.port() == ops.port() && webhooks.port() != 0;
    if !same || !(covers(webhooks, ops) || covers(ops, webhooks)) {
        return Some(());
    }
    let (listen, ops_listen) = (settings::LISTEN.name, settings::OPS_LISTEN.name);
    let subject = format!("{listen}, {ops_listen}");
    let wrong = format!("are {webhooks} and {ops}, which cannot both be bound");
    source.problem(Problem::new(subject, wrong, "set different ports; Stripe must not reach the ops listener"));
    None
}

/// Whether binding the first address includes the other; `[::]` includes IPv4 addresses.
fn covers(one: SocketAddr, other: SocketAddr) -> bool {
    one.ip() == other.ip() || (one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Flags;

    #[test]
    fn two_listeners_on_one_address_are_refused() {
        for (webhooks, ops, fine) in [
            ("127.0.0.1:80", "127.0.0.1:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", false),
            ("10.0.0.1:80", "[::]:80", false),
            ("0.0.0.0:80", "[::1]:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", true),
            ("127.0.0.1:0", "127.0.0.1:0", true),
        ] {
            let mut source = Source::new(Flags::new(), []);
            let read = source.collect(|source| check_distinct(source, webhooks.parse().unwrap(), ops.parse().unwrap()));
            assert_eq!(read.is_ok(), fine, "{webhooks} {ops}");
            if let Err(error) = read {
                let text = error.to_string();
                assert!(text.contains("BILLING_SYNC_LISTEN, BILLING_SYNC_OPS_LISTEN"), "{text}");
            }
        }
    }
}
