//! Steps over HTTP/2 against servers of another make, and against wrong ones, over real sockets on loopback.

mod server;

use std::rc::Rc;
use std::sync::Arc;

use h2::server::Builder;
use proptest::prelude::*;
use tokio::runtime::{Builder as RuntimeBuilder, LocalOptions};
use tokio::sync::Notify;
use tokio::task::{JoinSet, spawn_local};
use volcanion_common::ids::RunId;
use volcanion_common::plan::{Connections, HttpVersion, Plan, RequestStep};
use volcanion_common::series::{ErrorKind, Outcome};
use volcanion_common::shard::{Shard, ShardTrace};
use volcanion_common::telemetry::trace::TraceContext;
use volcanion_common::units::{Micros, Share};

use crate::prepare::tests::{header, plan, request, shard};
use crate::prepare::{PrepareSettings, compile};
use crate::send::{CoreClient, Sample, VuClient};
use server::Act::{Await, Close, Frame, Head, Write};
use server::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, Server, WINDOW_UPDATE,
    frame, go_away, whole,
};

/// Runs a test as a core runs: everything on one thread.
fn on_a_core<F: Future>(test: F) -> F::Output {
    let runtime = RuntimeBuilder::new_current_thread().enable_all().build_local(LocalOptions::default());
    runtime
        .unwrap()
        .block_on(async { tokio::time::timeout(std::time::Duration::from_secs(60), test).await.unwrap() })
}

fn core_of(requests: Vec<RequestStep>, adjust: impl FnOnce(&mut Plan)) -> Rc<CoreClient> {
    let mut plan = plan(None, requests);
    plan.http.version = HttpVersion::Http2;
    plan.http.tls.insecure = true;
    adjust(&mut plan);
    let settings = PrepareSettings { listens_on_loopback: true, ..PrepareSettings::default() };
    CoreClient::new(Arc::new(compile(&shard(1), &plan, &settings).unwrap()))
}

fn vu(requests: Vec<RequestStep>) -> VuClient {
    VuClient::new(core_of(requests, |_| {}), 0)
}

fn get(server: &Server, path: &str) -> RequestStep {
    request("GET", &server.url(path), vec![], None)
}

fn post(server: &Server, path: &str, body: &str) -> RequestStep {
    request("POST", &server.url(path), vec![], Some(body))
}

fn within(millis: u64, mut step: RequestStep) -> RequestStep {
    step.timeout = Some(Micros::from_millis(millis));
    step
}

#[track_caller]
fn assert_status(sample: &Sample, status: u16) {
    assert_eq!((sample.outcome, sample.detail), (Outcome::Status(status), ""), "{sample:?}");
    assert!(sample.began_ns <= sample.sent_ns && sample.sent_ns <= sample.ended_ns, "{sample:?}");
    assert!(sample.phases.wait_us.is_some() && sample.phases.receive_us.is_some(), "{sample:?}");
}

#[track_caller]
fn assert_failed(sample: &Sample, kind: ErrorKind, detail: &str) {
    assert_eq!((sample.outcome, sample.detail), (Outcome::Error(kind), detail), "{sample:?}");
    assert!(!sample.success && sample.began_ns <= sample.ended_ns && sample.ended_ns > 0, "{sample:?}");
}

/// All VUs of a core do their step so often; their samples.
async fn all(core: &Rc<CoreClient>, vus: u32, times: u32) -> Vec<(u32, Sample)> {
    let mut running = JoinSet::new();
    for number in 0..vus {
        let core = core.clone();
        running.spawn_local(async move {
            let mut vu = VuClient::new(core.clone(), number.into());
            let step = number % core.program().steps.len() as u32;
            let mut samples = Vec::new();
            for _ in 0..times {
                samples.push((step, vu.step(step).await));
            }
            samples
        });
    }
    running.join_all().await.into_iter().flatten().collect()
}

