//! What a load thread asks of the system: timers without slack and, where wanted, a CPU of its own.

use std::num::NonZeroU64;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, set_current_timer_slack};

/// Prepares the calling thread as load core `core`. What the system refuses is said and done without: the load goes on, less exactly.
pub fn prepare_thread(core: usize, pin: bool) {
    if let Err(error) = set_current_timer_slack(NonZeroU64::new(1)) {
        tracing::warn!(core, %error, "timers of this core keep their slack");
    }
    if pin && let Err(error) = pin_to(core) {
        tracing::warn!(core, %error, "this core is not pinned");
    }
}

/// Pins the calling thread to the one of its allowed CPUs that has this place among them.
fn pin_to(core: usize) -> rustix::io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    if let Some(cpu) = cpus.get(core % cpus.len().max(1)) {
        let mut own = CpuSet::new();
        own.set(*cpu);
        sched_setaffinity(None, &own)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_has_one_cpu() {
        let thread = std::thread::spawn(|| {
            prepare_thread(1, true);
            sched_getaffinity(None).unwrap().count()
        });
        assert_eq!(thread.join().unwrap(), 1);
    }
}
