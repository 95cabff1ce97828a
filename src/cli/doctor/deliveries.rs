//! Checks whether the `serve` of this machine can verify its deliveries, using the metrics of its ops listener. The
//! database has no such record, because a delivery that fails the signature check may come from any sender.

use std::net::SocketAddr;

use super::report::Check;
use crate::cli::health;
use crate::metrics::signatures::{FAILING, FAILURES, Sign};

/// Reads the metrics from the ops listener and checks them.
pub(super) async fn check(listen: SocketAddr) -> Check {
    match health::metrics(listen).await {
        Some(metrics) => from(&metrics),
        None => Check::ok("deliveries", format!("not checked: no `serve` answers at {listen}")),
    }
}

fn from(metrics: &str) -> Check {
    let failures = Sign::ALL.map(|sign| (value(metrics, &format!("{FAILURES}{{sign=\"{}\"}}", sign.as_str())), sign));
    let Some(failing) = value(metrics, FAILING) else {
        return Check::ok("deliveries", "not checked: the `serve` of this machine is another release");
    };
    let count: f64 = failures.iter().filter_map(|(count, _)| *count).sum();
    if failing < 1.0 {
        let detail = match count {
            0.0 => "none has failed the signature check since `serve` started".to_owned(),
            count => format!("{count:.0} failed the signature check since `serve` started, but not all recent ones"),
        };
        return Check::ok("deliveries", detail);
    }
    let counted = failures.iter().filter_map(|(count, sign)| Some((count.filter(|count| *count > 0.0)?, sign)));
    let counted: Vec<String> = counted.map(|(count, sign)| format!("{count:.0} {}", sign.as_str())).collect();
    let detail =
        format!("every recent delivery failed the signature check; since `serve` started: {}", counted.join(", "));
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
    fn metrics_of_another_release_are_not_a_failure() {
        let message = serde_json::to_string(&from("billing_sync_build_info{version=\"0\"} 1\n")).unwrap();
        assert!(message.contains("\"status\":\"ok\"") && message.contains("another release"), "{message}");
    }
}
