//! What tests of the store and of later stages begin with.

use serde_json::json;
use uuid::Uuid;
use volcanion_common::plan::document::{self, PlanDocument};
use volcanion_common::validate::ValidPlan;
use volcanion_common::view::{RunStatus, RunView};

/// A simple plan's document under a name.
pub(crate) fn document_named(name: &str) -> PlanDocument {
    let plan = json!({
        "name": name, "target_url": "http://127.0.0.1:9/", "method": "GET", "users": 2, "ramp_up_sec": 0, "duration_sec": 1
    });
    document::from_json(&plan).unwrap()
}

/// A plan of one step.
pub(crate) fn any_plan() -> ValidPlan {
    document_named("any").plan
}

/// A run in a state.
pub(crate) fn any_view(status: RunStatus) -> RunView {
    RunView {
        id: Uuid::now_v7(),
        plan_id: Uuid::now_v7(),
        plan_name: "any".to_owned(),
        status,
        stop_reason: None,
        message: None,
        created_at: "2024-01-02T03:04:05.678901Z".to_owned(),
        start_at: None,
        ended_at: None,
        planned_duration_ms: 1_000,
        levels: Vec::new(),
    }
}
