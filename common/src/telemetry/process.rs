//! What the kernel says of this process: CPU time, memory, threads, open files. What a system does not say is nought.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

use super::prometheus::Family;

/// Past so many files they are counted by the kernel's own figure only.
const COUNTED_FILES_MAX: usize = 20_000;

/// CPU time that all threads have used, in seconds.
pub fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// Resident memory in bytes.
pub fn resident_bytes() -> u64 {
    kibibytes(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmRSS").unwrap_or(0)
}

/// Open files.
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

/// CPU time, resident memory and open files as metrics, named by the process's prefix, such as `volcanion`.
pub fn families(prefix: &str) -> [Family; 3] {
    let mut cpu = Family::counter(&format!("{prefix}_cpu_seconds_total"), "CPU time of the whole process.");
    cpu.add(&[], cpu_seconds());
    let resident = format!("{prefix}_resident_memory_bytes");
    let mut resident = Family::gauge(&resident, "Memory of the process that is resident.");
    resident.add(&[], resident_bytes() as f64);
    let mut files = Family::gauge(&format!("{prefix}_open_files"), "Files and sockets that are open.");
    files.add(&[], open_files().into());
    [cpu, resident, files]
}

/// The bytes of a line such as `VmRSS:   1234 kB`.
pub(super) fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_figures_are_plausible() {
        let before = cpu_seconds();
        let busy: u64 = (0..3_000_000u64).map(std::hint::black_box).sum();
        assert!(busy > 0 && cpu_seconds() > before);
        assert!((1 << 20..1 << 40).contains(&resident_bytes()));
        let files = open_files();
        assert!((3..1_000_000).contains(&files), "{files}");
    }

    #[test]
    fn a_line_is_found_by_its_whole_name() {
        let text = "VmRSSX:\t 1 kB\nVmRSS:\t    2048 kB\nThreads:\t3\n";
        assert_eq!(kibibytes(text, "VmRSS"), Some(2 << 20));
        assert_eq!(kibibytes(text, "Threads"), None);
    }
}
