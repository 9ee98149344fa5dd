//! What memory this process has, for finding out where it went: from `/proc/self/status` and `/proc/self/smaps_rollup`.

use std::fs;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::process::{cpu_seconds, kibibytes, open_files};

/// A process's memory and what else it holds. What the system does not say is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct MemoryView {
    /// Resident, of whatever kind.
    pub resident_bytes: Option<u64>,
    /// The most that ever was.
    pub resident_peak_bytes: Option<u64>,
    /// Addresses that are taken, whether memory stands behind them or not.
    pub virtual_bytes: Option<u64>,
    /// Resident and of no file: heap and stacks.
    pub anonymous_bytes: Option<u64>,
    /// Resident and of files: the program for the most part.
    pub file_bytes: Option<u64>,
    /// The heap and other writable data, whether resident or not.
    pub data_bytes: Option<u64>,
    /// Resident, shared pages counted by their share.
    pub proportional_bytes: Option<u64>,
    /// Resident in this process alone.
    pub private_bytes: Option<u64>,
    /// Moved out to swap.
    pub swap_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Files and sockets that are open.
    pub open_files: u32,
    /// CPU time since the start.
    pub cpu_seconds: f64,
}

/// This process now.
pub fn memory() -> MemoryView {
    let text = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    of(&text("status"), &text("smaps_rollup"))
}

fn of(status: &str, rollup: &str) -> MemoryView {
    let clean = kibibytes(rollup, "Private_Clean");
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok());
    MemoryView {
        resident_bytes: kibibytes(status, "VmRSS"),
        resident_peak_bytes: kibibytes(status, "VmHWM"),
        virtual_bytes: kibibytes(status, "VmSize"),
        anonymous_bytes: kibibytes(status, "RssAnon"),
        file_bytes: kibibytes(status, "RssFile"),
        data_bytes: kibibytes(status, "VmData"),
        proportional_bytes: kibibytes(rollup, "Pss"),
        private_bytes: clean.zip(kibibytes(rollup, "Private_Dirty")).map(|(clean, dirty)| clean + dirty),
        swap_bytes: kibibytes(status, "VmSwap"),
        threads,
        open_files: open_files(),
        cpu_seconds: cpu_seconds(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_this_process_hang_together() {
        let now = memory();
        let resident = now.resident_bytes.unwrap();
        assert!(resident > 1 << 20 && resident < now.virtual_bytes.unwrap(), "{now:?}");
        assert!(now.resident_peak_bytes.unwrap() > 1 << 20 && now.threads.unwrap() >= 1, "{now:?}");
        assert!(now.open_files >= 3 && now.cpu_seconds >= 0.0);
    }

    #[test]
    fn what_is_not_said_is_absent() {
        let view = of("VmRSS:\t 10 kB\nThreads:\t4\n", "Private_Clean: 1 kB\nPss: 2 kB\n");
        assert_eq!(
            (view.resident_bytes, view.threads, view.proportional_bytes),
            (Some(10_240), Some(4), Some(2_048))
        );
        assert_eq!((view.private_bytes, view.virtual_bytes), (None, None));
    }
}
