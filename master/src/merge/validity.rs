//! Whether a run's numbers can be vouched for: causes, and the verdict that follows from them.
//!
//! What agents warn of is a cause each; what only the merged numbers show (dropped and missed arrivals, gaps, a wide start) is added here. The verdict
//! is the gravest of them.

use volcanion_common::delta::Delta;
use volcanion_common::view::metrics::{CauseView, ValidityView, Verdict};

use super::AgentState;

/// Warnings of agents after which the numbers say more about the load generator than about the target.
const INVALID_CODES: [&str; 3] = ["no_files", "no_ports", "agent_fault"];
/// Warnings that are worth knowing and speak against nothing.
const HARMLESS_CODES: [&str; 1] = ["draining"];
/// Of the planned arrivals; more of them not started, and the plan's load was not on the target.
const NOT_STARTED_MAX: f64 = 0.05;
/// Shards that start further apart than this did not start together.
const START_SKEW_MAX_MS: f64 = 100.0;

/// The verdict on a run's numbers.
pub fn judge(total: &Delta, agents: &[&AgentState], start_skew_ms: Option<f64>) -> ValidityView {
    let mut found: Vec<(Verdict, CauseView)> = Vec::new();
    let mut add = |verdict, code: &str, agent: Option<&AgentState>, since_ms| {
        let agent = agent.map(|state| state.agent.to_string());
        found.push((verdict, CauseView { code: code.to_owned(), agent, since_ms }));
    };
    for state in agents {
        let warnings = state.warnings.iter().filter(|(code, ..)| !HARMLESS_CODES.contains(&code.as_str()));
        for (code, _, since) in warnings {
            let is_grave = INVALID_CODES.contains(&code.as_str());
            let verdict = if is_grave { Verdict::Invalid } else { Verdict::Degraded };
            add(verdict, code, Some(state), since.as_millis_f64());
        }
        if let Some(gap) = &state.gap {
            let verdict = if agents.len() == 1 { Verdict::Invalid } else { Verdict::Degraded };
            add(verdict, "incomplete", Some(state), gap.from.as_millis_f64());
        }
    }
    let (mut started, mut dropped, mut missed) = (0, 0, 0);
    for scenario in total.scenarios.values() {
        started += scenario.started;
        dropped += scenario.dropped;
        missed += scenario.missed;
    }
    let verdict_of = |count: u64| {
        let planned = (started + dropped + missed).max(1);
        if count as f64 > NOT_STARTED_MAX * planned as f64 { Verdict::Invalid } else { Verdict::Degraded }
    };
    // Dropped for want of a free VU: the plan's own bound, which a slow target alone can reach. Agents say so themselves, with the second.
    let is_said =
        |code: &str| agents.iter().any(|state| state.warnings.iter().any(|(said, ..)| said == code));
    if dropped > 0 && !is_said("dropped_iterations") {
        add(Verdict::Degraded, "dropped_iterations", None, 0.0);
    }
    if missed > 0 {
        add(verdict_of(missed), "missed_iterations", None, 0.0);
    }
    if start_skew_ms.is_some_and(|skew| skew > START_SKEW_MAX_MS) {
        add(Verdict::Degraded, "start_skew", None, 0.0);
    }
    let verdict = found.iter().map(|(verdict, _)| *verdict).max().unwrap_or_default();
    ValidityView { verdict, causes: found.into_iter().map(|(_, cause)| cause).collect() }
}
