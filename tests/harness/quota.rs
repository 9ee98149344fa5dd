//! A cgroup of a test's own with a CPU quota, version 1 or 2, whichever this machine lets us have.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The quota's period in microseconds: what every system has as its own.
const PERIOD_US: u64 = 100_000;

/// Processes held to a part of a processor together; let go, and the group removed, when this is dropped.
pub struct Quota {
    folder: PathBuf,
    /// Where the processes go back to.
    parent: PathBuf,
    processes: Vec<u32>,
}

impl Quota {
    /// Holds processes to so much of one processor, which they get before all others: what holds them back is the quota, not a busy machine.
    /// Nothing, and why, where no cgroup can be made.
    pub fn hold(processes: &[u32], cores: f64) -> Result<Self, String> {
        let quota_us = (PERIOD_US as f64 * cores) as u64;
        let mut reasons = Vec::new();
        for (root, limits) in [
            (
                "/sys/fs/cgroup/cpu",
                vec![
                    ("cpu.cfs_period_us", PERIOD_US.to_string()),
                    ("cpu.cfs_quota_us", quota_us.to_string()),
                    ("cpu.shares", "262144".to_owned()),
                ],
            ),
            (
                "/sys/fs/cgroup",
                vec![("cpu.max", format!("{quota_us} {PERIOD_US}")), ("cpu.weight", "10000".to_owned())],
            ),
        ] {
            match Self::try_hold(Path::new(root), &limits, processes) {
                Ok(quota) => return Ok(quota),
                Err(error) => reasons.push(format!("{root}: {error}")),
            }
        }
        Err(reasons.join("; "))
    }

    fn try_hold(root: &Path, limits: &[(&str, String)], processes: &[u32]) -> std::io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("volcanion-test-{}-{number}", std::process::id()));
        fs::create_dir(&folder)?;
        let quota = Self { folder, parent: root.to_owned(), processes: processes.to_vec() };
        for (file, value) in limits {
            let path = quota.folder.join(file);
            // In a hierarchy without the controller the file is not there, and it must not be made by writing.
            fs::metadata(&path)?;
            fs::write(path, value)?;
        }
        for process in processes {
            fs::write(quota.folder.join("cgroup.procs"), process.to_string())?;
        }
        Ok(quota)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // A process that has ended needs no way back, and then the group is empty already.
        for process in &self.processes {
            let _ = fs::write(self.parent.join("cgroup.procs"), process.to_string());
        }
        let _ = fs::remove_dir(&self.folder);
    }
}
