//! Room for the run's connections: the limit on open files is raised as far as it may be, and what cannot fit beside the agent's
//! other runs is refused before the load begins, not found out in its middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::PrepareError;

/// Files that are not connections of VUs: listeners, logs, the store, timers, the cores' own.
const RESERVE: u64 = 128;

/// Connections that a VU keeps at most, however many servers it talks to.
pub const CONNECTIONS_PER_VU_MAX: usize = 8;

/// How many connections the runs of an agent may hold together. Clones count as one.
#[derive(Clone, Debug, Default)]
pub struct Taken(Arc<AtomicU64>);

/// The connections of one run; given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    taken: Taken,
    connections: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.taken.0.fetch_sub(self.connections, Ordering::Relaxed);
    }
}

/// Raises the limit on open files and checks that so many more connections fit.
pub(super) fn make_room(taken: &Taken, connections: u64) -> Result<Room, PrepareError> {
    take(taken, connections, raise())
}

/// `limit` is `None` where there is none.
fn take(taken: &Taken, connections: u64, limit: Option<u64>) -> Result<Room, PrepareError> {
    let add = |held: u64| {
        let together = held.checked_add(connections)?;
        let fits = limit.is_none_or(|limit| together.saturating_add(RESERVE) <= limit);
        fits.then_some(together)
    };
    match taken.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
        Ok(_) => Ok(Room { taken: taken.clone(), connections }),
        Err(held) => Err(refusal(connections, held, limit.unwrap_or(u64::MAX))),
    }
}

fn refusal(connections: u64, held: u64, limit: u64) -> PrepareError {
    let wanted = connections.saturating_add(held).saturating_add(RESERVE);
    let others = if held > 0 { format!(" and {held} for the agent's other runs") } else { String::new() };
    PrepareError::new(
        "file_limit",
        format!(
            "up to {connections} connections do not fit the limit of {limit} open files ({RESERVE} are kept for the agent itself{others}); \
             raise the agent's limit to at least {wanted} (ulimit -n, LimitNOFILE=), use fewer VUs, share connections (http.connections) or add agents"
        ),
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_the_way_out() {
        let check = |connections, limit| take(&Taken::default(), connections, limit).map(|_| ());
        assert_eq!(check(872, Some(1000)), Ok(()));
        let error = check(873, Some(1000)).unwrap_err();
        assert_eq!(error.code, "file_limit");
        assert!(error.message.contains("ulimit -n") && error.message.contains("1001"), "{error}");
        assert!(check(u64::MAX, Some(1000)).is_err());
        assert_eq!(check(u64::MAX, None), Ok(()));
    }

    #[test]
    fn runs_at_the_same_time_are_counted_together_and_an_ended_one_no_more() {
        let taken = Taken::default();
        let first = take(&taken, 500, Some(1000)).unwrap();
        let error = take(&taken, 400, Some(1000)).unwrap_err();
        assert!(
            error.message.contains("500 for the agent's other runs") && error.message.contains("1028"),
            "{error}"
        );
        let second = take(&taken, 372, Some(1000)).unwrap();
        drop(first);
        let third = take(&taken, 500, Some(1000)).unwrap();
        drop((second, third));
        assert_eq!(taken.0.load(Ordering::Relaxed), 0);
    }
}
