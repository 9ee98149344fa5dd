//! How an agent's monotonic clock stands to ours, by NTP's four stamps over Ping.
//!
//! offset = ((t1 - t0) + (t2 - t3)) / 2, round trip = (t3 - t0) - (t2 - t1), with t0 our sending, t1 the agent's receiving, t2 its
//! answering, t3 our receiving (RFC 5905, section 8). Of several exchanges the one with the least round trip counts; half of that
//! bounds its error. Steps of the wall clock change nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use volcanion_common::ids::{AgentId, Incarnation};
use volcanion_common::registry::Member;
use volcanion_proto::v1::PingRequest;
use volcanion_proto::v1::agent_client::AgentClient;

use super::Agents;
use super::dial::Dialer;

/// Exchanges of one measurement.
const EXCHANGES: usize = 8;
/// How long one exchange may take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_millis(500);
/// How often clocks are measured again: those of agents in runs; a new agent's once.
const AGAIN_EVERY: Duration = Duration::from_secs(5);
/// Agents that are measured at once.
const AT_ONCE_MAX: usize = 32;

/// An agent's clock beside ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The agent's monotonic clock minus ours.
    pub offset_ns: i64,
    /// The round trip of the exchange that says so.
    pub round_trip_ns: u64,
}

/// This process's CLOCK_MONOTONIC in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The clocks of all agents as last measured. Cheap to clone.
#[derive(Clone, Default)]
pub struct Clocks {
    measured: Arc<Mutex<HashMap<AgentId, (Incarnation, Clock)>>>,
}

impl Clocks {
    /// What is known of this process's clock.
    pub fn of(&self, agent: &AgentId, incarnation: Incarnation) -> Option<Clock> {
        let measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        measured.get(agent).filter(|(of, _)| *of == incarnation).map(|(_, clock)| *clock)
    }

    /// Measures an agent's clock; `None` where it does not answer, or another process does.
    pub async fn measure(&self, dialer: &Dialer, member: &Member) -> Option<Clock> {
        let client = dialer.client(&member.address).ok()?;
        let clock = measure(client, member.incarnation).await?;
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        measured.insert(member.id.clone(), (member.incarnation, clock));
        Some(clock)
    }

    fn forget_others(&self, agents: &Agents) {
        let fleet = agents.fleet();
        self.measured
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|agent, _| fleet.members.contains_key(agent));
    }
}

/// Measures again and again: each new agent, and those that carry runs. Ends with `stop`.
pub async fn keep_measuring(agents: Agents, dialer: Dialer, stop: CancellationToken) {
    let mut fleet = agents.subscribe();
    loop {
        agents.clocks().forget_others(&agents);
        let due: Vec<Member> = agents.due_for_measuring();
        for some in due.chunks(AT_ONCE_MAX) {
            let all = some.iter().map(|member| agents.clocks().measure(&dialer, member));
            if stop.run_until_cancelled(futures_util::future::join_all(all)).await.is_none() {
                return;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN_EVERY) => {}
            changed = fleet.changed() => if changed.is_err() { return },
        }
    }
}

impl Agents {
    fn due_for_measuring(&self) -> Vec<Member> {
        let is_due = |member: &&Member| {
            self.held().runs(&member.id) > 0 || self.clocks.of(&member.id, member.incarnation).is_none()
        };
        self.fleet().members.values().filter(is_due).cloned().collect()
    }
}

async fn measure(mut client: AgentClient<Channel>, incarnation: Incarnation) -> Option<Clock> {
    let mut best: Option<Clock> = None;
    for _ in 0..EXCHANGES {
        let t0 = monotonic_ns();
        let answer = tokio::time::timeout(EXCHANGE_TIMEOUT, client.ping(PingRequest {})).await;
        let t3 = monotonic_ns();
        // One that does not answer once is not asked seven times more.
        let answer = answer.ok()?.ok()?.into_inner();
        if answer.incarnation != incarnation.0 {
            return None;
        }
        let clock = of_stamps(t0, answer.received_ns, answer.sent_ns, t3);
        if best.is_none_or(|best| clock.round_trip_ns < best.round_trip_ns) {
            best = Some(clock);
        }
    }
    best
}

fn of_stamps(t0: u64, t1: u64, t2: u64, t3: u64) -> Clock {
    let [t0, t1, t2, t3] = [t0, t1, t2, t3].map(i128::from);
    let offset = ((t1 - t0) + (t2 - t3)) / 2;
    let round_trip = ((t3 - t0) - (t2 - t1)).max(0);
    Clock {
        offset_ns: offset.clamp(i64::MIN.into(), i64::MAX.into()) as i64,
        round_trip_ns: round_trip.clamp(0, u64::MAX.into()) as u64,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_error_is_at_most_half_the_round_trip(
            start in 0..1u64 << 60, offset in -(1i64 << 59)..(1i64 << 59), out in 0..1u64 << 30, busy in 0..1u64 << 30, back in 0..1u64 << 30
        ) {
            let start = start + (1 << 60);
            let theirs = |ours: u64| ours.checked_add_signed(offset).unwrap();
            let clock = of_stamps(start, theirs(start + out), theirs(start + out + busy), start + out + busy + back);
            prop_assert_eq!(clock.round_trip_ns, out + back);
            prop_assert!((clock.offset_ns - offset).unsigned_abs() <= clock.round_trip_ns / 2 + 1);
        }
    }

    #[test]
    fn stamps_that_cannot_be_do_no_harm() {
        of_stamps(u64::MAX, 0, u64::MAX, 0);
        of_stamps(0, u64::MAX, 0, u64::MAX);
    }
}
