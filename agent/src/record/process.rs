//! What measuring costs, and what it had to do without: CPU time of a core, its waiting for a processor, memory and files of the process,
//! processors that the hypervisor gave to others.
//!
//! Read once an interval, outside the load cores but for what is said of the calling thread. What a system does not say is nought.

use std::fs;

use rustix::time::{ClockId, clock_gettime};
pub use volcanion_common::telemetry::process::{open_files, resident_bytes};

/// CPU time that the calling thread has used, in microseconds.
pub fn thread_cpu_us() -> u64 {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    used.tv_sec as u64 * 1_000_000 + used.tv_nsec as u64 / 1_000
}

/// How long the calling thread could have run and had no processor, in microseconds.
pub fn thread_wait_us() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0) / 1_000
}

/// The machine's processor time: what a hypervisor took from it, and all there was. Looks again and again.
#[derive(Debug)]
pub struct Steal {
    before: (u64, u64),
}

impl Steal {
    /// From now on.
    pub fn new() -> Self {
        Self { before: ticks(&fs::read_to_string("/proc/stat").unwrap_or_default()) }
    }

    /// The share that was taken since the last look, in thousandths of all processors' time.
    pub fn since_last_look(&mut self) -> u64 {
        let now = ticks(&fs::read_to_string("/proc/stat").unwrap_or_default());
        let before = std::mem::replace(&mut self.before, now);
        let all = now.1.saturating_sub(before.1);
        now.0.saturating_sub(before.0).saturating_mul(1_000).checked_div(all).unwrap_or(0)
    }
}

impl Default for Steal {
    fn default() -> Self {
        Self::new()
    }
}

/// Stolen ticks and all ticks of the first line of `/proc/stat` (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal; what guests
/// used comes after these and is in them already.
fn ticks(stat: &str) -> (u64, u64) {
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().take(8).filter_map(|word| word.parse().ok()).collect();
    (ticks.get(7).copied().unwrap_or(0), ticks.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_figures_are_plausible() {
        let before_us = thread_cpu_us();
        let busy: u64 = (0..3_000_000u64).map(std::hint::black_box).sum();
        assert!(busy > 0 && thread_cpu_us() > before_us);
        assert!(Steal::new().since_last_look() <= 1_000);
    }

    #[test]
    fn stolen_time_is_told_from_the_rest() {
        assert_eq!(ticks("cpu  10 20 30 40 50 60 70 80 5 6\ncpu0 1 1 1 1\n"), (80, 360));
        assert_eq!(ticks("cpu  10 20 30 40\n"), (0, 100));
        assert_eq!(ticks(""), (0, 0));
    }
}
