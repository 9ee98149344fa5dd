//! A run's history in rows: what is stored, merged exactly for any window.

use std::sync::Arc;

use volcanion_common::ids::RunId;
use volcanion_common::problem::Problem;
use volcanion_common::units::{Micros, RunTime};
use volcanion_common::validate::ValidPlan;
use volcanion_common::view::IntervalView;

use super::interval::interval_view;
use super::table::{MasterError, Runs, plan_of_record};
use crate::store::Rows;

/// The most rows of a history in one answer: more than a day of seconds.
pub const ROWS_MAX: usize = 100_000;

/// Which part of a run's history is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// From this run time on; intervals are taken whole, each in the window that it begins in.
    pub from: Option<RunTime>,
    /// Up to this run time.
    pub to: Option<RunTime>,
    /// A step's name: only its requests.
    pub step: Option<String>,
    /// In rows of this width; the run's own intervals where absent.
    pub every: Option<Micros>,
}

impl Runs {
    /// A run's history, exact for any window: what is stored, merged in rows.
    ///
    /// # Errors
    /// There is no such run, or its plan has no such step; more than [`ROWS_MAX`] rows.
    pub async fn intervals(&self, id: RunId, window: Window) -> Result<Vec<IntervalView>, MasterError> {
        let plan = self.plan_of(id).await?;
        let step = window.step.as_deref().map(|name| step_named(&plan, name)).transpose()?;
        let (mut rows, mut views, mut after) =
            (Rows::new(window.every, window.from.unwrap_or(RunTime::START)), Vec::new(), None);
        loop {
            let (parts, next) = self.shared.store.history(id, window.from, window.to, after).await?;
            let plan = Arc::clone(&plan);
            let folding = tokio::task::spawn_blocking(move || {
                let whole = parts.into_iter().filter_map(|part| rows.add(part));
                views.extend(whole.map(|row| interval_view(&plan, &row, step)));
                if next.is_none() {
                    views.extend(rows.finish().map(|row| interval_view(&plan, &row, step)));
                    return (None, views);
                }
                (Some(rows), views)
            });
            let folded = folding.await;
            let (rest, so_far) =
                folded.map_err(|error| MasterError::internal(format!("the history of run {id}: {error}")))?;
            if so_far.len() > ROWS_MAX {
                return Err(too_many_rows());
            }
            let Some(rest) = rest else {
                // Half a history would look like a whole one: the run may have been forgotten meanwhile.
                self.run(id).await?;
                return Ok(so_far);
            };
            (rows, views, after) = (rest, so_far, next);
        }
    }

    async fn plan_of(&self, id: RunId) -> Result<Arc<ValidPlan>, MasterError> {
        if let Some(live) = self.live(id) {
            return Ok(Arc::clone(live.plan()));
        }
        let record =
            self.shared.store.run_record(id).await?.ok_or_else(|| MasterError::not_found("run", id))?;
        plan_of_record(&record).map(Arc::new)
    }
}

fn too_many_rows() -> MasterError {
    let message = format!(
        "there are more than {ROWS_MAX} rows; ask for wider ones (such as step=1m) or for a part of the run (from, to)"
    );
    MasterError::invalid(vec![Problem::new("step", message)])
}

fn step_named(plan: &ValidPlan, name: &str) -> Result<u32, MasterError> {
    if let Some(step) = plan.steps().find(|step| step.step.name == *name) {
        return Ok(step.index);
    }
    let names: Vec<_> = plan.steps().take(20).map(|step| format!("`{}`", step.step.name)).collect();
    let message =
        format!("`{name}` is neither a step of the plan ({}) nor a width such as 10s", names.join(", "));
    Err(MasterError::invalid(vec![Problem::new("step", message)]))
}
