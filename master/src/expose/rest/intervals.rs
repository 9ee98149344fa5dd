//! A run's history in rows, exact for any window.

use axum::Json;
use axum::extract::State;
use volcanion_common::units::{Micros, RunTime};
use volcanion_common::view::IntervalView;

use super::ids::RunAt;
use super::parameters::Parameters;
use super::problem::{Refusal, Refused};
use crate::run::table::{Runs, Window};

#[utoipa::path(
    get, path = "/test-runs/{id}/intervals", tag = "metrics", operation_id = "intervals",
    summary = "Counts, rates and percentiles of each interval, from the stored histograms",
    params(
        ("id" = Uuid, Path, description = "The run's id"),
        ("from" = Option<String>, Query, description = "From this run time on: milliseconds, or with a unit as in `1m30s`"),
        ("to" = Option<String>, Query, description = "Up to this run time"),
        ("step" = Option<String>, Query,
            description = "The width of the rows, as in `10s`, the first one from `from` on (the run's own intervals where absent; as wide as from `from` to `to`: one row for all of it); or the name of a step of the plan, whose requests alone are then counted"),
        ("every" = Option<String>, Query, description = "The width of the rows, beside the name of a step in `step`"),
    ),
    responses(
        (status = 200, description = "The rows, oldest first", body = Vec<IntervalView>),
        (status = 400, response = Refused),
        (status = 404, response = Refused),
    )
)]
pub(super) async fn intervals(
    State(runs): State<Runs>,
    RunAt(id): RunAt,
    parameters: Parameters,
) -> Result<Json<Vec<IntervalView>>, Refusal> {
    let window = window_of(parameters)?;
    Ok(Json(runs.intervals(id, window).await?))
}

/// `step` is a width where it reads as one (as Prometheus has it), else the name of a step.
fn window_of(mut parameters: Parameters) -> Result<Window, Refusal> {
    let from = parameters.duration("from").map(|at| RunTime(at.0));
    let to = parameters.duration("to").map(|at| RunTime(at.0));
    let every = parameters.duration("every");
    let step = parameters.text("step");
    let width = step.as_deref().and_then(width_of);
    if let (Some(from), Some(to)) = (from, to)
        && to <= from
    {
        parameters.problem("to", "must be later than `from`");
    }
    if width.is_some() && every.is_some() {
        parameters.problem("every", "the width stands in `step` already; give one of them");
    }
    let every = every.or(width);
    if every == Some(Micros::ZERO) {
        parameters
            .problem(if width.is_some() { "step" } else { "every" }, "a row must be wider than nothing");
    }
    parameters.finish()?;
    let step = if width.is_some() { None } else { step };
    Ok(Window { from, to, step, every })
}

fn width_of(text: &str) -> Option<Micros> {
    let is_number = !text.is_empty() && text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit());
    if is_number { format!("{text}ms").parse().ok() } else { text.parse().ok() }
}
