//! How much of everything a plan may have.

use super::{Found, scenario_path, step_path};
use crate::plan::{Plan, Step};
use crate::units::Micros;

/// Series of a plan: request steps × [`OUTCOMES`].
pub const SERIES_MAX: usize = 1_000;
/// Groups of outcomes that a step is reckoned with: 2xx, 3xx, 4xx, 5xx, and failures without an answer.
pub const OUTCOMES: usize = 5;
/// VUs of one scenario.
pub const VUS_MAX: u64 = 10_000_000;
/// Iterations of one VU, or of a scenario that shares them.
pub const ITERATIONS_MAX: u64 = 1_000_000_000_000;
/// Scenarios of a plan.
pub const SCENARIOS_MAX: usize = 100;
/// Requests and pauses of a scenario.
pub const STEPS_MAX: usize = 1_000;
/// Stages of a scenario.
pub const STAGES_MAX: usize = 1_000;
/// Header lines of a plan or a step.
pub const HEADERS_MAX: usize = 100;
/// Thresholds of a plan.
pub const THRESHOLDS_MAX: usize = 100;
/// Variables of a plan, and labels of its agents.
pub const VARIABLES_MAX: usize = 1_000;
/// Bytes of a body, variables filled in.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of all requests together, variables filled in: what an agent holds in memory.
pub const REQUESTS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a URL, variables filled in.
pub const URL_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a header's value, variables filled in.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a variable's value.
pub const VARIABLE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of `http.tls.ca`.
pub const CA_BYTES_MAX: usize = 1024 * 1024;
/// Connections that the VUs of a run share to each server.
pub const CONNECTIONS_MAX: u32 = 1_000_000;
/// Redirects of one request, as browsers have it.
pub const REDIRECTS_MAX: u32 = 20;
/// Entries of `http.dns.resolve`.
pub const RESOLVE_MAX: usize = 1_000;
/// Addresses of one entry of `http.dns.resolve`.
pub const RESOLVE_ADDRESSES_MAX: usize = 1_000;
/// Bytes of a Unix socket's path: `sun_path` has 108, one of them ends it.
pub const UNIX_SOCKET_BYTES_MAX: usize = 107;
/// Bytes of the name of an agent's file.
pub const FILE_NAME_BYTES_MAX: usize = 1_024;
/// Characters of a name.
pub const NAME_CHARS_MAX: usize = 200;
/// From the run's start to the last iteration's: 31 days.
pub const DURATION_MAX: Micros = Micros::from_secs(31 * 86_400);

pub(super) fn check(plan: &Plan, found: &mut Found) {
    let mut at_most = |path: String, count: usize, most: usize, what: &str| {
        if count > most {
            found.note(path, format!("{count} {what} are too many; at most {most} are possible"));
        }
    };
    at_most("scenarios".to_owned(), plan.scenarios.len(), SCENARIOS_MAX, "scenarios");
    at_most("headers".to_owned(), plan.headers.len(), HEADERS_MAX, "headers");
    at_most("thresholds".to_owned(), plan.thresholds.len(), THRESHOLDS_MAX, "thresholds");
    at_most("variables".to_owned(), plan.variables.len(), VARIABLES_MAX, "variables");
    at_most("agents.labels".to_owned(), plan.agents.labels.len(), VARIABLES_MAX, "labels");
    at_most("success_status".to_owned(), plan.success_status.len(), 100, "ranges");
    for scenario in &plan.scenarios {
        at_most(format!("{}.steps", scenario_path(&scenario.name)), scenario.steps.len(), STEPS_MAX, "steps");
        for (index, step) in scenario.steps.iter().enumerate() {
            if let Step::Request(step) = step {
                let path = format!("{}.headers", step_path(&scenario.name, index));
                at_most(path, step.request.headers.len(), HEADERS_MAX, "headers");
            }
        }
    }
    let steps = plan.steps().count();
    if steps.saturating_mul(OUTCOMES) > SERIES_MAX {
        found.note(
            "scenarios",
            format!(
                "{steps} requests would make {} series ({OUTCOMES} for each request); at most {SERIES_MAX} are possible, so give at most {} requests",
                steps * OUTCOMES,
                SERIES_MAX / OUTCOMES
            ),
        );
    }
}
