//! Streams that are cut, replaced, refused: no count is lost or taken twice.

use std::sync::atomic::Ordering;

use serde_json::json;
use tonic::Code;
use volcanion_agent::Config;
use volcanion_common::ids::{Epoch, Incarnation, Seq};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::session::{Hello, Order, Report, ShardState};
use volcanion_common::units::Micros;

use crate::exposed::metric_reaches;
use crate::leader::Leader;
use crate::paced_load::PacedLoad;
use crate::{start, start_as};

#[tokio::test]
async fn streams_that_are_cut_in_mid_run_lose_and_double_nothing() {
    let load = PacedLoad { intervals: 120, ..PacedLoad::default() };
    let started = start(load.clone()).await;
    let mut leader = Leader::of(&started).await;
    let mut stream = leader.open().await;
    let prepare = leader.prepare(&started, json!({}), Vec::new());
    leader.start(&mut stream, prepare).await;
    // Each stream is cut after a few deltas, some of them taken and never acknowledged, or read and thrown away.
    for cut in 0..6u64 {
        for number in 0..=cut {
            let Report::Delta(frame) = stream.report().await else { continue };
            if number == 3 {
                break;
            }
            if leader.take(&frame).is_some() && number % 2 == 0 {
                stream.order(Order::Ack(leader.high_water)).await;
            }
        }
        drop(stream);
        leader.epoch = Epoch(1 + cut / 2);
        stream = leader.open().await;
        let Report::Welcome(welcome) = stream.report().await else { panic!("a stream begins with Welcome") };
        assert!(matches!(welcome.state, ShardState::Running | ShardState::Finished), "{welcome:?}");
        assert!(welcome.first_unacked == Seq(0) || welcome.first_unacked <= leader.high_water.next());
    }
    let last = leader.take_to_the_end(&mut stream).await;
    assert_eq!(leader.total.requests(), load.counted.load(Ordering::Relaxed));
    assert_eq!(leader.total.scenarios[&0].started, leader.total.requests());

    // The end is told again to a leader that takes over, and the run is never taken again.
    drop(stream);
    leader.epoch = Epoch(9);
    let mut stream = leader.open().await;
    let Report::Welcome(welcome) = stream.report().await else { panic!("a stream begins with Welcome") };
    assert_eq!(welcome.state, ShardState::Finished);
    assert_eq!(stream.report().await, Report::Finished { last_seq: last });
    stream.order(leader.prepare(&started, json!({}), Vec::new())).await;
    let Report::Fault { code, .. } = stream.report().await else { panic!("a late Prepare is refused") };
    assert_eq!(code, "run_over");
    stream.order(Order::Release).await;
    assert!(stream.next().await.unwrap().is_none(), "a released run's stream ends");
}

#[tokio::test]
async fn a_leader_that_reads_nothing_for_long_gets_all_in_few_deltas() {
    let load = PacedLoad { intervals: 60, weight: 3 << 20, ..PacedLoad::default() };
    let started = start(load.clone()).await;
    let mut leader = Leader::of(&started).await;
    let mut stream = leader.open().await;
    let prepare = leader.prepare(&started, json!({}), Vec::new());
    leader.start(&mut stream, prepare).await;
    // The metrics show the load's end; meanwhile nobody reads the stream.
    let all: u64 = (0..60).map(|number| number % 7 + 1).sum();
    metric_reaches(&started, "volcanion_agent_iterations_total", |value| value == all as f64).await;
    let last = leader.take_to_the_end(&mut stream).await;
    assert_eq!(leader.total.requests(), load.counted.load(Ordering::Relaxed));
    assert!(last <= Seq(10), "the outbox folds what a slow leader does not take: {last}");
    assert_eq!(leader.frames_of_largest, 4, "3 MiB and a little go in frames of at most 1 MiB");
}

