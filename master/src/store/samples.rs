//! What tests of the store and of later stages begin with.

use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;
use volcanion_common::delta::{Delta, Warning};
use volcanion_common::ids::{AgentId, Incarnation, PlanId, Seq};
use volcanion_common::plan::document::{self, PlanDocument};
use volcanion_common::registry::{Member, MemberState};
use volcanion_common::series::{Outcome, Series, SeriesKey};
use volcanion_common::units::{Micros, RunTime};
use volcanion_common::validate::ValidPlan;
use volcanion_common::view::{Metrics, RunStatus, RunView, StopReason};

use super::{RunEnd, RunRecord, StoredPlan, now};
use crate::merge::{AgentState, Part};

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

/// A plan under a name.
pub(crate) fn stored_plan(name: &str) -> StoredPlan {
    let document = document_named(name);
    let now = now();
    StoredPlan {
        id: PlanId::new(),
        source: document.source,
        plan: document.plan,
        is_simple: document.is_simple,
        created_at: now,
        updated_at: now,
    }
}

/// A run that was just made.
pub(crate) fn record() -> RunRecord {
    let member = Member {
        id: AgentId::from("a"),
        incarnation: Incarnation((1 << 53) - 1),
        address: "127.0.0.1:1".to_owned(),
        metrics_address: None,
        version: "0".to_owned(),
        labels: Default::default(),
        cores: 2,
        capacity: 1.5,
        requests_per_s: None,
        state: MemberState::Ready,
    };
    RunRecord {
        view: any_view(RunStatus::Preparing),
        plan: document::to_json(&document_named("any").plan),
        seed: u64::MAX,
        members: vec![member],
        joined: Vec::new(),
        start_at_unix_us: None,
        stop_reason: None,
        agents: Vec::new(),
        next_part: 1,
        changes: Vec::new(),
        moves: Vec::new(),
        warnings: Vec::new(),
    }
}

/// A second or more with so many requests.
pub(crate) fn delta(from_s: u64, to_s: u64, requests: u64) -> Delta {
    let mut series = Series { requests, ..Series::default() };
    (0..requests).for_each(|n| series.response_time.record(Micros(1_000 + n)));
    let key = SeriesKey { step: 0, outcome: Outcome::Status(200) };
    let (from, to) = (RunTime(from_s * 1_000_000), RunTime(to_s * 1_000_000));
    Delta { from, to, series: [(key, series)].into(), ..Delta::default() }
}

/// A part of it, and how far its agent is with it.
pub(crate) fn part(number: u64, from_s: u64, to_s: u64, requests: u64, seq: u64) -> Part {
    let delta = Arc::new(delta(from_s, to_s, requests));
    Part { number, delta, agents: vec![agent_state(seq)], checkpoint: None, warnings: None }
}

/// An agent that is so far.
pub(crate) fn agent_state(seq: u64) -> AgentState {
    AgentState {
        seq: Seq(seq),
        requests: 10 * seq,
        cpu: 0.1,
        start_late_us: Some(-3),
        warnings: vec![Warning {
            code: "code".to_owned(),
            message: "message".to_owned(),
            scenario: Some(1),
            since: RunTime(5),
            until: RunTime(7),
            amount: 3,
            worst: 2,
        }],
        ..AgentState::new("a".into(), Incarnation((1 << 53) - 1), 2)
    }
}

/// A good end.
pub(crate) fn end() -> RunEnd {
    let metrics = Metrics { total_requests: 42, p95_latency_ms: 1.25, ..Metrics::default() };
    RunEnd {
        status: RunStatus::Completed,
        reason: StopReason::Completed,
        message: Some("done".to_owned()),
        ended_at: "2024-06-07T08:09:10.111213Z".parse().unwrap(),
        metrics: Arc::new(metrics),
        last_event: 7,
    }
}
