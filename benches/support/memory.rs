//! The memory of a process, as reported by the kernel.

use std::fs;

/// Current (`VmRSS`) or peak (`VmHWM`) resident memory in MB; `None` if the process has ended.
pub(crate) fn megabytes(pid: u32, which: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(':'))?;
    // the kernel's kB are 1024 bytes
    Some(line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? * 1024.0 / 1e6)
}
