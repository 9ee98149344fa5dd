//! An agent that is told to leave: its registry entry, its runs, its last deltas.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use volcanion_agent::{Config, StartError, start_with};
use volcanion_common::registry::{MemberState, Registry, RegistryError};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::session::{Order, Report};

use crate::leader::Leader;
use crate::paced_load::PacedLoad;
use crate::{Started, start};

pub async fn state_becomes(started: &Started, wanted: Option<MemberState>) {
    let mut fleet = started.registry.watch().await.unwrap();
    let state =
        |members: &volcanion_common::registry::Fleet| members.members.get(&"a".into()).map(|m| m.state);
    let reached = fleet.wait_for(|fleet| state(fleet) == wanted);
    timeout(Duration::from_secs(20), reached).await.expect("the state in time").unwrap();
}

#[tokio::test]
async fn the_entry_is_true_and_the_last_deltas_arrive() {
    let load = PacedLoad { intervals: 100_000, ..PacedLoad::default() };
    let started = start(load.clone()).await;
    state_becomes(&started, Some(MemberState::Ready)).await;
    let mut leader = Leader::of(&started).await;
    let mut stream = leader.open().await;
    let prepare = leader.prepare(&started, json!({}), Vec::new());
    leader.start(&mut stream, prepare).await;
    state_becomes(&started, Some(MemberState::Busy)).await;
    started.stop.cancel();
    let mut is_draining_said = false;
    loop {
        match stream.next().await.unwrap() {
            Some(Report::Draining) => is_draining_said = true,
            Some(Report::Delta(frame)) => {
                if leader.take(&frame).is_some() {
                    stream.order(Order::Ack(leader.high_water)).await;
                }
            }
            Some(_) => {}
            None => break,
        }
    }
    assert!(is_draining_said);
    state_becomes(&started, None).await;
    timeout(Duration::from_secs(20), started.agent.stopped()).await.expect("it ends in time").unwrap();
    assert_eq!(leader.total.requests(), load.counted.load(Ordering::Relaxed));
    assert!(
        leader.total.warnings.iter().any(|warning| warning.code == "draining"),
        "{:?}",
        leader.total.warnings
    );
}

#[tokio::test]
async fn an_agent_without_runs_leaves_at_once() {
    let started = start(PacedLoad::default()).await;
    started.stop.cancel();
    timeout(Duration::from_secs(2), started.agent.stopped()).await.expect("it ends at once").unwrap();
    assert!(started.registry.watch().await.unwrap().borrow().members.is_empty());
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let started = start(PacedLoad::default()).await;
    let begin = async |config: Config| {
        let (registry, loader) = (Arc::new(started.registry.clone()), Arc::new(PacedLoad::default()));
        start_with(config, registry, loader, CancellationToken::new()).await.unwrap_err()
    };
    let taken = begin(Config::new("a".into(), ClusterKey::random())).await;
    assert!(matches!(taken, StartError::Registry(RegistryError::NameTaken(_))), "{taken}");
    let busy =
        Config { listen: started.agent.grpc_address(), ..Config::new("b".into(), ClusterKey::random()) };
    let busy = begin(busy).await.to_string();
    assert!(busy.contains("listen: cannot listen on 127.0.0.1"), "{busy}");
    let open = Config {
        listen: "0.0.0.0:0".parse().unwrap(),
        advertise: Some("localhost:0".to_owned()),
        ..Config::new("b".into(), ClusterKey::random())
    };
    let open = begin(open).await.to_string();
    assert!(open.contains("--allow-unauthenticated"), "{open}");
}
