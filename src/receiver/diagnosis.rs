//! Finds what failing signature checks have in common, and decides when to warn. PURE: `now` is an argument.
//!
//! A single failing delivery may come from any client on the internet. If all deliveries fail, the cause is the
//! configuration or a proxy. The warning appears once, and again only after a delivery was verified in between. This
//! module inspects bytes and never parses the JSON, which is not authenticated.

use super::signature::SignatureError;
use crate::metrics::signatures::Sign;

/// Fewer failures may come from a scanner.
const LEAST_FAILURES: u64 = 5;
/// Time without a verified delivery after which all deliveries count as failing. Before the first verified delivery
/// there is no wait, so a new setup gets the warning at once.
const SILENCE_SECONDS: i64 = 300;

/// The failures since a delivery was last verified.
#[derive(Debug, Default)]
pub(super) struct FailureWatch {
    verified_at: Option<i64>,
    failures: u64,
    /// Number of failures with each sign, in the order of [`Sign::ALL`].
    signs: [u64; Sign::ALL.len()],
    /// Whether the warning was given.
    warned: bool,
}

/// Report that every recent delivery has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FailureReport {
    pub(super) failures: u64,
    /// Seconds since the last verified delivery; `None`: no delivery was verified since the start.
    pub(super) silence: Option<i64>,
    /// Failures by sign, for example "3 untouched, 2 `no_header`".
    pub(super) signs: String,
    /// The most frequent sign.
    pub(super) most: Sign,
}

impl FailureWatch {
    /// Records a failed delivery. Returns the report to log, once.
    pub(super) fn failed(&mut self, sign: Sign, now: i64) -> Option<FailureReport> {
        self.failures += 1;
        self.signs[index(sign)] += 1;
        let silence = self.verified_at.map(|at| now - at);
        let all_fail = self.failures >= LEAST_FAILURES && silence.is_none_or(|seconds| seconds >= SILENCE_SECONDS);
        if !all_fail || std::mem::replace(&mut self.warned, true) {
            return None;
        }
        let most = Sign::ALL.into_iter().rev().max_by_key(|sign| self.signs[index(*sign)])?;
        Some(FailureReport { failures: self.failures, silence, signs: self.counted(), most })
    }

    /// Records a verified delivery. Returns the number of failures before it if they were warned about.
    pub(super) fn verified(&mut self, now: i64) -> Option<u64> {
        let before = std::mem::take(self);
        self.verified_at = Some(now);
        before.warned.then_some(before.failures)
    }

    fn counted(&self) -> String {
        let counted = Sign::ALL.into_iter().zip(self.signs).filter(|(_, count)| *count > 0);
        counted.map(|(sign, count)| format!("{count} {}", sign.as_str())).collect::<Vec<_>>().join(", ")
    }
}

fn index(sign: Sign) -> usize {
    Sign::ALL.iter().position(|other| *other == sign).unwrap_or_default()
}

/// The likely cause that a failed delivery shows; `None` if the signature matched and only its timestamp was wrong.
pub(super) fn sign_of(error: SignatureError, is_encoded: bool, body: &[u8]) -> Option<Sign> {
    Some(match error {
        SignatureError::Stale => return None,
        SignatureError::MissingHeader => Sign::NoHeader,
        SignatureError::MalformedTimestamp | SignatureError::ConflictingTimestamps => Sign::BadHeader,
        SignatureError::NoSignature => Sign::NoV1,
        SignatureError::NoMatch if is_encoded => Sign::Encoded,
        SignatureError::NoMatch => sign_of_body(body),
    })
}

/// Stripe formats a body as `{`, a line break, two spaces before each member, and `}` with nothing after it.
fn sign_of_body(body: &[u8]) -> Sign {
    match body {
        [] => Sign::Empty,
        [0xef, 0xbb, 0xbf, ..] | [0xfe, 0xff, ..] | [0xff, 0xfe, ..] => Sign::ByteOrderMark,
        [b'{', b'\n', .., b'}'] => Sign::Untouched,
        [b'{', .., b'}'] => Sign::Rewritten,
        _ => Sign::Cut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_shows_its_first_sign() {
        use SignatureError as E;
        for (error, is_encoded, body, sign) in [
            (E::MissingHeader, true, "{}", Some(Sign::NoHeader)),
            (E::MalformedTimestamp, false, "{}", Some(Sign::BadHeader)),
            (E::ConflictingTimestamps, false, "{}", Some(Sign::BadHeader)),
            (E::NoSignature, false, "{}", Some(Sign::NoV1)),
            (E::NoMatch, true, "{\n}", Some(Sign::Encoded)),
            (E::NoMatch, false, "\u{feff}{\n}", Some(Sign::ByteOrderMark)),
            (E::NoMatch, false, "", Some(Sign::Empty)),
            (E::NoMatch, false, "{\n  \"id\": \"e", Some(Sign::Cut)),
            (E::NoMatch, false, "{\n  \"id\": 1\n}\n", Some(Sign::Cut)),
            (E::NoMatch, false, "{\"id\":1}", Some(Sign::Rewritten)),
            (E::NoMatch, false, "{\n  \"id\": 1\n}", Some(Sign::Untouched)),
            (E::Stale, false, "{\n}", None),
        ] {
            assert_eq!(sign_of(error, is_encoded, body.as_bytes()), sign, "{error} {body:?}");
        }
    }

    #[test]
    fn a_new_setup_is_warned_once_at_the_fifth_failure() {
        let mut watch = FailureWatch::default();
        assert!((0..4).all(|now| watch.failed(Sign::Untouched, now).is_none()));
        let report = watch.failed(Sign::NoHeader, 4).unwrap();
        let signs = "1 no_header, 4 untouched".to_owned();
        assert_eq!(report, FailureReport { failures: 5, silence: None, signs, most: Sign::Untouched });
        assert!((5..10_000).all(|now| watch.failed(Sign::Untouched, now).is_none()));
    }

    #[test]
    fn failures_beside_verified_deliveries_cause_no_warning() {
        let mut watch = FailureWatch::default();
        for now in 0..3000 {
            assert_eq!(watch.failed(Sign::NoHeader, now), None);
            if now % 299 == 0 {
                assert_eq!(watch.verified(now), None);
            }
        }
    }

    #[test]
    fn a_recovery_is_reported_and_a_relapse_causes_a_warning() {
        let mut watch = FailureWatch::default();
        for now in 0..5 {
            watch.failed(Sign::Untouched, now);
        }
        assert_eq!(watch.verified(10), Some(5));
        assert_eq!(watch.verified(11), None);
        let relapse = (12..400).find_map(|now| watch.failed(Sign::Rewritten, now).map(|report| (now, report)));
        let (now, report) = relapse.unwrap();
        assert_eq!((now, report.failures, report.silence, report.most), (311, 300, Some(300), Sign::Rewritten));
        assert_eq!(watch.failed(Sign::Rewritten, 500), None);
        assert_eq!(watch.verified(501), Some(301));
    }
}
