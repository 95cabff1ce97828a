//! Settings of the demo: its log filter, and what it needs if it keeps serving after its story. Read by `demo`, used by
//! `crate::demo`.

use std::net::SocketAddr;

use super::ops;
use super::parse;
use super::receiver;
use super::settings::{self, Setting};
use super::source::Source;
use crate::config::secret::WebhookSecret;

/// The log filter with another default: lines of level info would interrupt the story.
pub static LOG: Setting = Setting { default: "warn", ..settings::LOG };

/// Settings of a demo that keeps serving.
#[derive(Debug, Clone)]
pub struct KeepConfig {
    /// `BILLING_SYNC_LISTEN`, default `127.0.0.1:8080`: for `stripe listen --forward-to`.
    pub listen: SocketAddr,
    /// `BILLING_SYNC_OPS_LISTEN`, default `127.0.0.1:9464`.
    pub ops_listen: SocketAddr,
    /// `BILLING_SYNC_API_LISTEN`, default `127.0.0.1:8081`: the address of the workspace API, if the demo serves it.
    pub api_listen: Option<SocketAddr>,
    /// `STRIPE_WEBHOOK_SECRET`, if set: accepted in addition to the secret that the demo generates.
    pub extra_secrets: Vec<WebhookSecret>,
}

impl KeepConfig {
    /// Reads the addresses, which must differ, and the secrets, which may be absent. `api`: the demo serves the API.
    pub fn read(source: &mut Source, api: bool) -> Option<Self> {
        let listen = source.value(&settings::LISTEN, parse::address);
        let ops_listen = source.value(&settings::OPS_LISTEN, parse::address);
        let api_listen = api.then(|| source.value(&settings::API_LISTEN, parse::address));
        let api_listen = api_listen.map_or(Some(None), |read| read.map(Some));
        let extra_secrets = receiver::optional_secrets(source);
        let (listen, ops_listen, api_listen) = (listen?, ops_listen?, api_listen?);
        let listeners = [
            Some((&settings::LISTEN, listen)),
            api_listen.map(|listen| (&settings::API_LISTEN, listen)),
            Some((&settings::OPS_LISTEN, ops_listen)),
        ];
        ops::check_distinct(source, listeners.into_iter().flatten())?;
        Some(Self { listen, ops_listen, api_listen, extra_secrets: extra_secrets? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::log::LogConfig;
    use crate::config::source::Flags;

    fn read(environment: &[(&str, &str)]) -> Result<KeepConfig, crate::config::error::ConfigError> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).into()));
        Source::new(Flags::new(), environment).collect(|source| KeepConfig::read(source, true))
    }

    #[test]
    fn a_kept_demo_accepts_optional_secrets() {
        assert!(read(&[]).unwrap().extra_secrets.is_empty());
        assert_eq!(read(&[("STRIPE_WEBHOOK_SECRET", "whsec_1,whsec_2")]).unwrap().extra_secrets.len(), 2);
        assert!(read(&[("STRIPE_WEBHOOK_SECRET", "sk_test_1")]).is_err());
    }

    #[test]
    fn the_story_is_not_interrupted_by_the_log_unless_it_is_set() {
        let read = |environment: &[(&str, &str)]| {
            let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).into()));
            Source::new(Flags::new(), environment).collect(|source| LogConfig::read_from(source, &LOG)).unwrap().filter
        };
        assert_eq!(read(&[]), "warn");
        assert_eq!(read(&[("BILLING_SYNC_LOG", "debug")]), "debug");
    }

    #[test]
    fn the_addresses_must_differ() {
        assert!(read(&[("BILLING_SYNC_LISTEN", "127.0.0.1:9464")]).is_err());
        assert!(read(&[("BILLING_SYNC_API_LISTEN", "127.0.0.1:8080")]).is_err());
        assert!(read(&[("BILLING_SYNC_API_LISTEN", "127.0.0.1:9464")]).is_err());
        assert_eq!(read(&[("BILLING_SYNC_API_LISTEN", "127.0.0.1:0")]).unwrap().api_listen.unwrap().port(), 0);
    }
}
