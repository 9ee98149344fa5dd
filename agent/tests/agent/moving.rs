//! An agent in an elastic run: it joins while the run goes, gets lanes, hands them over when it is to leave, and what it did is all there.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use volcanion_common::plan::profile::Profile;
use volcanion_common::session::{Move, Order, Report};
use volcanion_common::shard::ScenarioShare;
use volcanion_common::shard::segments::Segments;
use volcanion_common::units::{Micros, Rate, RunTime};

use crate::leader::{Leader, Stream};
use crate::real_load::{assert_is_whole, counting_server, plan, start};

/// The next report but deltas, which are taken and acknowledged.
async fn word(leader: &mut Leader, stream: &mut Stream) -> Report {
    loop {
        match stream.report().await {
            Report::Delta(frame) => {
                if leader.take(&frame).is_some() {
                    stream.order(Order::Ack(leader.high_water)).await;
                }
            }
            report => return report,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_joins_and_leaves_a_run_that_goes_does_what_was_its_own_and_reports_it_all() {
    let (url, answered) = counting_server().await;
    let started = start().await;
    let mut leader = Leader::of(&started).await;
    let now_ns = leader.client.ping(volcanion_proto::v1::PingRequest {}).await.unwrap().into_inner().sent_ns;
    let mut stream = leader.open().await;
    let mut plan = plan(
        &url,
        json!({"executor": "constant-arrival-rate", "rate": "300/s", "duration": "60s", "max_vus": 64}),
    );
    plan["elastic"] = json!(true);
    let none = ScenarioShare { lanes: 64, owned: vec![] };
    let prepare = leader.prepare(&started, plan, vec![none.clone()]);
    assert!(matches!(stream.report().await, Report::Welcome(_)));
    stream.order(prepare).await;
    assert!(matches!(stream.report().await, Report::Prepared { cores: 2 }));
    // The run began five seconds ago.
    let zero_ns = now_ns - 5_000_000_000;
    stream.order(Order::StartAt { monotonic_ns: zero_ns }).await;
    assert!(matches!(stream.report().await, Report::Started { monotonic_ns } if monotonic_ns == zero_ns));

    let lanes: Vec<u32> = (0..64).step_by(2).collect();
    let mut segments = Segments::of(Profile::of_rate(Rate::per_second(300), Micros::from_secs(60)), &none);
    let orders =
        [(1, vec![], lanes.clone()), (2, lanes[..8].to_vec(), vec![]), (3, lanes[8..].to_vec(), vec![])];
    for (number, release, take) in orders {
        // All are told far ahead: the agent leaves only once the last one's moment has come.
        let from = RunTime(5_200_000 + number * 400_000);
        if number == 3 {
            started.stop.cancel();
            assert!(matches!(word(&mut leader, &mut stream).await, Report::Draining));
        }
        let (release_, take_) = (release.clone(), take.clone());
        stream.order(Order::Move(Move { number, scenario: 0, from, release: release_, take: take_ })).await;
        match word(&mut leader, &mut stream).await {
            Report::Moved(moved) => {
                assert!(moved.number == number && moved.from >= from, "{moved:?}");
                segments.moved(moved.from.since(RunTime::START), &release, &take);
            }
            report => panic!("{report:?}"),
        }
        if number == 2 {
            // A new leader is told what holds.
            stream = leader.open().await;
            let Report::Welcome(welcome) = stream.report().await else { panic!("a welcome first") };
            assert_eq!(welcome.moved.iter().map(|moved| moved.number).collect::<Vec<_>>(), [1, 2]);
            assert!(matches!(word(&mut leader, &mut stream).await, Report::Started { .. }));
        }
    }
    leader.take_to_the_end(&mut stream).await;
    timeout(Duration::from_secs(20), started.agent.stopped()).await.expect("it leaves").expect("in peace");
    let scenario = &leader.total.scenarios[&0];
    assert_eq!(scenario.started + scenario.dropped, segments.count_before(u64::MAX));
    assert!(scenario.started > 0 && scenario.interrupted == 0);
    assert_is_whole(&leader.total, answered.load(Ordering::Relaxed));
}