#[test]
fn requests_share_a_connection_of_their_vu_and_every_byte_of_their_streams_is_counted() {
    on_a_core(async {
        let script = [1, 3, 5].into_iter().flat_map(|n| [Head(n), Write(whole(n, b"ok"))]).collect();
        let server = Server::scripted(vec![script]).await;
        let mut vu = vu(vec![get(&server, "/")]);
        let mut sent = 0;
        for n in 0..3 {
            let sample = vu.step(0).await;
            assert_status(&sample, 200);
            assert_eq!(sample.bytes_received, whole(1, b"ok").len() as u64);
            assert_eq!(sample.phases.connect_us.is_some(), n == 0);
            sent += sample.bytes_sent;
            assert_eq!(sent, server.seen.stream_bytes.get().0);
        }
        assert_eq!((server.seen.connections.get(), server.seen.requests.get()), (1, 3));
    });
}

#[test]
fn what_goes_out_is_the_steps_request() {
    on_a_core(async {
        let server = Server::real(Builder::new()).await;
        let mut step = get(&server, "/ok?a=b");
        step.request.headers = vec![header("Cookie", "a=1; b=2"), header("Connection", "close")];
        assert_status(&vu(vec![step]).step(0).await, 200);
        let expected = format!("GET {} [\"a=1\", \"b=2\"]", server.url("/ok?a=b"));
        assert_eq!(*server.seen.heads.borrow(), [expected]);
    });
}

#[test]
fn answers_end_with_their_head_their_data_or_their_trailers() {
    on_a_core(async {
        let server = Server::real(Builder::new()).await;
        let mut head = get(&server, "/body/9");
        head.request.method = "HEAD".to_owned();
        let mut vu =
            vu(vec![get(&server, "/status/404"), get(&server, "/ok"), get(&server, "/body/100000"), head]);
        assert_status(&vu.step(0).await, 404);
        assert_status(&vu.step(1).await, 200);
        let large = vu.step(2).await;
        assert_status(&large, 200);
        assert!((100_000..101_000).contains(&large.bytes_received), "{large:?}");
        assert_eq!(server.seen.connections.get(), 1);
    });
}

#[test]
fn interim_answers_are_passed_over_and_count_as_the_first_byte() {
    on_a_core(async {
        let interim = frame(HEADERS, END_HEADERS, 1, b"\x08\x03103");
        let bytes = [interim.clone(), interim, whole(1, b"ok")].concat();
        let server = Server::scripted(vec![vec![Head(1), Write(bytes.clone())]]).await;
        let sample = vu(vec![get(&server, "/")]).step(0).await;
        assert_status(&sample, 200);
        assert_eq!(sample.bytes_received, bytes.len() as u64);
    });
}

#[test]
fn an_answer_may_be_cut_anywhere() {
    on_a_core(async {
        let head: Vec<_> = [b"\x88".as_slice(), b"\x0f\x0d\x0211"].concat();
        let (first, rest) = head.split_at(2);
        let bytes = [
            frame(HEADERS, 0, 1, first),
            frame(CONTINUATION, END_HEADERS, 1, rest),
            frame(DATA, 0, 1, b"hello "),
            frame(PING, 0, 0, &[7; 8]),
            frame(DATA, 8, 1, b"\x02world\0\0"),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x40\x01x\x01y"),
        ]
        .concat();
        let scripts = (1..bytes.len())
            .map(|at| vec![Head(1), Write(bytes[..at].to_vec()), Write(bytes[at..].to_vec())])
            .chain([[Head(1)].into_iter().chain(bytes.chunks(1).map(|byte| Write(byte.to_vec()))).collect()])
            .collect::<Vec<_>>();
        let count = scripts.len();
        let server = Server::scripted(scripts).await;
        let core = core_of(vec![get(&server, "/")], |_| {});
        for n in 0..count {
            let sample = VuClient::new(core.clone(), n as u64).step(0).await;
            assert_status(&sample, 200);
            assert_eq!(sample.bytes_received, bytes.len() as u64 - 17, "cut at {n}");
        }
    });
}

