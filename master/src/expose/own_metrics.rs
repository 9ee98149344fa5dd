//! What a master says of itself: process, store, REST, registry, and where it leads what drives its runs.
//!
//! Takes what the parts have counted and what they hold now; gives metrics. They stand beside the merged truth of [`prometheus`](super::prometheus).
//! A master that stands by shows what is its own and no run.

use volcanion_common::telemetry::process;
use volcanion_common::telemetry::prometheus::Family;
use volcanion_common::telemetry::queue::{Filling, QueueFamilies};
use volcanion_common::view::AgentView;
use volcanion_common::view::metrics::{Metrics, Verdict};

use crate::fleet::Agents;
use crate::run::inside::{INBOX_MAX, Seen, WRITES_MAX};
use crate::run::outgoing::{Outgoing, SAMPLES_MAX};
use crate::run::table::{ADJUSTS_MAX, RunTotals};
use crate::session::ORDERS_MAX;
use crate::store::Store;

/// What every master has.
pub struct Own<'a> {
    /// Its store.
    pub store: &'a dyn Store,
    /// Its view of the registry.
    pub agents: &'a Agents,
    /// Records of changes that wait for the store.
    pub audit: Filling,
    /// Event streams.
    pub streams: Filling,
    /// Intervals on their way to a remote receiver, where there is one.
    pub outgoing: Option<&'a Outgoing>,
}

/// What a leader has besides.
pub struct Led<'a> {
    /// Runs that go or ended in the last ten minutes.
    pub runs: &'a [RunTotals],
    /// The registered agents.
    pub agents: &'a [AgentView],
}

/// All of it.
pub fn families(own: &Own<'_>, led: Option<&Led<'_>>) -> Vec<Family> {
    let mut families: Vec<Family> = process::families("volcanion").into();
    families.extend(own.store.calls().families());
    families.extend(own.agents.registry().families("volcanion", own.agents.fleet().connected));
    families.extend(queues(own, led));
    if let Some(outgoing) = own.outgoing {
        families.extend(remote_write_families(outgoing));
    }
    if let Some(led) = led {
        families.extend(run_families(led.runs));
        families.extend(driver_families(led.runs));
        families.extend(clock_families(led.agents));
    }
    families
}

fn queues(own: &Own<'_>, led: Option<&Led<'_>>) -> [Family; 2] {
    type Of = fn(&Seen) -> Option<Filling>;
    const OF_RUNS: [(&str, usize, Of); 4] = [
        ("run_inbox", INBOX_MAX, |seen| seen.inbox),
        ("run_writes", WRITES_MAX, |seen| seen.writes),
        ("run_adjusts", ADJUSTS_MAX, |seen| seen.adjusts),
        ("agent_orders", ORDERS_MAX, |seen| seen.orders),
    ];
    let mut queues = QueueFamilies::new("volcanion");
    queues.add("audit", own.audit.bound, [own.audit]);
    queues.add("event_streams", own.streams.bound, [own.streams]);
    if let Some(outgoing) = own.outgoing {
        queues.add("remote_write", SAMPLES_MAX, [outgoing.filling()]);
    }
    if let Some(led) = led {
        for (kind, bound, of) in OF_RUNS {
            queues.add(kind, bound, led.runs.iter().filter_map(|run| of(&run.inside)));
        }
    }
    queues.into_families()
}

