//! Tests of all structs together: defaults, bounds, secrets.

use std::ffi::OsString;
use std::time::Duration;

use super::api::ApiConfig;
use super::database::DatabaseConfig;
use super::embedded::EmbeddedConfig;
use super::error::ConfigError;
use super::log::{LogConfig, LogFormat};
use super::ops::OpsConfig;
use super::receiver::ReceiverConfig;
use super::reconcile::ReconcileConfig;
use super::retention::RetentionConfig;
use super::shutdown::ShutdownConfig;
use super::source::{Flags, Source};
use super::stripe::StripeConfig;
use super::sync::SyncConfig;
use super::worker::WorkerConfig;

const SECRET: (&str, &str) = ("STRIPE_WEBHOOK_SECRET", "whsec_hunter2");

fn read<T>(environment: &[(&str, &str)], read: impl FnOnce(&mut Source) -> Option<T>) -> Result<T, ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value)));
    Source::new(Flags::new(), environment).collect(read)
}

#[test]
fn the_defaults_are_those_of_the_registry() {
    let worker = read(&[], WorkerConfig::read).unwrap();
    assert_eq!((worker.batch_size, worker.workers, worker.max_attempts), (500, 2, 12));
    assert_eq!((worker.retry_initial, worker.retry_max), (Duration::from_secs(5), Duration::from_hours(1)));
    assert_eq!((worker.poll_interval, worker.attempt_lease), (Duration::from_secs(5), Duration::from_mins(1)));
    let receiver = read(&[SECRET], ReceiverConfig::read).unwrap();
    assert_eq!((receiver.listen.to_string().as_str(), receiver.body_limit), ("127.0.0.1:8080", 1_048_576));
    let sync = read(&[], SyncConfig::read).unwrap();
    assert!(!sync.livemode && sync.accounts.is_empty() && sync.past_due_active);
    assert_eq!(read(&[], OpsConfig::read).unwrap().listen.port(), 9464);
    assert_eq!(read(&[], ShutdownConfig::read).unwrap().timeout, Duration::from_secs(25));
    assert_eq!(read(&[], LogConfig::read).unwrap().format, LogFormat::Auto);
    let database = read(&[], DatabaseConfig::read).unwrap();
    assert!(database.hosts.is_none());
    let embedded = read(&[("PATH", "/bin")], EmbeddedConfig::read).unwrap();
    assert_eq!((embedded.data_dir.to_str(), embedded.search_path.as_str()), (Some("./.billing-sync"), "/bin"));
}

#[test]
fn a_missing_signing_secret_is_refused_with_the_fix() {
    for environment in [&[][..], &[("STRIPE_WEBHOOK_SECRET", "")]] {
        let error = read(environment, ReceiverConfig::read).unwrap_err();
        assert_eq!(error.problems.len(), 1);
        assert!(error.problems[0].fix.contains("Developers > Webhooks"), "{error}");
        assert!(error.problems[0].fix.contains("stripe listen"), "{error}");
    }
}

#[test]
fn a_blank_secret_among_others_is_refused() {
    for secrets in [" ", "whsec_a,", "whsec_a,,whsec_b", ","] {
        assert!(read(&[("STRIPE_WEBHOOK_SECRET", secrets)], ReceiverConfig::read).is_err(), "{secrets:?}");
    }
    let rotation = read(&[("STRIPE_WEBHOOK_SECRET", " whsec_a , whsec_b\t")], ReceiverConfig::read).unwrap();
    assert_eq!(rotation.secrets.len(), 2);
}

#[test]
fn a_blank_value_is_reported_as_blank() {
    let error = read(&[("STRIPE_WEBHOOK_SECRET", "  ")], ReceiverConfig::read).unwrap_err();
    assert_eq!(error.problems[0].wrong, "is blank");
}

#[test]
fn a_bare_prefix_is_not_a_secret() {
    for secrets in ["whsec_", " whsec_ ", "whsec_a,whsec_"] {
        let error = read(&[("STRIPE_WEBHOOK_SECRET", secrets)], ReceiverConfig::read).unwrap_err();
        assert!(error.problems[0].wrong.contains("has nothing after whsec_"), "{error}");
    }
}

#[test]
fn an_unusual_secret_is_accepted_with_a_warning() {
    for (secrets, warning) in [
        ("whsec_a", None),
        ("hunter2", Some("STRIPE_WEBHOOK_SECRET does not begin with whsec_, as all signing secrets of Stripe's do")),
        ("whsec_a,hunter2", Some("STRIPE_WEBHOOK_SECRET has 1 of 2 secrets that do not begin with whsec_")),
    ] {
        let mut source = Source::new(Flags::new(), [("STRIPE_WEBHOOK_SECRET".to_owned(), OsString::from(secrets))]);
        source.collect(ReceiverConfig::read).unwrap();
        assert_eq!(source.warnings().len(), usize::from(warning.is_some()), "{secrets}");
        assert!(source.warnings().iter().zip(warning).all(|(text, expected)| text.starts_with(expected)), "{secrets}");
    }
}