#[test]
fn many_vus_share_few_connections_without_mixing_their_answers() {
    on_a_core(async {
        let server = Server::real(Builder::new()).await;
        let steps = (0..50).map(|n| get(&server, &format!("/status/{}", 220 + n))).collect();
        let core = core_of(steps, |plan| plan.http.connections = Connections::Shared(3));
        let samples = all(&core, 50, 20).await;
        for (step, sample) in &samples {
            assert_status(sample, 220 + *step as u16);
        }
        assert_eq!((samples.len(), server.seen.requests.get()), (1000, 1000));
        assert_eq!(server.seen.connections.get(), 3);
        assert!(server.seen.concurrent_max.get() > 3, "many at once on a connection");
    });
}

#[test]
fn a_peer_that_allows_one_stream_gets_one_at_a_time() {
    on_a_core(async {
        let mut settings = Builder::new();
        settings.max_concurrent_streams(1);
        let server = Server::real(settings).await;
        let core =
            core_of(vec![get(&server, "/status/200")], |plan| plan.http.connections = Connections::Shared(2));
        let samples = all(&core, 20, 10).await;
        samples.iter().for_each(|(_, sample)| assert_status(sample, 200));
        assert_eq!((server.seen.connections.get(), server.seen.requests.get()), (2, 200));
        assert!(server.seen.concurrent_max.get() <= 2);
    });
}

#[test]
fn who_gets_no_stream_in_time_was_waiting_and_sent_nothing() {
    on_a_core(async {
        let mut settings = Builder::new();
        settings.max_concurrent_streams(1);
        let server = Server::real(settings).await;
        let core = core_of(vec![get(&server, "/hold"), within(30, get(&server, "/ok"))], |plan| {
            plan.http.connections = Connections::Shared(1);
        });
        let mut holding = VuClient::new(core.clone(), 0);
        let held = spawn_local(async move { holding.step(0).await });
        server.seen.until(|seen| seen.requests.get() == 1).await;
        let mut waiting = VuClient::new(core, 1);
        let sample = waiting.step(1).await;
        assert_failed(&sample, ErrorKind::Timeout, "waiting for a connection");
        assert_eq!((sample.sent_ns, sample.bytes_sent), (0, 0));
        held.abort();
        server.seen.until(|seen| seen.cancelled.get() == 1).await;
        assert_status(&waiting.step(1).await, 200);
        assert_eq!(server.seen.connections.get(), 1);
    });
}

#[test]
fn large_bodies_go_both_ways_however_small_the_peers_windows_are() {
    on_a_core(async {
        let mut settings = Builder::new();
        settings.initial_window_size(1000).initial_connection_window_size(70_000);
        let server = Server::real(settings).await;
        let body = "b".repeat(3_000_000);
        let mut vu = vu(vec![post(&server, "/take", &body), get(&server, "/body/40000000")]);
        let sample = vu.step(0).await;
        assert_status(&sample, 200);
        assert_eq!(server.seen.body_bytes.get(), 3_000_000);
        assert!((3_000_000..3_100_000).contains(&sample.bytes_sent), "{sample:?}");
        // More than the window of the stream.
        let sample = vu.step(1).await;
        assert_status(&sample, 200);
        assert!(sample.bytes_received > 40_000_000, "{sample:?}");
    });
}

#[test]
fn a_body_from_a_file_is_sent_whole() {
    on_a_core(async {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("body"), vec![7; 1_000_001]).unwrap();
        let server = Server::real(Builder::new()).await;
        let mut step = post(&server, "/take", "");
        step.request.body = Some(volcanion_common::plan::Body::File("body".to_owned()));
        let mut plan = plan(None, vec![step]);
        plan.http.version = HttpVersion::Http2;
        let settings = PrepareSettings {
            listens_on_loopback: true,
            files: Some(folder.path().to_owned()),
            ..PrepareSettings::default()
        };
        let core = CoreClient::new(Arc::new(compile(&shard(1), &plan, &settings).unwrap()));
        let mut vu = VuClient::new(core, 0);
        for n in 1..=2 {
            assert_status(&vu.step(0).await, 200);
            assert_eq!(server.seen.body_bytes.get(), n * 1_000_001);
        }
    });
}

