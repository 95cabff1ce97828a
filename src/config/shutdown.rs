//! Settings of the shutdown. Read by `serve`.

use std::time::Duration;

use super::error::Problem;
use super::parse;
use super::settings;
use super::source::Source;

/// Settings of the shutdown of the process.
#[derive(Debug, Clone)]
pub struct ShutdownConfig {
    /// `BILLING_SYNC_SHUTDOWN_TIMEOUT`, default 25s (Kubernetes kills after 30): time from the signal to the exit,
    /// including the drain delay.
    pub timeout: Duration,
    /// `BILLING_SYNC_DRAIN_DELAY`, default 0s: time from the signal until the public listener closes.
    pub drain_delay: Duration,
}

impl ShutdownConfig {
    /// Reads both times. The delay must leave time for the work in flight.
    pub fn read(source: &mut Source) -> Option<Self> {
        let bounds = parse::duration(Duration::from_secs(1), Duration::from_hours(1));
        let timeout = source.value(&settings::SHUTDOWN_TIMEOUT, bounds);
        let drain_delay =
            source.value(&settings::DRAIN_DELAY, parse::duration(Duration::ZERO, Duration::from_hours(1)));
        let config = Self { timeout: timeout?, drain_delay: drain_delay? };
        if config.drain_delay < config.timeout {
            return Some(config);
        }
        source.problem(config.contradiction());
        None
    }

    fn contradiction(&self) -> Problem {
        let (delay, timeout) = (settings::DRAIN_DELAY.name, settings::SHUTDOWN_TIMEOUT.name);
        let written = humantime::format_duration;
        let wrong = format!(
            "are {} and {}: the delay leaves no time to finish",
            written(self.drain_delay),
            written(self.timeout)
        );
        Problem::new(
            format!("{delay}, {timeout}"),
            wrong,
            format!("make {timeout} longer than {delay}; it includes the delay"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Flags;

    fn read(delay: &str, timeout: &str) -> Result<Duration, String> {
        let environment = [(settings::DRAIN_DELAY.name, delay), (settings::SHUTDOWN_TIMEOUT.name, timeout)];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.into()));
        let read = Source::new(Flags::new(), environment).collect(ShutdownConfig::read);
        read.map(|config| config.drain_delay).map_err(|error| error.to_string())
    }

    #[test]
    fn the_delay_must_be_shorter_than_the_timeout() {
        assert_eq!(read("", ""), Ok(Duration::ZERO));
        assert_eq!(read("0", "1s"), Ok(Duration::ZERO));
        assert_eq!(read("10s", "25s"), Ok(Duration::from_secs(10)));
        for (delay, timeout) in [("25s", ""), ("2s", "1s"), ("1m", "1m")] {
            let error = read(delay, timeout).unwrap_err();
            assert!(error.starts_with("BILLING_SYNC_DRAIN_DELAY, BILLING_SYNC_SHUTDOWN_TIMEOUT: are "), "{error}");
        }
    }
}
