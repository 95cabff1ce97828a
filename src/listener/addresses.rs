//! Counts the connections of each address if there is a limit.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Open connections by the peer's address.
#[derive(Debug)]
pub(super) struct Addresses {
    /// `None`: no limit, and nothing is counted.
    limit: Option<usize>,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection of an address; dropped with the connection.
#[derive(Debug)]
pub(super) struct CountedConnection {
    addresses: Arc<Addresses>,
    /// `None` if connections are not counted.
    network: Option<IpAddr>,
}

impl Addresses {
    pub(super) fn new(limit: Option<usize>) -> Arc<Self> {
        Arc::new(Self { limit, open: Mutex::default() })
    }

    /// Counts one more connection of an address; `None` if the address has reached its limit.
    pub(super) fn count(self: &Arc<Self>, address: IpAddr) -> Option<CountedConnection> {
        let Some(limit) = self.limit else {
            return Some(CountedConnection { addresses: Arc::clone(self), network: None });
        };
        let network = network(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(network).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(CountedConnection { addresses: Arc::clone(self), network: Some(network) })
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        let Some(network) = self.network else { return };
        let mut open = self.addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&network);
            }
        }
    }
}

/// The unit that is counted. For IPv6 the first 64 bits, because providers assign a whole /64 to one customer.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_at_most_its_limit_and_ipv6_counts_by_network() {
        let addresses = Addresses::new(Some(1));
        let count = |text: &str| addresses.count(text.parse().unwrap());
        let first = count("192.0.2.1");
        assert!(first.is_some() && count("::ffff:192.0.2.1").is_none());
        let other = count("192.0.2.2");
        let third = count("2001:db8::1");
        assert!(other.is_some() && third.is_some() && count("2001:db8::2").is_none());
        assert!(count("2001:db8:0:1::1").is_some());
        drop(first);
        assert!(count("192.0.2.1").is_some());
        drop((other, third));
        assert!(addresses.open.lock().unwrap().is_empty());
        let unlimited = Addresses::new(None);
        let all: Vec<_> = (0..10).map(|_| unlimited.count("192.0.2.1".parse().unwrap())).collect();
        assert!(all.iter().all(Option::is_some));
    }
}
