//! The address of metrics and health. Read by `serve`, which listens there, and by `health`, which sends requests
//! there.

use std::net::SocketAddr;

use super::error::Problem;
use super::parse;
use super::settings::{self, Setting};
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

/// The fix of two listeners on one address.
const DISTINCT_FIX: &str = "set different ports, because each listener is for other clients";

/// Notes a problem for each two listeners of one process that cannot both bind their addresses; port 0 takes a free
/// port. A listener is its setting and its address.
pub fn check_distinct(
    source: &mut Source,
    listeners: impl IntoIterator<Item = (&'static Setting, SocketAddr)>,
) -> Option<()> {
    let listeners: Vec<_> = listeners.into_iter().collect();
    let mut are_distinct = true;
    for (at, (setting, address)) in listeners.iter().enumerate() {
        for (other, taken) in listeners.iter().skip(at + 1).filter(|(_, taken)| collide(*address, *taken)) {
            let subject = format!("{}, {}", setting.name, other.name);
            let wrong = format!("are {address} and {taken}, which cannot both be bound");
            source.problem(Problem::new(subject, wrong, DISTINCT_FIX));
            are_distinct = false;
        }
    }
    are_distinct.then_some(())
}

/// Whether one process cannot listen on both addresses.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && one.port() != 0 && (covers(one, other) || covers(other, one))
}

/// Whether binding the first address includes the other; `[::]` includes IPv4 addresses.
fn covers(one: SocketAddr, other: SocketAddr) -> bool {
    one.ip() == other.ip() || (one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::ConfigError;
    use crate::config::source::Flags;

    fn check(addresses: &[&str]) -> Result<(), ConfigError> {
        let settings = [&settings::LISTEN, &settings::OPS_LISTEN, &settings::API_LISTEN];
        let addresses = addresses.iter().map(|address| address.parse().unwrap());
        Source::new(Flags::new(), []).collect(|source| check_distinct(source, settings.into_iter().zip(addresses)))
    }

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
            let read = check(&[webhooks, ops]);
            assert_eq!(read.is_ok(), fine, "{webhooks} {ops}");
            if let Err(error) = read {
                let text = error.to_string();
                assert!(text.contains("BILLING_SYNC_LISTEN, BILLING_SYNC_OPS_LISTEN"), "{text}");
            }
        }
    }

    #[test]
    fn every_pair_of_listeners_is_checked() {
        let pairs = |addresses: &[&str]| -> Vec<String> {
            let problems = check(addresses).err().map(|error| error.problems).unwrap_or_default();
            problems.into_iter().map(|problem| problem.subject).collect()
        };
        let (one, two, three) = ("127.0.0.1:80", "127.0.0.1:81", "127.0.0.1:82");
        let (webhooks, ops, api) = ("BILLING_SYNC_LISTEN", "BILLING_SYNC_OPS_LISTEN", "BILLING_SYNC_API_LISTEN");
        assert!(pairs(&[]).is_empty() && pairs(&[one]).is_empty() && pairs(&[one, two, three]).is_empty());
        assert_eq!(pairs(&[one, two, one]), [format!("{webhooks}, {api}")]);
        assert_eq!(pairs(&[one, two, two]), [format!("{ops}, {api}")]);
        assert_eq!(
            pairs(&[one, one, one]),
            [format!("{webhooks}, {ops}"), format!("{webhooks}, {api}"), format!("{ops}, {api}")]
        );
    }
}
