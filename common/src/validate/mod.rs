//! Plan → [`ValidPlan`], or all of its problems at once.
//!
//! Takes any [`Plan`]. The rules are in [`rules`] (executors, names, thresholds), [`request`] (what is sent),
//! [`http`] (how it is sent) and [`bounds`] (how much of everything). Invariants: a plan from [`validate`] renders every request to legal HTTP, needs
//! no more than the bounds, and lasts at most 31 days.

pub mod bounds;
mod http;
mod request;
mod rules;

use crate::plan::Plan;
use crate::plan::node::at_key;
use crate::problem::{Problem, Problems};

/// A plan that keeps every rule and bound. Only [`validate`] makes one, so whoever holds it need not look again.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidPlan(Plan);

impl ValidPlan {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.0
    }
}

impl std::ops::Deref for ValidPlan {
    type Target = Plan;
    fn deref(&self) -> &Plan {
        &self.0
    }
}

/// Looks at everything.
///
/// # Errors
/// Every problem, its field as the path in the full plan (a step's URL is `scenarios.NAME.steps[N].url`).
pub fn validate(plan: Plan) -> Result<ValidPlan, Problems> {
    let mut found = Found::default();
    rules::check(&plan, &mut found);
    request::check(&plan, &mut found);
    http::check(&plan, &mut found);
    bounds::check(&plan, &mut found);
    if found.0.is_empty() { Ok(ValidPlan(plan)) } else { Err(Problems(found.0)) }
}

/// Problems that were found.
#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    /// Notes a problem at a path; some hundreds are enough to go on with.
    fn note(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.0.len() < 500 {
            self.0.push(Problem::new(path, message));
        }
    }

    /// Notes a value that lies outside its range.
    fn within<T: PartialOrd + std::fmt::Display>(&mut self, path: &str, value: T, least: T, most: T) {
        if value < least || value > most {
            self.note(path, format!("{value} is out of range; give {least} to {most}"));
        }
    }
}

fn scenario_path(name: &str) -> String {
    at_key("scenarios", name)
}

fn step_path(scenario: &str, index: usize) -> String {
    format!("{}.steps[{index}]", scenario_path(scenario))
}

#[cfg(test)]
mod tests;
