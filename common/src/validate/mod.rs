//! Plan → [`ValidPlan`], or all of its problems at once.

use crate::plan::Plan;

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
