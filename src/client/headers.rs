//! Reads the headers of a response: its time, whether to retry, and when.

use std::time::Duration;

use hyper::HeaderMap;
use time::OffsetDateTime;

/// Maximum delay that a response can request, because a wrong clock must not stop all requests for a day.
const LONGEST: Duration = Duration::from_mins(1);

/// The headers that the client uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ResponseHeaders {
    /// `Request-Id`.
    pub(super) request_id: Option<String>,
    /// `Date`, by Stripe's clock.
    pub(super) date: Option<OffsetDateTime>,
    /// `Stripe-Should-Retry`.
    pub(super) should_retry: Option<bool>,
    /// `Retry-After`, at most one minute.
    pub(super) retry_after: Option<Duration>,
    /// `Idempotent-Replayed`: the answer is that to an earlier request with the same idempotency key.
    pub(super) is_replayed: bool,
}

impl ResponseHeaders {
    /// Reads the headers; an invalid header counts as absent. `now` is used for a `Retry-After` that is a time if the
    /// response has no `Date` to compare it with.
    pub(super) fn of(headers: &HeaderMap, now: OffsetDateTime) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let date = text("date").and_then(time_of);
        Self {
            // limited, because it is logged and a proxy may send anything
            request_id: text("request-id").filter(|id| id.len() <= 64).map(str::to_owned),
            date,
            should_retry: text("stripe-should-retry").and_then(|text| text.parse().ok()),
            retry_after: text("retry-after").and_then(|text| wait_of(text, date.unwrap_or(now))),
            is_replayed: text("idempotent-replayed") == Some("true"),
        }
    }
}

fn time_of(text: &str) -> Option<OffsetDateTime> {
    httpdate::parse_http_date(text).ok().map(OffsetDateTime::from)
}

/// Parses `Retry-After`: seconds, or the time of the next attempt (RFC 9110, 10.2.3).
fn wait_of(text: &str, now: OffsetDateTime) -> Option<Duration> {
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        // a time in the past means at once
        Err(_) => Duration::try_from(time_of(text)? - now).unwrap_or_default(),
    };
    Some(wait.min(LONGEST))
}

/// Maximum time that `Date` may be ahead of this machine's clock. NTP clocks differ by less, so beyond it one of the
/// two clocks is wrong.
const AHEAD: time::Duration = time::Duration::minutes(5);

/// The time of a response: its `Date`, unless that is ahead of this machine's clock. A read with a future time would
/// win over every event and read until then. If this machine's clock is behind, the read counts as older than it is,
/// and the next one replaces it.
pub(super) fn dated(date: Option<OffsetDateTime>, now: OffsetDateTime) -> OffsetDateTime {
    date.filter(|date| *date <= now + AHEAD).unwrap_or(now)
}

/// Start of the request by the clock of `date`, rounded down to whole seconds.
pub(super) fn began(date: OffsetDateTime, took: Duration) -> OffsetDateTime {
    let began = date.checked_sub(time::Duration::try_from(took).unwrap_or_default()).unwrap_or(date);
    began - time::Duration::nanoseconds(i64::from(began.nanosecond()))
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-25 10:00:00 UTC);

    fn parsed(headers: &[(&'static str, &'static str)]) -> ResponseHeaders {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        ResponseHeaders::of(&headers.iter().map(pair).collect(), NOW)
    }

    #[test]
    fn retry_after_is_seconds_or_a_time() {
        for (text, seconds) in [
            ("7", Some(7)),
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("86400", Some(60)),
            ("Wed, 25 Nov 2026 10:00:05 GMT", Some(5)),
            ("Wed, 25 Nov 2026 09:59:00 GMT", Some(0)),
            ("Thu, 26 Nov 2026 10:00:00 GMT", Some(60)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(parsed(&[("retry-after", text)]).retry_after, seconds.map(Duration::from_secs), "{text:?}");
        }
        assert_eq!(parsed(&[]).retry_after, None);
    }

    #[test]
    fn a_retry_time_is_relative_to_the_response_date() {
        let both = [("retry-after", "Wed, 25 Nov 2026 12:00:05 GMT"), ("date", "Wed, 25 Nov 2026 12:00:00 GMT")];
        assert_eq!(parsed(&both).retry_after, Some(Duration::from_secs(5)));
    }

    #[test]
    fn odd_headers_count_as_absent() {
        let odd = [("date", "yesterday"), ("stripe-should-retry", "perhaps"), ("retry-after", "never")];
        assert_eq!(parsed(&odd), ResponseHeaders::default());
        let good = parsed(&[("stripe-should-retry", "false"), ("request-id", "req_1")]);
        assert_eq!((good.should_retry, good.request_id.as_deref()), (Some(false), Some("req_1")));
    }

    #[test]
    fn a_future_date_is_replaced_by_this_machines_time() {
        let minute = time::Duration::MINUTE;
        for date in [NOW, NOW + 4 * minute, NOW - 90 * minute] {
            assert_eq!(dated(Some(date), NOW), date);
        }
        assert_eq!(dated(Some(NOW + 6 * minute), NOW), NOW);
        assert_eq!(dated(Some(datetime!(2098-01-01 00:00:00 UTC)), NOW), NOW);
        assert_eq!(dated(None, NOW), NOW);
    }

    #[test]
    fn a_request_began_at_its_date_minus_its_duration() {
        assert_eq!(began(NOW, Duration::ZERO), NOW);
        assert_eq!(began(NOW, Duration::from_millis(1)), datetime!(2026-11-25 09:59:59 UTC));
        assert_eq!(began(NOW, Duration::from_millis(2500)), datetime!(2026-11-25 09:59:57 UTC));
        let before_1970 = datetime!(1969-12-31 23:59:59.5 UTC);
        assert_eq!(began(before_1970, Duration::ZERO), datetime!(1969-12-31 23:59:59 UTC));
    }
}
