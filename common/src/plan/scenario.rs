//! A scenario: a loop body of steps, and the executor that starts its iterations.

use super::executor::Executor;
use super::request::Request;
use crate::units::Micros;

/// A named set of steps with the way in which its iterations are started.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Unique in the plan.
    pub name: String,
    /// How iterations are started.
    pub executor: Executor,
    /// After the run's start.
    pub start_time: Micros,
    /// How long iterations in flight at the scenario's end may go on.
    pub graceful_stop: Micros,
    /// What an iteration does, in order; at least one request.
    pub steps: Vec<Step>,
}

/// One thing that an iteration does.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Sends one request and reads its answer. Boxed: a step is mostly a request, and a request is large.
    Request(Box<RequestStep>),
    /// Waits, evenly distributed from `least` to `most`.
    Think {
        /// The shortest wait.
        least: Micros,
        /// The longest wait; at least `least`.
        most: Micros,
    },
}

/// One named request of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestStep {
    /// Unique in the plan; the name of its series.
    pub name: String,
    /// What is sent.
    pub request: Request,
    /// Instead of the plan's.
    pub timeout: Option<Micros>,
}