#[test]
fn an_answer_before_the_requests_end_is_taken_and_the_connection_lives_on() {
    on_a_core(async {
        let enough = |stream: u32| {
            let refusal = frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x08\x03413");
            let more = frame(WINDOW_UPDATE, 0, 0, &65_535_u32.to_be_bytes());
            [refusal, frame(RST_STREAM, 0, stream, &[0; 4]), more].concat()
        };
        let script = [1, 3, 5].into_iter().flat_map(|n| [Head(n), Frame(DATA), Write(enough(n))]).collect();
        let server = Server::scripted(vec![script]).await;
        let mut vu = vu(vec![post(&server, "/", &"b".repeat(4_000_000))]);
        for _ in 0..3 {
            let sample = vu.step(0).await;
            assert_status(&sample, 413);
            assert!((1..100_000).contains(&sample.bytes_sent), "{sample:?}");
        }
        assert_eq!(server.seen.connections.get(), 1);
    });
}

#[test]
fn a_request_whose_time_ran_out_in_the_queue_is_never_sent() {
    on_a_core(async {
        let allow =
            |streams: u32| frame(SETTINGS, 0, 0, &[[0, 3].as_slice(), &streams.to_be_bytes()].concat());
        let raise = Rc::new(Notify::new());
        let server = Server::scripted(vec![vec![
            Head(1),
            Write(allow(0)),
            // Three settings are acknowledged or sent by now: the client's own, and two acknowledgements.
            Frame(SETTINGS),
            Frame(SETTINGS),
            Write(whole(1, b"ok")),
            Await(raise.clone()),
            Write(allow(10)),
            Head(3),
            Write(whole(3, b"ok")),
        ]])
        .await;
        let mut vu = vu(vec![get(&server, "/"), within(30, get(&server, "/"))]);
        assert_status(&vu.step(0).await, 200);
        let sample = vu.step(1).await;
        assert_failed(&sample, ErrorKind::Timeout, "waiting for a connection");
        assert_eq!((sample.sent_ns, sample.bytes_sent), (0, 0));
        raise.notify_one();
        assert_status(&vu.step(0).await, 200);
        assert_eq!((server.seen.requests.get(), server.seen.cancelled.get()), (2, 0));
    });
}

#[test]
fn time_limits_cost_the_stream_and_not_the_connection() {
    on_a_core(async {
        let server = Server::real(Builder::new()).await;
        let steps = vec![
            within(30, get(&server, "/hold")),
            within(30, get(&server, "/hold-head")),
            get(&server, "/ok"),
        ];
        let mut vu = vu(steps);
        for n in 1..4 {
            let waited = vu.step(0).await;
            assert_failed(&waited, ErrorKind::Timeout, "waiting");
            assert!(waited.ended_ns - waited.began_ns >= 30_000_000 && waited.bytes_sent > 0, "{waited:?}");
            assert_failed(&vu.step(1).await, ErrorKind::Timeout, "receiving");
            assert_status(&vu.step(2).await, 200);
            server.seen.until(|seen| seen.cancelled.get() == 2 * n).await;
        }
        assert_eq!(server.seen.connections.get(), 1);
    });
}

#[test]
fn a_peer_that_answers_not_even_a_ping_is_left_for_a_new_connection() {
    on_a_core(async {
        let server = Server::scripted(vec![
            vec![Head(1), Write(whole(1, b"ok")), Head(3), Head(5), Frame(PING), Frame(99)],
            vec![Head(1), Write(whole(1, b"ok"))],
        ])
        .await;
        let mut vu = vu(vec![within(30, get(&server, "/"))]);
        assert_status(&vu.step(0).await, 200);
        for _ in 0..2 {
            assert_failed(&vu.step(0).await, ErrorKind::Timeout, "waiting");
        }
        assert_status(&vu.step(0).await, 200);
        assert_eq!(server.seen.connections.get(), 2);
    });
}

