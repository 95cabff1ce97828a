//! The process itself: its start time, its idle memory, its binary.

use std::fs;
use std::time::{Duration, Instant};

use super::Bench;
use super::service::Service;
use super::support::report::Aim;

/// Number of starts, of which the median is reported.
const STARTS: usize = 9;

/// Time after which a process without load is idle.
const SETTLED: Duration = Duration::from_secs(2);

pub(crate) async fn start(bench: &mut Bench) {
    bench.begin_anew().await;
    let url = bench.cluster.url();
    let mut starts: Vec<Duration> = (0..STARTS).map(|_| start_once(&url)).collect();
    starts.sort_unstable();
    let median = starts[STARTS / 2].as_secs_f64() * 1e3;
    bench.report.figure("start, until /readyz answers 200", median, "ms", Aim::AtMost(20.0));
    let service = Service::start(&url, None);
    tokio::time::sleep(SETTLED).await;
    bench.report.figure("resident memory, idle", service.memory(), "MB", Aim::AtMost(12.0));
    match changed_profile() {
        None => {
            let bytes = fs::metadata(env!("CARGO_BIN_EXE_billing-sync")).unwrap().len();
            bench.report.figure("binary", bytes as f64 / 1e6, "MB", None);
        }
        Some(changed) => println!("  size of the binary: not measured, because it was built with {changed}"),
    }
}

fn start_once(url: &str) -> Duration {
    let began = Instant::now();
    let service = Service::start(url, None);
    let took = began.elapsed();
    drop(service);
    took
}

/// The settings of the release profile that were changed for this build; `None` if it is that of `Cargo.toml`.
fn changed_profile() -> Option<String> {
    let settings = [
        ("CARGO_PROFILE_RELEASE_LTO", option_env!("CARGO_PROFILE_RELEASE_LTO")),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", option_env!("CARGO_PROFILE_RELEASE_CODEGEN_UNITS")),
        ("CARGO_PROFILE_RELEASE_STRIP", option_env!("CARGO_PROFILE_RELEASE_STRIP")),
        ("CARGO_PROFILE_RELEASE_DEBUG", option_env!("CARGO_PROFILE_RELEASE_DEBUG")),
        ("CARGO_PROFILE_RELEASE_OPT_LEVEL", option_env!("CARGO_PROFILE_RELEASE_OPT_LEVEL")),
    ];
    let changed: Vec<String> =
        settings.iter().filter_map(|(name, value)| value.map(|value| format!("{name}={value}"))).collect();
    (!changed.is_empty()).then(|| changed.join(" "))
}
