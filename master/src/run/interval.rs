//! A row of a run's history as clients read it.

use volcanion_common::delta::{Delta, ScenarioDelta};
use volcanion_common::plan::Plan;
use volcanion_common::series::Distribution;
use volcanion_common::view::IntervalView;

use crate::merge::document::{Sum, times};

/// The row of a merged delta: of all steps, or of one alone (then with its scenario's iterations).
pub fn interval_view(plan: &Plan, row: &Delta, step: Option<u32>) -> IntervalView {
    let mut view = IntervalView {
        from_ms: row.from.as_millis_f64(),
        to_ms: row.to.as_millis_f64(),
        ..IntervalView::default()
    };
    let mut sum = Sum::default();
    for asked in plan.steps().filter(|asked| step.is_none_or(|step| step == asked.index)) {
        sum.add(&Sum::of_step(row, asked.index));
    }
    add_requests(&mut view, sum);
    add_iterations(&mut view, row, step.and_then(|step| scenario_of(plan, step)));
    let seconds = row.to.since(row.from).as_secs_f64();
    view.rate = if seconds > 0.0 { view.requests as f64 / seconds } else { 0.0 };
    view
}

fn add_requests(view: &mut IntervalView, sum: Sum) {
    view.requests = sum.requests;
    view.failed = sum.failed;
    view.own_faults = sum.own_faults;
    view.redirects = sum.redirects;
    view.bytes_sent = sum.bytes_sent;
    view.bytes_received = sum.bytes_received;
    view.status_codes = sum.status_codes;
    view.errors = sum.errors;
    view.response_time_ms = times(&sum.response_time);
    view.service_time_ms = times(&sum.service_time);
}

fn add_iterations(view: &mut IntervalView, row: &Delta, scenario: Option<u32>) {
    let mut lag = Distribution::default();
    let is_asked = |index: u32| scenario.is_none_or(|scenario| scenario == index);
    for ScenarioDelta { started, completed, dropped, missed, vus, schedule_lag, .. } in
        row.scenarios.iter().filter(|(index, _)| is_asked(**index)).map(|(_, scenario)| scenario)
    {
        view.iterations += started;
        view.completed_iterations += completed;
        view.dropped_iterations += dropped;
        view.missed_iterations += missed;
        view.active_workers += vus;
        lag.add(schedule_lag);
    }
    view.schedule_lag_ms = times(&lag);
}

fn scenario_of(plan: &Plan, step: u32) -> Option<u32> {
    plan.steps().find(|candidate| candidate.index == step).map(|step| step.scenario)
}
