//! Whether the `serve` of this machine can verify what it receives. Its ops listener knows; the database must not, because
//! what fails the signature check may be anybody's.

use std::net::SocketAddr;

use super::report::Check;
use crate::cli::health;
use crate::metrics::signatures::{FAILING, FAILURES, Sign};

/// Asks the ops listener.
pub(super) async fn check(listen: SocketAddr) -> Check {
    match health::metrics(listen).await {
        Some(metrics) => from(&metrics),
        None => Check::ok("deliveries", format!("no `serve` answers at {listen}, so what it receives is not known")),
    }
}

fn from(metrics: &str) -> Check {
    let failures = Sign::ALL.map(|sign| (value(metrics, &format!("{FAILURES}{{sign=\"{}\"}}", sign.as_str())), sign));
    let Some(failing) = value(metrics, FAILING) else {
        return Check::ok(
            "deliveries",
            "the `serve` of this machine is of another release, so what it receives is not known",
        );
    };
    let count: f64 = failures.iter().filter_map(|(count, _)| *count).sum();
    if failing < 1.0 {
        return Check::ok(
            "deliveries",
            format!("{count:.0} failed the signature check since `serve` started, and not all of late"),
        );
    }
    let counted = failures.iter().filter_map(|(count, sign)| Some((count.filter(|count| *count > 0.0)?, sign)));
    let counted: Vec<String> = counted.map(|(count, sign)| format!("{count:.0} {}", sign.as_str())).collect();
    let detail =
        format!("every recent delivery failed the signature check; since the start of `serve`: {}", counted.join(", "));
    let most =
        failures.iter().rev().max_by(|one, other| one.0.unwrap_or_default().total_cmp(&other.0.unwrap_or_default()));
    let advice = most.map_or(Sign::Untouched, |(_, sign)| *sign).advice();
    Check::failed("deliveries", detail, format!("most of them have {advice}"))
}

fn value(metrics: &str, series: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_releases_metrics_are_no_failure() {
        let said = serde_json::to_string(&from("billing_sync_build_info{version=\"0\"} 1\n")).unwrap();
        assert!(said.contains("\"status\":\"ok\"") && said.contains("another release"), "{said}");
    }
}
