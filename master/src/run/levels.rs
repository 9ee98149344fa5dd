//! What a run's externally-controlled scenarios are set to, as clients read it.

use volcanion_common::plan::{Level, Plan};
use volcanion_common::session::Change;
use volcanion_common::units::{Rate, RunTime};
use volcanion_common::view::LevelView;

/// The levels of a plan as it was written, after these changes of it in order.
pub fn levels(plan: &Plan, changes: &[Change]) -> Vec<LevelView> {
    let controlled = plan.scenarios.iter().enumerate().filter_map(|(index, scenario)| {
        let start_level = scenario.executor.start_level()?;
        let newest = changes.iter().rev().find(|change| change.scenario as usize == index);
        let level = newest.map_or(start_level, |change| change.level);
        let start = RunTime::START.plus(scenario.start_time);
        Some(LevelView {
            scenario: scenario.name.clone(),
            vus: vus(level),
            rate: rate(level),
            max_vus: scenario.executor.max_vus(),
            change: newest.map_or(0, |change| change.number),
            from_ms: newest.map_or(start, |change| change.at.max(start)).as_millis_f64(),
        })
    });
    controlled.collect()
}

fn vus(level: Level) -> Option<u64> {
    if let Level::Vus(vus) = level { Some(vus) } else { None }
}

fn rate(level: Level) -> Option<Rate> {
    if let Level::Rate(rate) = level { Some(rate) } else { None }
}