#[test]
fn an_api_key_is_not_a_signing_secret() {
    let error = read(&[("STRIPE_WEBHOOK_SECRET", "sk_test_hunter2")], ReceiverConfig::read).unwrap_err();
    assert!(error.to_string().contains("the secret is an API key (sk_…)"), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn every_setting_is_read_and_refuses_a_blank_value() {
    for setting in super::settings::ALL {
        let environment: Vec<(&str, &str)> =
            [SECRET].into_iter().filter(|(name, _)| *name != setting.name).chain([(setting.name, " ")]).collect();
        let error = read(&environment, |source| {
            let database = DatabaseConfig::read(source);
            let receiver = ReceiverConfig::read(source);
            let (stripe, sync) = (StripeConfig::read(source), SyncConfig::read(source));
            let (worker, reconcile) = (WorkerConfig::read(source), ReconcileConfig::read(source));
            let (api, ops) = (ApiConfig::read(source), OpsConfig::read(source));
            let retention = RetentionConfig::read(source);
            let embedded = EmbeddedConfig::read(source);
            let (shutdown, log) = (ShutdownConfig::read(source), LogConfig::read(source));
            let common = (ops?, embedded?, shutdown?, log?);
            Some((database?, receiver?, api?, stripe?, sync?, worker?, reconcile?, retention?, common))
        });
        let problems = error.err().map(|error| error.problems).unwrap_or_default();
        assert_eq!(problems.len(), 1, "{}", setting.name);
        assert_eq!(problems[0].subject, setting.name);
    }
}

#[test]
fn a_log_filter_with_an_unknown_level_is_refused() {
    for wrong in ["verbose", "billing_sync", "info,sqlx", "info,=debug=", ""] {
        let read = read(&[("BILLING_SYNC_LOG", wrong)], LogConfig::read);
        assert_eq!(read.is_ok(), wrong.is_empty(), "{wrong}");
    }
    assert!(read(&[("BILLING_SYNC_LOG", "WARN,billing_sync=debug")], LogConfig::read).is_ok());
}

#[test]
fn zero_is_refused() {
    for name in ["WORKERS", "BATCH_SIZE", "MAX_ATTEMPTS", "POLL_INTERVAL", "RETRY_INITIAL", "ATTEMPT_LEASE"] {
        let variable = format!("BILLING_SYNC_{name}");
        for zero in ["0", "0s"] {
            assert!(read(&[(&variable, zero)], WorkerConfig::read).is_err(), "{name}");
        }
    }
    for name in ["BODY_LIMIT", "HEADER_TIMEOUT", "MAX_CONNECTIONS", "QUEUE_CAPACITY", "STORE_TIMEOUT"] {
        let variable = format!("BILLING_SYNC_{name}");
        for zero in ["0", "0s"] {
            assert!(read(&[SECRET, (&variable, zero)], ReceiverConfig::read).is_err(), "{name}");
        }
    }
}

#[test]
fn the_maximum_delay_is_not_below_the_initial_one() {
    let environment = [("BILLING_SYNC_RETRY_INITIAL", "2m"), ("BILLING_SYNC_RETRY_MAX", "1m")];
    let error = read(&environment, WorkerConfig::read).unwrap_err();
    assert!(error.to_string().contains("1m is shorter than BILLING_SYNC_RETRY_INITIAL, 2m"), "{error}");
}

#[test]
fn a_database_url_is_checked_before_anything_connects() {
    for wrong in ["localhost", "mysql://u:p@h/d", "postgres://h:port/d", "postgres://h/d?sslmode=maybe"] {
        assert!(read(&[("DATABASE_URL", wrong)], DatabaseConfig::read).is_err(), "{wrong}");
    }
    let url = "postgres://u:p%40ss@h:6432/d";
    let hosts = read(&[("DATABASE_URL", url)], DatabaseConfig::read).unwrap().hosts.unwrap();
    let options = &hosts.current().options;
    assert_eq!((options.get_host(), options.get_port(), options.get_database()), ("h", 6432, Some("d")));
}

#[test]
fn debug_output_shows_no_secret() {
    let environment = [SECRET, ("DATABASE_URL", "postgres://u:hunter2@h/d"), ("STRIPE_SECRET_KEY", "sk_test_hunter2")];
    let shown = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        read(&environment, DatabaseConfig::read).unwrap(),
        read(&environment, ReceiverConfig::read).unwrap(),
        read(&environment, WorkerConfig::read).unwrap(),
        read(&environment, StripeConfig::read).unwrap(),
        read(&environment, SyncConfig::read).unwrap(),
        read(&environment, OpsConfig::read).unwrap(),
        read(&environment, EmbeddedConfig::read).unwrap(),
        read(&environment, ShutdownConfig::read).unwrap(),
        read(&environment, LogConfig::read).unwrap(),
    );
    assert!(!shown.contains("hunter2"), "{shown}");
}