#[tokio::test]
async fn a_silent_leader_loses_its_load_and_finds_every_count_when_it_speaks_again() {
    let load = PacedLoad { intervals: 100_000, ..PacedLoad::default() };
    let orphan_timeout = Micros::from_secs(1);
    let started = start_as(load.clone(), |config| Config { orphan_timeout, ..config }).await;
    let mut leader = Leader::of(&started).await;
    let mut stream = leader.open().await;
    let prepare = leader.prepare(&started, json!({}), Vec::new());
    leader.start(&mut stream, prepare).await;
    let status = loop {
        match stream.next().await {
            Ok(report) => assert!(matches!(report, Some(Report::Delta(_))), "{report:?}"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Aborted);
    let mut stream = leader.open().await;
    leader.take_to_the_end(&mut stream).await;
    assert_eq!(leader.total.requests(), load.counted.load(Ordering::Relaxed));
    assert!(leader.total.warnings.iter().any(|warning| warning.code == "orphaned"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_stream_of_a_run_is_taken_each_time() {
    let started = start(PacedLoad::default()).await;
    for _ in 0..300 {
        let mut leader = Leader::of(&started).await;
        let first = leader.open().await.next().await;
        assert!(matches!(first, Ok(Some(Report::Welcome(_)))), "{first:?}");
    }
}

#[tokio::test]
async fn wrong_hellos_end_the_stream_with_the_reason() {
    let started = start(PacedLoad::default()).await;
    let mut leader = Leader::of(&started).await;
    leader.epoch = Epoch(5);
    let mut newest = leader.open().await;
    assert!(matches!(newest.report().await, Report::Welcome(_)));
    let good = leader.hello();
    let wrong = [
        (Hello { agent: "b".into(), ..good.clone() }, "wrong_agent"),
        (Hello { incarnation: Incarnation(1), ..good.clone() }, "other_incarnation"),
        (Hello { epoch: Epoch(4), ..good.clone() }, "stale_epoch"),
        (Hello { last_seq: Seq(1), ..good.clone() }, "never_sent"),
    ];
    for (hello, code) in wrong {
        let status = leader.open_as(hello).await.next().await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().starts_with(code), "{status}");
    }
    // Whoever has no key locks no leader out, and adopts no run.
    for (hello, key, expires, code) in [
        (Hello { epoch: Epoch(u64::MAX), ..good.clone() }, ClusterKey::open(), u64::MAX, "bad_seal"),
        (good.clone(), ClusterKey::open(), u64::MAX, "bad_seal"),
        (good.clone(), started.key.clone(), 1_000, "expired"),
    ] {
        let sealed = hello.sealed(&key, expires).unwrap();
        let status = leader.open_sealed(sealed).await.next().await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().starts_with(code), "{status}");
    }
    let sealed = good.clone().sealed(&started.key, u64::MAX).unwrap();
    newest = leader.open_sealed(sealed.clone()).await;
    assert!(matches!(newest.report().await, Report::Welcome(_)));
    let status = leader.open_sealed(sealed).await.next().await.unwrap_err();
    assert!(status.message().starts_with("replayed"), "{status}");
    // A higher epoch on another run's stream ends this one too.
    let mut next = Leader::of(&started).await;
    next.epoch = Epoch(6);
    let mut other = next.open().await;
    assert!(matches!(other.report().await, Report::Welcome(_)));
    assert_eq!(newest.next().await.unwrap_err().code(), Code::Aborted);
    // No hello at all.
    let status = leader.open_without_hello().await.next().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_shard_that_does_not_fit_is_a_fault_and_a_forged_one_too() {
    let started = start(PacedLoad { intervals: 1, ..PacedLoad::default() }).await;
    let mut leader = Leader::of(&started).await;
    let mut stream = leader.open().await;
    assert!(matches!(stream.report().await, Report::Welcome(_)));
    stream.order(leader.prepare(&started, json!({"name": "too big"}), Vec::new())).await;
    assert!(matches!(stream.report().await, Report::Fault { code, .. } if code == "file_limit"));
    let Order::Prepare { sealed_shard, .. } = leader.prepare(&started, json!({}), Vec::new()) else {
        unreachable!()
    };
    stream.order(Order::Prepare { sealed_shard, seal: vec![0; 32].into() }).await;
    assert!(matches!(stream.report().await, Report::Fault { code, .. } if code == "bad_seal"));
    stream.order(leader.prepare(&started, json!({}), Vec::new())).await;
    assert_eq!(stream.report().await, Report::Prepared { cores: 3 });
}
