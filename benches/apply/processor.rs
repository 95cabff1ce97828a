//! Processor time in seconds; the kernel counts hundredths.

use std::fs;

use billing_sync::embedded::Cluster;

/// Processor time of a process; `None` if it has ended.
pub(crate) fn of_process(pid: u32) -> Option<f64> {
    Some(seconds(&stat(pid)?[11..13]))
}

/// Processor time of PostgreSQL, including ended sessions.
pub(crate) fn of_postgres(cluster: &Cluster) -> f64 {
    let postmaster = cluster.pid();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let children = processes.filter_map(stat).filter(|fields| fields[1] == u64::from(postmaster));
    // for the postmaster also the time of its ended children
    seconds(&stat(postmaster).unwrap()[11..15]) + children.map(|fields| seconds(&fields[11..13])).sum::<f64>()
}

fn seconds(ticks: &[u64]) -> f64 {
    ticks.iter().map(|ticks| u32::try_from(*ticks).map_or(0.0, f64::from)).sum::<f64>() / 100.0
}

/// The fields of a process's `stat` after its name, from its state on, as numbers.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect())
}
