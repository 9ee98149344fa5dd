//! How long the cgroups of this process held it back for using up their CPU quota.
//!
//! Takes `/proc/self/cgroup`, `/proc/self/mountinfo` and the `cpu.stat` files that these lead to, gives what was added since the last look.
//! Version 1 (the controller `cpu`, `throttled_time` in nanoseconds) and version 2 (`throttled_usec`) are read alike, also both at once; and
//! the groups above ours too, for a quota up there holds us as well. In a container only the mount's own root may be there: it is ours then.

use std::fs;
use std::ops::Sub;
use std::path::{Path, PathBuf};

/// How often and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttled {
    /// Periods of the quota that ended early.
    pub times: u64,
    /// Withheld time in microseconds, added up over the processors.
    pub us: u64,
}

impl Sub for Throttled {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { times: self.times.saturating_sub(before.times), us: self.us.saturating_sub(before.us) }
    }
}

/// Looks again and again; see the module.
#[derive(Debug, Default)]
pub struct Throttle {
    /// `/proc/self/cgroup` as it was: a process can be moved to another group.
    cgroups: String,
    folders: Vec<PathBuf>,
    before: Throttled,
}

impl Throttle {
    /// From now on.
    pub fn new() -> Self {
        let mut throttle = Self::default();
        throttle.since_last_look();
        throttle
    }

    /// What was withheld since the last look; nothing where the system does not say, or another group is ours since.
    pub fn since_last_look(&mut self) -> Throttled {
        let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let has_moved = cgroups != self.cgroups;
        if has_moved {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            self.folders = folders(&mounts, &cgroups);
            self.cgroups = cgroups;
        }
        let now =
            self.folders.iter().filter_map(|folder| stat(folder)).fold(Throttled::default(), |sum, one| {
                Throttled { times: sum.times + one.times, us: sum.us + one.us }
            });
        let before = std::mem::replace(&mut self.before, now);
        if has_moved { Throttled::default() } else { now - before }
    }
}

fn stat(folder: &Path) -> Option<Throttled> {
    parse_stat(&fs::read_to_string(folder.join("cpu.stat")).ok()?)
}

/// Reads a `cpu.stat` of either version; nothing where it knows of no quota.
fn parse_stat(text: &str) -> Option<Throttled> {
    let value = |key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse::<u64>().ok())
    };
    let us = value("throttled_usec").or_else(|| value("throttled_time").map(|ns| ns / 1_000));
    Some(Throttled { times: value("nr_throttled")?, us: us? })
}

/// Where the `cpu.stat` files are: of our own group in each hierarchy that may have a quota, and of those above it.
fn folders(mounts: &str, cgroups: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in cgroups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let is_v2 = controllers.is_empty();
        if !is_v2 && !controllers.split(',').any(|name| name == "cpu") {
            continue;
        }
        let Some((root, mount)) = mounts.lines().find_map(|line| hierarchy(line, is_v2)) else { continue };
        // Put together anew, it has no slash at its end where the group is the mount's own root.
        let own: PathBuf = mount.join(below(path, &root)).components().collect();
        let up = own.ancestors().take_while(|folder| folder.starts_with(&mount));
        found.extend(up.map(Path::to_path_buf));
    }
    found
}

/// Root and mount point of a line of mountinfo (proc(5)), where it is the version 2 hierarchy, or the version 1 one of `cpu`.
fn hierarchy(line: &str, is_v2: bool) -> Option<(String, PathBuf)> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let mut kind = kind.split(' ');
    let is_it = match (kind.next()?, is_v2) {
        ("cgroup2", true) => true,
        ("cgroup", false) => kind.nth(1)?.split(',').any(|option| option == "cpu"),
        _ => false,
    };
    is_it.then_some(())?;
    // A space in a path is written as its octal number.
    let mut text = || Some(mount.next()?.replace("\\040", " "));
    Some((text()?, PathBuf::from(text()?)))
}

/// Where a group is below the mount point of its hierarchy, of which only `root` is mounted. One that is not below it (another namespace's
/// view) is the mount point itself.
fn below<'a>(path: &'a str, root: &str) -> &'a str {
    let rest = if root == "/" { Some(path) } else { path.strip_prefix(root) };
    let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or_default();
    if rest.split('/').any(|part| part == "..") { "" } else { rest.trim_start_matches('/') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read_and_a_group_without_a_quota_says_nothing() {
        let check = |text: &str, expected: Option<(u64, u64)>| {
            assert_eq!(parse_stat(text), expected.map(|(times, us)| Throttled { times, us }), "{text}");
        };
        check("nr_periods 52\nnr_throttled 48\nthrottled_time 3912345678\n", Some((48, 3_912_345)));
        check(
            "usage_usec 9\nuser_usec 5\nnr_periods 52\nnr_throttled 48\nthrottled_usec 391\nnr_bursts 0\n",
            Some((48, 391)),
        );
        check("usage_usec 9\nuser_usec 5\nsystem_usec 4\n", None);
        check("", None);
    }

    #[test]
    fn the_groups_are_found_wherever_they_are_mounted() {
        let check = |mounts: &str, cgroups: &str, expected: &[&str]| {
            let found = folders(mounts, cgroups);
            assert_eq!(found.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>(), expected);
        };
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        check(
            v2,
            "0::/a.slice/b.service\n",
            &["/sys/fs/cgroup/a.slice/b.service", "/sys/fs/cgroup/a.slice", "/sys/fs/cgroup"],
        );
        // A pod: its own group is all that it sees.
        check(v2, "0::/\n", &["/sys/fs/cgroup"]);
        // A pod under version 1 without a namespace of its own: the path is the host's, the mount's root says where it begins.
        let v1 = "41 31 0:30 /docker/7f /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
                  42 31 0:31 /docker/7f /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset";
        let own = "5:cpuset:/docker/7f\n4:cpu,cpuacct:/docker/7f\n";
        check(v1, own, &["/sys/fs/cgroup/cpu,cpuacct"]);
        check(
            v1,
            "4:cpu,cpuacct:/docker/7f/inner\n",
            &["/sys/fs/cgroup/cpu,cpuacct/inner", "/sys/fs/cgroup/cpu,cpuacct"],
        );
        // Outside of what is mounted: the mount itself is tried.
        check(v1, "4:cpu,cpuacct:/docker/7fff\n", &["/sys/fs/cgroup/cpu,cpuacct"]);
        check(v2, "0::/../other\n", &["/sys/fs/cgroup"]);
        // Both at once.
        let both = format!("{v2}\n40 31 0:30 / /my\\040cgroups/cpu rw - cgroup cgroup rw,cpu");
        check(&both, "1:cpu:/x\n0::/\n", &["/my cgroups/cpu/x", "/my cgroups/cpu", "/sys/fs/cgroup"]);
        check("", own, &[]);
    }
}
