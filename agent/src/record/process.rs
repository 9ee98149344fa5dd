//! What measuring costs: CPU time of a core, memory and files of the process, throttling by its cgroup.
//!
//! Read once an interval, outside the load cores but for [`thread_cpu_us`].

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// Past so many files they are counted by the kernel's own figure only.
const COUNTED_FILES_MAX: usize = 20_000;

/// CPU time that the calling thread has used, in microseconds.
pub fn thread_cpu_us() -> u64 {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    used.tv_sec as u64 * 1_000_000 + used.tv_nsec as u64 / 1_000
}

/// Resident memory of this process in bytes; 0 where the system does not say.
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Open files of this process; 0 where the system does not say.
pub fn open_files() -> u32 {
    // Since Linux 6.2 the directory's size is their number; before, it is 0 and they are counted.
    match fs::metadata("/proc/self/fd").map(|directory| directory.len()) {
        Ok(0) => {
            fs::read_dir("/proc/self/fd").map_or(0, |files| files.take(COUNTED_FILES_MAX).count() as u32)
        }
        Ok(files) => files as u32,
        Err(_) => 0,
    }
}

/// How often the cgroup of this process was held back for using up its CPU quota, since its beginning; nothing where there is no
/// such cgroup (version 2).
pub fn throttled() -> Option<u64> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let stat = fs::read_to_string(format!("/sys/fs/cgroup{path}/cpu.stat")).ok()?;
    stat.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_figures_are_plausible() {
        let before_us = thread_cpu_us();
        let busy: u64 = (0..3_000_000u64).map(std::hint::black_box).sum();
        assert!(busy > 0 && thread_cpu_us() > before_us);
        assert!((1 << 20..1 << 40).contains(&resident_bytes()));
        let files = open_files();
        assert!((3..1_000_000).contains(&files), "{files}");
    }
}
