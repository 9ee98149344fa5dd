//! What the agent says of itself beside its runs: the process, its queues, streams and orders, and its registry.

use volcanion_common::session::UNACKED_MAX;
use volcanion_common::telemetry::process;
use volcanion_common::telemetry::prometheus::Family;
use volcanion_common::telemetry::queue::{Filling, QueueFamilies};

use super::Sources;
use crate::session::desk::RUN_INBOX;
use crate::session::service::REPORTS;
use crate::session::tally::Fillings;

/// All of it.
pub fn families(sources: &Sources) -> Vec<Family> {
    let fillings = sources.tally.fillings();
    let mut streams =
        Family::gauge("volcanion_agent_streams_open", "Streams of runs to their leaders that are open.");
    streams.add(&[], fillings.reports.len() as f64);
    let mut families: Vec<Family> = process::families("volcanion_agent").into();
    families.push(streams);
    families.extend(sources.tally.families());
    families.extend(queues(sources, fillings));
    families.extend(sources.registry.families("volcanion_agent", sources.lease.is_alive()));
    families
}

fn queues(sources: &Sources, fillings: Fillings) -> [Family; 2] {
    let desk = sources.desk.filling();
    let mut unacked = Vec::new();
    sources.seen.read(std::time::Instant::now(), |_, run| {
        unacked.push(Filling { depth: run.unacked, bound: UNACKED_MAX });
    });
    let mut queues = QueueFamilies::new("volcanion_agent");
    queues.add("desk", desk.bound, [desk]);
    queues.add("run_inbox", RUN_INBOX, fillings.inboxes);
    queues.add("reports", REPORTS, fillings.reports);
    queues.add("outbox", UNACKED_MAX, unacked);
    queues.into_families()
}
