//! Whether a run's numbers can be vouched for: causes, and the verdict that follows from them.
//!
//! Takes what agents noticed about themselves and what only the merged numbers show (dropped and missed arrivals, gaps, a wide start), gives a cause
//! each, with how grave it is. The verdict is the gravest of them. A run is `invalid` where a good part of the load that was asked for
//! was not sent, or a good part of the time that was measured is the generator's own; less of it makes it `degraded`. `docs/validity.md` says it
//! for users, code by code.

use volcanion_common::delta::{Delta, Warning};
use volcanion_common::view::metrics::{CauseView, ValidityView, Verdict};

use super::AgentState;

/// Of an agent's time, arrivals or iterations: what passes it was no passing weakness.
const LARGE_PART: f64 = 0.1;
/// Of an agent's attempts: more of them not made for want of ports or files, and it did not load as asked.
const NOT_MADE_MAX: f64 = 0.001;
/// Of the planned arrivals; more of them owned by nobody, and the plan's load was not on the target.
const MISSED_MAX: f64 = 0.05;
/// Shards that start further apart than this did not start together.
const START_SKEW_MAX_MS: f64 = 100.0;

/// How grave a weakness is that an agent noticed about itself.
enum Rule {
    /// It speaks against nothing.
    Harmless,
    Degraded,
    Invalid,
    /// By the part of the agent's time that it took.
    OfTime,
    /// By the part of the agent's attempts that it kept from being made.
    OfRequests,
    /// By the part of the scenario's iterations that it hit.
    OfIterations,
}

/// The rule of a code, and whether its amount and its worst are microseconds, thousandths or counts. A code that is not known here, of another
/// version perhaps, is worth a word.
fn known(code: &str) -> (Rule, Measure, Measure) {
    use Measure::{Count, Share, Time};
    match code {
        "draining" => (Rule::Harmless, Count, Count),
        "agent_fault" => (Rule::Invalid, Count, Count),
        "no_ports" | "no_files" | "no_source_address" | "blocked" => (Rule::OfRequests, Count, Count),
        "throttled" | "stalled" => (Rule::OfTime, Time, Time),
        "schedule_lag" => (Rule::OfIterations, Count, Time),
        "core_use" | "cpu_steal" => (Rule::Degraded, Time, Share),
        "cpu_wait" => (Rule::Degraded, Time, Time),
        _ => (Rule::Degraded, Count, Count),
    }
}

#[derive(Clone, Copy)]
enum Measure {
    Time,
    Share,
    Count,
}

impl Measure {
    /// As clients read it: milliseconds, a share of 1, a count.
    fn shown(self, value: u64) -> f64 {
        match self {
            Self::Time | Self::Share => value as f64 / 1e3,
            Self::Count => value as f64,
        }
    }
}

/// The verdict on a run's numbers; `scenarios` are the names of the plan's.
pub fn judge(
    total: &Delta,
    agents: &[&AgentState],
    scenarios: &[&str],
    start_skew_ms: Option<f64>,
) -> ValidityView {
    let mut causes = Vec::new();
    for state in agents {
        causes.extend(state.warnings.iter().filter_map(|warning| of_warning(state, warning, scenarios)));
        if let Some(gap) = &state.gap {
            let verdict = if agents.len() == 1 { Verdict::Invalid } else { Verdict::Degraded };
            causes.push(CauseView {
                agent: Some(state.agent.to_string()),
                since_ms: gap.from.as_millis_f64(),
                until_ms: Some(gap.to.as_millis_f64()),
                ..cause(verdict, "incomplete", gap.at_most_requests as f64)
            });
        }
    }
    causes.extend(of_total(total, agents));
    if let Some(skew) = start_skew_ms.filter(|skew| *skew > START_SKEW_MAX_MS) {
        causes.push(CauseView { worst: skew, ..cause(Verdict::Degraded, "start_skew", skew) });
    }
    causes.sort_by(|a, b| b.verdict.cmp(&a.verdict).then(a.since_ms.total_cmp(&b.since_ms)));
    let verdict = causes.first().map(|cause| cause.verdict).unwrap_or_default();
    ValidityView { verdict, causes }
}

/// The verdict on a run that failed before anything was sent: there are no numbers.
pub fn of_nothing() -> ValidityView {
    ValidityView { verdict: Verdict::Invalid, causes: vec![cause(Verdict::Invalid, "nothing_sent", 0.0)] }
}

fn of_warning(state: &AgentState, warning: &Warning, scenarios: &[&str]) -> Option<CauseView> {
    let (rule, amount, worst) = known(&warning.code);
    let is_large = |of: u64, part: f64| warning.amount as f64 > part * of as f64;
    let by = |is_large: bool| if is_large { Verdict::Invalid } else { Verdict::Degraded };
    let verdict = match rule {
        Rule::Harmless => return None,
        Rule::Degraded => Verdict::Degraded,
        Rule::Invalid => Verdict::Invalid,
        Rule::OfTime => by(is_large(state.reported_to.0, LARGE_PART)),
        Rule::OfRequests => by(is_large(state.requests, NOT_MADE_MAX)),
        Rule::OfIterations => {
            let counts = warning.scenario.and_then(|index| state.scenarios.get(index as usize));
            by(is_large(counts.map_or_else(|| state.iterations(), |counts| counts.started), LARGE_PART))
        }
    };
    let scenario = warning.scenario.and_then(|index| scenarios.get(index as usize));
    Some(CauseView {
        code: warning.code.clone(),
        verdict,
        agent: Some(state.agent.to_string()),
        scenario: scenario.map(|name| (*name).to_owned()),
        since_ms: warning.since.as_millis_f64(),
        until_ms: Some(warning.until.max(warning.since).as_millis_f64()),
        amount: amount.shown(warning.amount),
        worst: worst.shown(warning.worst),
    })
}

fn of_total(total: &Delta, agents: &[&AgentState]) -> Vec<CauseView> {
    let (mut started, mut dropped, mut missed) = (0, 0, 0);
    for scenario in total.scenarios.values() {
        started += scenario.started;
        dropped += scenario.dropped;
        missed += scenario.missed;
    }
    let mut causes = Vec::new();
    // Agents say themselves what they dropped, with the second, unless they did not run at all when it was due.
    let are_said = |state: &&AgentState| {
        state.warnings.iter().any(|said| said.code == "dropped_iterations" || said.code == "stalled")
    };
    if dropped > 0 && !agents.iter().any(are_said) {
        // The plan's own bound, which a slow target alone can reach.
        causes.push(cause(Verdict::Degraded, "dropped_iterations", dropped as f64));
    }
    if missed > 0 {
        let is_large = missed as f64 > MISSED_MAX * (started + dropped + missed) as f64;
        let verdict = if is_large { Verdict::Invalid } else { Verdict::Degraded };
        causes.push(cause(verdict, "missed_iterations", missed as f64));
    }
    causes
}

fn cause(verdict: Verdict, code: &str, amount: f64) -> CauseView {
    CauseView { code: code.to_owned(), verdict, amount, ..CauseView::default() }
}
