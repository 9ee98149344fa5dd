//! An agent that is told to drain: it takes nothing new, ends nothing that goes, and stays.

use std::sync::atomic::Ordering;

use serde_json::json;
use tonic::Code;
use volcanion_common::ids::Incarnation;
use volcanion_common::registry::MemberState;
use volcanion_common::session::command::{Command, Purpose};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::session::{Order, Report};
use volcanion_proto::v1 as pb;

use crate::exposed::get;
use crate::leader::Leader;
use crate::leaving::state_becomes;
use crate::paced_load::PacedLoad;
use crate::{Started, start};

fn request(order: &Command, key: &ClusterKey) -> pb::DrainRequest {
    let (sealed_order, seal) = order.sealed(key).unwrap();
    pb::DrainRequest { sealed_order, seal }
}

fn order(started: &Started) -> Command {
    Command::new(Purpose::Drain, "a".into(), started.agent.incarnation(), u64::MAX)
}

#[tokio::test]
async fn the_run_goes_on_to_its_end_and_a_new_one_is_refused() {
    let load = PacedLoad { intervals: 60, ..PacedLoad::default() };
    let started = start(load.clone()).await;
    let mut leader = Leader::of(&started).await;
    let mut stream = leader.open().await;
    let prepare = leader.prepare(&started, json!({}), Vec::new());
    leader.start(&mut stream, prepare).await;
    for again in 0..2 {
        let order = Command { expires_unix_ms: u64::MAX - again, ..order(&started) };
        leader.client.drain(request(&order, &started.key)).await.expect("again: the same answer");
    }
    let replayed = leader.client.drain(request(&order(&started), &started.key)).await.unwrap_err();
    assert!(replayed.message().starts_with("replayed: "), "{replayed}");
    state_becomes(&started, Some(MemberState::Draining)).await;
    assert_eq!(get(&started, "/readyz").await.0, 503);
    assert!(get(&started, "/health").await.1.contains("\"draining\":true"));

    let mut other = Leader::of(&started).await;
    let refused = other.open().await.next().await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().starts_with("draining: "), "{refused}");

    // The run's own leader may even come back on a new stream, and is not told that the agent leaves.
    drop(stream);
    stream = leader.open().await;
    let (mut end, mut taken) = (None, 0);
    while end != Some(leader.high_water) {
        match stream.report().await {
            Report::Delta(frame) if leader.take(&frame).is_some() => {
                taken += 1;
                stream.order(Order::Ack(leader.high_water)).await;
            }
            Report::Finished { last_seq } => end = Some(last_seq),
            report => assert!(!matches!(report, Report::Draining | Report::Fault { .. }), "{report:?}"),
        }
    }
    assert!(taken > 0);
    let all: u64 = (0..60).map(|number| number % 7 + 1).sum();
    assert_eq!(leader.total.requests(), all, "nothing of the run was cut off");
    assert_eq!(load.counted.load(Ordering::Relaxed), all);
    assert!(leader.total.warnings.is_empty(), "{:?}", leader.total.warnings);
    stream.order(Order::Release).await;
    assert!(stream.next().await.unwrap().is_none());
    state_becomes(&started, Some(MemberState::Draining)).await;
    leader.client.ping(pb::PingRequest {}).await.expect("it stays");
}

#[tokio::test]
async fn an_order_of_somebody_else_changes_nothing() {
    let started = start(PacedLoad::default()).await;
    let mut leader = Leader::of(&started).await;
    let (good, us) = (order(&started), started.agent.incarnation());
    let Order::Prepare { sealed_shard, seal } = leader.prepare(&started, json!({}), Vec::new()) else {
        unreachable!()
    };
    let of_a_shard = pb::DrainRequest { sealed_order: sealed_shard.to_vec(), seal: seal.to_vec() };
    for (request, code) in [
        (request(&good, &ClusterKey::open()), "bad_seal"),
        (request(&Command::new(Purpose::Drain, "b".into(), us, u64::MAX), &started.key), "wrong_agent"),
        (
            request(&Command::new(Purpose::Drain, "a".into(), Incarnation(1), u64::MAX), &started.key),
            "other_incarnation",
        ),
        (request(&Command::new(Purpose::Drain, "a".into(), us, 1), &started.key), "expired"),
        (of_a_shard, "unreadable"),
    ] {
        let status = leader.client.drain(request).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().starts_with(code), "{status}");
    }
    // Nor does the seal of a good one open a Prepare.
    let (sealed, seal) = good.sealed(&started.key).unwrap();
    let mut stream = leader.open().await;
    assert!(matches!(stream.report().await, Report::Welcome(_)), "it takes new runs still");
    stream.order(Order::Prepare { sealed_shard: sealed.into(), seal: seal.into() }).await;
    assert!(matches!(stream.report().await, Report::Fault { code, .. } if code == "unreadable"));
    assert_eq!(get(&started, "/readyz").await.0, 200);
}