#[test]
fn a_step_that_is_cut_off_is_told_and_its_stream_cancelled() {
    on_a_core(async {
        let server = Server::real(Builder::new()).await;
        let core = core_of(vec![get(&server, "/hold-head"), get(&server, "/ok")], |plan| {
            plan.http.connections = Connections::Shared(1);
        });
        let mut vu = VuClient::new(core.clone(), 0);
        tokio::select! {
            _ = vu.step(0) => panic!("the server holds the answer back"),
            () = server.seen.until(|seen| seen.requests.get() == 1) => {}
        }
        let sample = vu.interrupted().unwrap();
        assert_failed(&sample, ErrorKind::Interrupted, "");
        assert!(sample.sent_ns > 0 && sample.bytes_sent > 0, "{sample:?}");
        vu.disconnect();
        server.seen.until(|seen| seen.cancelled.get() == 1).await;
        assert_status(&VuClient::new(core, 1).step(1).await, 200);
        assert_eq!(server.seen.connections.get(), 1);
    });
}

#[test]
fn a_refused_stream_is_sent_again_counted_once_and_at_last_an_error() {
    on_a_core(async {
        for (refusals, expected) in [(3, Ok(200)), (4, Err("stream refused"))] {
            let server = Server::real(Builder::new()).await;
            let sample = vu(vec![post(&server, &format!("/refuse/{refusals}"), "x")]).step(0).await;
            match expected {
                Ok(status) => assert_status(&sample, status),
                Err(detail) => assert_failed(&sample, ErrorKind::Reset, detail),
            }
            assert_eq!((server.seen.requests.get(), server.seen.connections.get()), (4, 1));
        }
    });
}

#[test]
fn other_resets_are_errors_of_their_stream_alone() {
    on_a_core(async {
        let server = Server::real(Builder::new()).await;
        let mut vu = vu(["/reset", "/old", "/lie", "/large-head/100000", "/ok"]
            .map(|path| get(&server, path))
            .to_vec());
        assert_failed(&vu.step(0).await, ErrorKind::Reset, "stream");
        assert_failed(&vu.step(1).await, ErrorKind::Protocol, "version");
        assert_failed(&vu.step(2).await, ErrorKind::Body, "truncated");
        assert_failed(&vu.step(3).await, ErrorKind::Protocol, "head");
        assert_status(&vu.step(4).await, 200);
        assert_eq!((server.seen.requests.get(), server.seen.connections.get()), (5, 1));
    });
}

#[test]
fn what_a_peer_that_goes_away_did_not_look_at_is_sent_again_over_a_new_connection() {
    on_a_core(async {
        let leaving = |close: bool| {
            let mut script = vec![Head(1), Write(whole(1, b"ok")), Head(3), Write(go_away(1, 0))];
            script.extend(close.then_some(Close));
            script
        };
        let answering = || vec![Head(1), Write(whole(1, b"ok"))];
        for close in [true, false] {
            let server = Server::scripted(vec![leaving(close), answering()]).await;
            let mut vu = vu(vec![post(&server, "/", "x")]);
            assert_status(&vu.step(0).await, 200);
            let sample = vu.step(0).await;
            assert_status(&sample, 200);
            assert_eq!((server.seen.requests.get(), server.seen.connections.get()), (3, 2));
            assert!(sample.phases.connect_us.is_some());
        }
    });
}

#[test]
fn streams_below_a_goaway_are_answered_and_new_ones_go_elsewhere() {
    on_a_core(async {
        let server = Server::scripted(vec![
            vec![Head(1), Write(go_away(1, 0)), Write(whole(1, b"ok")), Frame(99)],
            vec![Head(1), Write(whole(1, b"ok"))],
        ])
        .await;
        let mut vu = vu(vec![post(&server, "/", "x")]);
        for _ in 0..2 {
            assert_status(&vu.step(0).await, 200);
        }
        assert_eq!((server.seen.requests.get(), server.seen.connections.get()), (2, 2));
    });
}

#[test]
fn a_server_that_always_goes_away_is_an_error_in_the_end() {
    on_a_core(async {
        let server = Server::scripted(vec![vec![Head(1), Write(go_away(0, 0)), Close]; 10]).await;
        assert_failed(&vu(vec![post(&server, "/", "x")]).step(0).await, ErrorKind::Reset, "going away");
        assert_eq!(server.seen.connections.get(), 4);
    });
}

