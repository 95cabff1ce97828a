//! Settings of a demo that keeps serving after its story. Read by `demo --keep`, used by `crate::demo`.

use std::net::SocketAddr;

use super::ops;
use super::parse;
use super::receiver;
use super::settings;
use super::source::Source;
use crate::config::secret::WebhookSecret;

/// Settings of a demo that keeps serving.
#[derive(Debug, Clone)]
pub struct KeepConfig {
    /// `BILLING_SYNC_LISTEN`, default `127.0.0.1:8080`: for `stripe listen --forward-to`.
    pub listen: SocketAddr,
    /// `BILLING_SYNC_OPS_LISTEN`, default `127.0.0.1:9464`.
    pub ops_listen: SocketAddr,
    /// `STRIPE_WEBHOOK_SECRET`, if set: accepted in addition to the secret that the demo generates.
    pub extra_secrets: Vec<WebhookSecret>,
}

impl KeepConfig {
    /// Reads both addresses and the secrets, which may be absent.
    pub fn read(source: &mut Source) -> Option<Self> {
        let listen = source.value(&settings::LISTEN, parse::address);
        let ops_listen = source.value(&settings::OPS_LISTEN, parse::address);
        let extra_secrets = receiver::optional_secrets(source);
        let (listen, ops_listen) = (listen?, ops_listen?);
        ops::check_distinct(source, listen, ops_listen)?;
        Some(Self { listen, ops_listen, extra_secrets: extra_secrets? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Flags;

    fn read(environment: &[(&str, &str)]) -> Result<KeepConfig, crate::config::error::ConfigError> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).into()));
        Source::new(Flags::new(), environment).collect(KeepConfig::read)
    }

    #[test]
    fn a_kept_demo_accepts_optional_secrets() {
        assert!(read(&[]).unwrap().extra_secrets.is_empty());
        assert_eq!(read(&[("STRIPE_WEBHOOK_SECRET", "whsec_1,whsec_2")]).unwrap().extra_secrets.len(), 2);
        assert!(read(&[("STRIPE_WEBHOOK_SECRET", "sk_test_1")]).is_err());
    }

    #[test]
    fn the_two_addresses_must_differ() {
        assert!(read(&[("BILLING_SYNC_LISTEN", "127.0.0.1:9464")]).is_err());
    }
}
