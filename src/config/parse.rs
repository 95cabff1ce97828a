//! Parses the text of a setting into its value, with bounds. PURE.
//!
//! On failure, each function returns the expected value as text that completes both "… is not" and "set it to". So a
//! configuration error needs no separate text for each setting.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::{Host, Url};

/// The expected value.
#[derive(Debug, PartialEq, Eq)]
pub struct Expected {
    /// Description such as "a whole number from 1 to 64".
    pub what: String,
    /// More about the fix, such as where to find a value; may be empty.
    pub hint: &'static str,
}

impl Expected {
    /// An expected value without a hint.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: "" }
    }
}

/// The result of reading one value.
pub type Parsed<T> = Result<T, Expected>;

/// A whole number within bounds, both included.
pub(super) fn whole<T: TryFrom<u64>>(least: u64, most: u64) -> impl Fn(&str) -> Parsed<T> {
    move |text| {
        let number = text.trim().parse().ok().filter(|number| (least..=most).contains(number));
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| Expected::new(format!("a whole number from {least} to {most}")))
    }
}

/// A duration as it is written in a setting. Whole days stay days: humantime would write 35d as 1month 4days 13h….
pub fn in_words(duration: Duration) -> String {
    const DAY: u64 = 86_400;
    match duration.as_secs() {
        seconds if seconds >= DAY && seconds % DAY == 0 => format!("{}d", seconds / DAY),
        _ => humantime::format_duration(duration).to_string(),
    }
}

/// A duration with its unit, within bounds, both included.
pub(super) fn duration(least: Duration, most: Duration) -> impl Fn(&str) -> Parsed<Duration> {
    move |text| {
        humantime::parse_duration(text.trim()).ok().filter(|duration| (least..=most).contains(duration)).ok_or_else(
            || {
                let (least, most) = (in_words(least), in_words(most));
                Expected::new(format!("a duration from {least} to {most}, with its unit"))
            },
        )
    }
}

/// `true` or `false`, or an equivalent word.
pub(super) fn boolean(text: &str) -> Parsed<bool> {
    match text.trim().to_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(Expected::new("true or false")),
    }
}

/// An IP address with a port. Not a host name, because the address of a listener must not depend on a name server.
pub(super) fn address(text: &str) -> Parsed<SocketAddr> {
    text.trim().parse().map_err(|_| Expected::new("an IP address with a port, such as 127.0.0.1:8080"))
}

/// A path; only a blank one is refused.
pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    if text.trim().is_empty() { Err(Expected::new("a path")) } else { Ok(PathBuf::from(text)) }
}

/// The id of one account.
pub(super) fn account(text: &str) -> Parsed<String> {
    let id = text.trim();
    if id.starts_with("acct_") && !id.contains(',') {
        Ok(id.to_owned())
    } else {
        Err(Expected::new("the id of an account (acct_…)"))
    }
}

/// Ids of connected accounts, separated by commas.
pub(super) fn accounts(text: &str) -> Parsed<BTreeSet<String>> {
    let accounts: BTreeSet<String> = text.split(',').map(|account| account.trim().to_owned()).collect();
    if accounts.iter().all(|account| account.starts_with("acct_")) {
        Ok(accounts)
    } else {
        Err(Expected::new("a list of account ids (acct_…) separated by commas"))
    }
}

/// Texts separated by commas, trimmed, in their order and without duplicates; a blank one is refused. `what` describes
/// the list.
pub(super) fn list(what: &'static str) -> impl Fn(&str) -> Parsed<Vec<String>> {
    move |text| {
        let mut items: Vec<String> = Vec::new();
        for item in text.split(',').map(str::trim) {
            if item.is_empty() {
                return Err(Expected::new(what));
            }
            if !items.iter().any(|known| known == item) {
                items.push(item.to_owned());
            }
        }
        Ok(items)
    }
}

/// Whether requests to a URL are safe on the network: with https, or with http to this machine.
pub(super) fn is_safe_on_network(url: &Url) -> bool {
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_the_bounds_are_refused() {
        let parse = whole::<usize>(1, 64);
        assert_eq!((parse("1"), parse("64")), (Ok(1), Ok(64)));
        for wrong in ["0", "65", "-1", "1.0", "", "many"] {
            assert_eq!(parse(wrong), Err(Expected::new("a whole number from 1 to 64")), "{wrong}");
        }
    }

    #[test]
    fn a_duration_needs_its_unit() {
        let parse = duration(Duration::from_millis(100), Duration::from_mins(5));
        assert_eq!(parse("1m 30s"), Ok(Duration::from_secs(90)));
        for wrong in ["10", "0s", "1h", "", "soon"] {
            let expected = "a duration from 100ms to 5m, with its unit".to_owned();
            assert_eq!(parse(wrong), Err(Expected::new(expected)), "{wrong}");
        }
    }

    #[test]
    fn a_listener_needs_an_ip_address() {
        assert!(address("[::1]:8080").is_ok());
        assert!(address("localhost:8080").is_err());
        assert!(address("127.0.0.1").is_err());
    }

    #[test]
    fn accounts_are_trimmed_and_a_blank_one_is_refused() {
        assert_eq!(accounts("acct_b, acct_a").unwrap().into_iter().collect::<Vec<_>>(), ["acct_a", "acct_b"]);
        assert!(accounts("acct_a,").is_err());
    }

    #[test]
    fn a_list_is_trimmed_and_has_no_duplicates() {
        let parse = list("a list");
        assert_eq!(parse(" b, a ,b").unwrap(), ["b", "a"]);
        for wrong in ["", " ", "a,", ",a", "a,,b"] {
            assert_eq!(parse(wrong), Err(Expected::new("a list")), "{wrong:?}");
        }
    }

    #[test]
    fn plain_http_is_safe_only_within_this_machine() {
        for (url, is_safe) in [
            ("https://example.com/", true),
            ("http://127.0.0.1:8420/", true),
            ("http://[::1]/", true),
            ("http://localhost:1/", true),
            ("http://localhost.example/", false),
            ("http://10.0.0.1/", false),
            ("ftp://127.0.0.1/", false),
            ("unix:/tmp/socket", false),
        ] {
            assert_eq!(is_safe_on_network(&Url::parse(url).unwrap()), is_safe, "{url}");
        }
    }
}