#[test]
fn a_connection_that_breaks_is_tried_again_only_where_that_is_safe() {
    on_a_core(async {
        let breaking = || vec![Head(1), Write(whole(1, b"ok")), Head(3), Close];
        let answering = || vec![Head(1), Write(whole(1, b"ok"))];
        let server = Server::scripted(vec![breaking(), answering()]).await;
        let mut reading = vu(vec![get(&server, "/")]);
        assert_status(&reading.step(0).await, 200);
        assert_status(&reading.step(0).await, 200);
        assert_eq!(server.seen.requests.get(), 3);

        let server = Server::scripted(vec![breaking(), answering()]).await;
        let mut writing = vu(vec![post(&server, "/", "x")]);
        assert_status(&writing.step(0).await, 200);
        assert_failed(&writing.step(0).await, ErrorKind::Reset, "before the answer");
        assert_status(&writing.step(0).await, 200);

        let half = frame(HEADERS, END_HEADERS, 1, &[0x88]);
        let server = Server::scripted(vec![vec![Head(1), Close], vec![Head(1), Write(half), Close]]).await;
        let mut fresh = vu(vec![get(&server, "/")]);
        assert_failed(&fresh.step(0).await, ErrorKind::Reset, "before the answer");
        assert_failed(&fresh.step(0).await, ErrorKind::Reset, "in the answer");
    });
}

#[test]
fn an_idle_connection_that_the_server_closed_is_replaced_before_sending() {
    on_a_core(async {
        let server = Server::scripted(vec![
            vec![Head(1), Write(whole(1, b"ok")), Close],
            vec![Head(1), Write(whole(1, b"ok"))],
        ])
        .await;
        let mut vu = vu(vec![post(&server, "/", "x")]);
        assert_status(&vu.step(0).await, 200);
        for _ in 0..300 {
            tokio::task::yield_now().await;
        }
        assert_status(&vu.step(0).await, 200);
        assert_eq!(server.seen.connections.get(), 2);
    });
}

#[test]
fn frames_that_break_the_protocol_are_typed_errors_of_all_streams_of_their_connection() {
    on_a_core(async {
        let flood = |count: usize| {
            let mut bytes = frame(HEADERS, 0, 1, &[0x88]);
            (0..count).for_each(|_| bytes.extend(frame(CONTINUATION, 0, 1, &[0x00, 0x01, b'a', 0x01, b'b'])));
            bytes
        };
        for (bytes, expected) in [
            (b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec(), "framing"),
            (frame(DATA, 0, 0, b"x"), "framing"),
            (frame(HEADERS, END_HEADERS, 2, &[0x88]), "framing"),
            (frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()), "flow control"),
            (frame(SETTINGS, 0, 0, &[0; 5]), "framing"),
            // An entry of a table that is empty.
            (frame(HEADERS, END_HEADERS, 1, &[0xc0]), "framing"),
            (frame(CONTINUATION, END_HEADERS, 1, &[0x88]), "framing"),
            (frame(HEADERS, END_HEADERS, 1, &[0x82]), "head"),
            (flood(100_000), "too large"),
        ] {
            let server = Server::scripted(vec![vec![Head(1), Write(bytes.clone())]]).await;
            let sample = vu(vec![within(10_000, get(&server, "/"))]).step(0).await;
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
            assert_eq!(
                (sample.outcome, sample.detail),
                (Outcome::Error(ErrorKind::Protocol), expected),
                "{shown:?}"
            );
        }
    });
}