/// How far each run's numbers can be vouched for.
fn run_families(runs: &[RunTotals]) -> [Family; 4] {
    let mut validity = Family::gauge(
        "volcanion_run_validity",
        "1 under what can be said of a run's numbers so far: valid, degraded or invalid.",
    );
    let mut causes =
        Family::gauge("volcanion_run_validity_causes", "What speaks against a run's numbers, causes.");
    let mut lost = Family::gauge("volcanion_run_agents_lost", "Agents that a run has lost.");
    let mut skew = Family::gauge(
        "volcanion_run_start_skew_seconds",
        "The latest minus the earliest start of a run's shards.",
    );
    for run in runs {
        let run_id = run.view.id.to_string();
        let Metrics { validity: said, agents, start_skew_ms, .. } = &*run.metrics;
        let verdict = match said.verdict {
            Verdict::Valid => "valid",
            Verdict::Degraded => "degraded",
            Verdict::Invalid => "invalid",
        };
        let labels = [("run_id", &*run_id)];
        validity.add(&[("run_id", &run_id), ("verdict", verdict)], 1.0);
        causes.add(&labels, said.causes.len() as f64);
        lost.add(&labels, agents.iter().filter(|agent| agent.state == "lost").count() as f64);
        if let Some(skew_ms) = start_skew_ms {
            skew.add(&labels, skew_ms / 1e3);
        }
    }
    [validity, causes, lost, skew]
}

/// What each run's driver counted.
fn driver_families(runs: &[RunTotals]) -> Vec<Family> {
    type Of = fn(&Seen) -> f64;
    const COUNTERS: [(&str, &str, Of); 6] = [
        ("volcanion_run_reconnects_total", "Streams to agents that were opened again.", |seen| {
            seen.reconnects as f64
        }),
        (
            "volcanion_run_merge_seconds_total",
            "Time that a run's driver took to merge what agents reported, whole intervals closed with it.",
            |seen| seen.merge_seconds,
        ),
        ("volcanion_run_frames_total", "Frames of deltas that were merged.", |seen| seen.frames as f64),
        (
            "volcanion_run_intervals_late_total",
            "Intervals that were closed before every agent had reported.",
            |seen| seen.intervals_late as f64,
        ),
        ("volcanion_run_moves_ordered_total", "Moves of lanes between agents that were ordered.", |seen| {
            seen.moves_ordered as f64
        }),
        ("volcanion_run_moves_settled_total", "Of the moves those that agents have confirmed.", |seen| {
            seen.moves_settled as f64
        }),
    ];
    let mut open = Family::gauge("volcanion_run_streams_open", "Streams to a run's agents that are open.");
    let mut counters = COUNTERS.map(|(name, help, _)| Family::counter(name, help));
    for run in runs {
        let run_id = run.view.id.to_string();
        let labels = [("run_id", &*run_id)];
        open.add(&labels, run.inside.streams_open as f64);
        for (family, (_, _, of)) in counters.iter_mut().zip(COUNTERS) {
            family.add(&labels, of(&run.inside));
        }
    }
    std::iter::once(open).chain(counters).collect()
}

fn remote_write_families(outgoing: &Outgoing) -> [Family; 3] {
    let mut samples = Family::counter(
        "volcanion_remote_write_samples_total",
        "Samples of intervals by what became of them: sent, refused by the receiver, or dropped by a full queue.",
    );
    outgoing.samples().show(&mut samples, "outcome");
    let mut retries = Family::counter(
        "volcanion_remote_write_retries_total",
        "Requests to the remote receiver that it did not take, and that are sent again.",
    );
    retries.add(&[], outgoing.retries() as f64);
    let mut seconds = Family::histogram(
        "volcanion_remote_write_seconds",
        "How long the remote receiver takes for an interval.",
    );
    outgoing.took().show(&mut seconds, &[]);
    [samples, retries, seconds]
}

fn clock_families(agents: &[AgentView]) -> [Family; 2] {
    let mut offset = Family::gauge(
        "volcanion_clock_offset_seconds",
        "An agent's monotonic clock minus the master's, as measured last; it means something beside itself only.",
    );
    let mut round_trip =
        Family::gauge("volcanion_clock_round_trip_seconds", "Twice the error of the offset at most.");
    for agent in agents {
        if let (Some(offset_us), Some(round_trip_us)) = (agent.clock_offset_us, agent.round_trip_us) {
            let labels = [("agent", &*agent.id)];
            offset.add(&labels, offset_us as f64 / 1e6);
            round_trip.add(&labels, round_trip_us as f64 / 1e6);
        }
    }
    [offset, round_trip]
}
