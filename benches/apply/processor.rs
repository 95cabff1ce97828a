//! Processor time, in seconds, as the kernel counts it in hundredths.

use std::fs;

use billing_sync::embedded::Cluster;

/// What a process has used; `None` where it has ended.
pub(crate) fn of_process(pid: u32) -> Option<f64> {
    Some(seconds(&stat(pid)?[11..13]))
}

/// What PostgreSQL has used, its sessions that have ended included.
pub(crate) fn of_postgres(cluster: &Cluster) -> f64 {
    let postmaster = cluster.pid();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let children = processes.filter_map(stat).filter(|fields| fields[1] == u64::from(postmaster));
    // of the postmaster also what its children used that it has waited for
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