#[test]
fn the_version_is_the_targets_choice_unless_the_plan_makes_it() {
    on_a_core(async {
        let both: &[&str] = &["h2", "http/1.1"];
        for (offered, version, expected) in [
            (both, HttpVersion::Auto, Ok(200)),
            (&["http/1.1"], HttpVersion::Auto, Ok(201)),
            (&[], HttpVersion::Auto, Ok(201)),
            (both, HttpVersion::Http1, Ok(201)),
            (both, HttpVersion::Http2, Ok(200)),
            (&["http/1.1"], HttpVersion::Http2, Err("no h2")),
            (&[], HttpVersion::Http2, Err("no h2")),
        ] {
            for connections in [Connections::PerVu, Connections::Shared(1)] {
                let server = Server::tls(offered).await;
                let core = core_of(vec![get(&server, "/ok")], |plan| {
                    plan.http.version = version;
                    plan.http.connections = connections;
                });
                let sample = VuClient::new(core, 0).step(0).await;
                match expected {
                    Ok(status) => assert_status(&sample, status),
                    Err(detail) => assert_failed(&sample, ErrorKind::Tls, detail),
                }
            }
        }
    });
}

#[test]
fn redirects_and_cookies_are_followed_over_http_2_too() {
    on_a_core(async {
        let server = Server::real(Builder::new()).await;
        let core = core_of(vec![get(&server, "/led")], |plan| {
            plan.http.redirects = 3;
            plan.http.cookies = true;
        });
        let mut vu = VuClient::new(core, 0);
        let sample = vu.step(0).await;
        assert_status(&sample, 302);
        assert!(sample.leads_on);
        assert_status(&vu.follow().await.unwrap(), 204);
        let expected = format!("GET {} [\"a=b\", \"c=d\"]", server.url("/status/204"));
        assert_eq!(server.seen.heads.borrow()[1], expected);
        assert_eq!(server.seen.connections.get(), 1);
    });
}

#[test]
fn a_vu_that_shares_its_connection_has_little_of_its_own() {
    on_a_core(async {
        let server = Server::real(Builder::new()).await;
        let mut vu = vu(vec![get(&server, "/ok")]);
        let own_bytes = size_of_val(&vu);
        let step_bytes = size_of_val(&vu.step(0));
        assert!(own_bytes <= 512 && step_bytes <= 1024, "a VU has {own_bytes} bytes, its step {step_bytes}");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_end_in_an_answer_or_a_typed_error(
        frames in proptest::collection::vec(
            (0..12_u8, any::<u8>(), 0..4_u32, proptest::collection::vec(any::<u8>(), 0..40)), 0..8,
        ),
        tail in proptest::collection::vec(any::<u8>(), 0..40),
        is_wild in any::<bool>(),
    ) {
        on_a_core(async move {
            let mut bytes: Vec<u8> =
                frames.iter().flat_map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload)).collect();
            if is_wild {
                bytes.extend(tail);
            }
            let server = Server::scripted(vec![vec![Head(1), Write(bytes), Close]; 8]).await;
            let sample = vu(vec![within(20_000, get(&server, "/"))]).step(0).await;
            let is_fine = match sample.outcome {
                Outcome::Status(status) => (100..1000).contains(&status),
                Outcome::Error(kind) => {
                    matches!(kind, ErrorKind::Reset | ErrorKind::Protocol | ErrorKind::Body) && !sample.detail.is_empty()
                }
            };
            assert!(is_fine && sample.ended_ns > 0, "{sample:?}");
        });
    }
}

#[test]
fn requests_of_a_trace_say_so_over_http_2_too() {
    on_a_core(async {
        let server = Server::real(Builder::new()).await;
        let parent = TraceContext::of_run(RunId::new());
        let mut plan = plan(None, vec![get(&server, "/")]);
        plan.http.version = HttpVersion::Http2;
        let trace = Some(ShardTrace { parent, sample: Share::ALL });
        let settings = PrepareSettings { listens_on_loopback: true, ..PrepareSettings::default() };
        let program = compile(&Shard { trace, ..shard(1) }, &plan, &settings).unwrap();
        let mut vu = VuClient::new(CoreClient::new(Arc::new(program)), 0);
        for _ in 0..2 {
            assert_status(&vu.step(0).await, 200);
        }
        let said = server.seen.traceparents.borrow().clone();
        let places: Vec<TraceContext> = said.iter().map(|said| said.parse().unwrap()).collect();
        assert!(places.len() == 2 && places[0].span != places[1].span, "{said:?}");
        assert!(places.iter().all(|place| place.trace == parent.trace && place.is_sampled), "{said:?}");
    });
}
