//! Where metrics and health are served. Read by `serve` (which listens there) and `health` (which asks there).

use std::net::SocketAddr;

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
