//! Room for the run's connections: the limit on open files is raised as far as it may be, and what cannot fit is refused
//! before the load begins, not found out in its middle.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Item, PrepareError, Program};

/// Files that are not connections of VUs: listeners, logs, the store, timers, the cores' own.
const RESERVE: u64 = 128;

/// Connections that a VU keeps at most, however many servers it talks to.
pub const CONNECTIONS_PER_VU_MAX: usize = 8;

/// Raises the limit on open files and checks that the program's connections fit.
pub(super) fn make_room(program: &Program) -> Result<(), PrepareError> {
    let needed = connections(program);
    match raise() {
        Some(limit) => check(needed, limit),
        None => Ok(()),
    }
}

fn check(needed: u64, limit: u64) -> Result<(), PrepareError> {
    if needed.saturating_add(RESERVE) <= limit {
        return Ok(());
    }
    let wanted = needed.saturating_add(RESERVE);
    Err(PrepareError::new(
        "file_limit",
        format!(
            "up to {needed} connections do not fit the limit of {limit} open files ({RESERVE} are kept for the agent itself); \
             raise the agent's limit to at least {wanted} (ulimit -n, LimitNOFILE=), use fewer VUs or add agents"
        ),
    ))
}

/// The limit after raising it to the hard one; `None`: there is none.
fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// The most connections that the owned VUs may hold at once.
fn connections(program: &Program) -> u64 {
    let of_scenario = |scenario: &super::Scenario| {
        let mut origins: Vec<u32> = scenario
            .items
            .iter()
            .filter_map(|item| match item {
                Item::Request(step) => Some(program.steps[*step as usize].origin),
                Item::Think { .. } => None,
            })
            .collect();
        origins.sort_unstable();
        origins.dedup();
        let per_vu = origins.len().min(CONNECTIONS_PER_VU_MAX) as u64;
        scenario.share.count_below(scenario.executor.max_vus()).saturating_mul(per_vu)
    };
    program.scenarios.iter().map(of_scenario).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_the_way_out() {
        assert_eq!(check(872, 1000), Ok(()));
        let error = check(873, 1000).unwrap_err();
        assert_eq!(error.code, "file_limit");
        assert!(error.message.contains("ulimit -n") && error.message.contains("1001"), "{error}");
        assert!(check(u64::MAX, 1000).is_err());
    }
}
