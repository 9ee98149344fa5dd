//! Steps against servers that follow a script, over real sockets on loopback.

mod framings;
mod messages;
mod server;

use std::rc::Rc;
use std::sync::Arc;

use volcanion_common::plan::RequestStep;
use volcanion_common::plan::template::Template;
use volcanion_common::series::{ErrorKind, Outcome};
use volcanion_common::units::Micros;

use super::{CoreClient, Sample, VuClient};
use crate::prepare::tests::{plan, request, shard};
use crate::prepare::{PrepareSettings, Program, compile};
use server::Act::{Close, Hold, Read, ReadHead, Reset, Write};
use server::{Act, Server, Tls};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn program_of(requests: Vec<RequestStep>, adjust: impl FnOnce(&mut volcanion_common::plan::Plan)) -> Program {
    let mut plan = plan(None, requests);
    adjust(&mut plan);
    let settings = PrepareSettings { listens_on_loopback: true, ..PrepareSettings::default() };
    compile(&shard(1), &plan, &settings).unwrap()
}

fn program(requests: Vec<RequestStep>) -> Program {
    program_of(requests, |_| {})
}

fn vu(program: Program) -> VuClient {
    VuClient::new(CoreClient::new(Arc::new(program)), 0)
}

fn get(server: &Server) -> RequestStep {
    request("GET", &server.url("/"), vec![], None)
}

fn post(server: &Server, body: &str) -> RequestStep {
    request("POST", &server.url("/"), vec![], Some(body))
}

fn within(millis: u64, mut step: RequestStep) -> RequestStep {
    step.timeout = Some(Micros::from_millis(millis));
    step
}

#[track_caller]
fn assert_status(sample: &Sample, status: u16) {
    assert_eq!((sample.outcome, sample.detail), (Outcome::Status(status), ""), "{sample:?}");
    assert_eq!(sample.success, (200..400).contains(&status));
    assert!(sample.began_ns <= sample.sent_ns && sample.sent_ns <= sample.ended_ns, "{sample:?}");
    assert!(sample.phases.wait_us.is_some() && sample.phases.receive_us.is_some(), "{sample:?}");
}

#[track_caller]
fn assert_failed(sample: &Sample, kind: ErrorKind, detail: &str) {
    assert_eq!((sample.outcome, sample.detail), (Outcome::Error(kind), detail), "{sample:?}");
    assert!(!sample.success && sample.began_ns <= sample.ended_ns && sample.ended_ns > 0, "{sample:?}");
}

/// Lets the runtime look at its sockets.
async fn look_around() {
    for _ in 0..300 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_is_kept_and_every_byte_counted() {
    let server = Server::start(vec![vec![Read, Write(OK), Read, Write(OK), Read, Write(OK)]]).await;
    let program = program(vec![get(&server)]);
    let sent = program.steps[0].request.http1.len() as u64;
    let mut vu = vu(program);
    for n in 0..3 {
        let sample = vu.step(0).await;
        assert_status(&sample, 200);
        assert_eq!((sample.bytes_sent, sample.bytes_received), (sent, OK.len() as u64));
        assert_eq!(sample.phases.connect_us.is_some(), n == 0);
        assert_eq!((sample.phases.dns_us, sample.phases.tls_us), (None, None));
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_server_that_says_close_gets_a_new_connection_next_time() {
    let close = b"HTTP/1.1 404 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".as_slice();
    let old = b"HTTP/1.0 200 OK\r\n\r\nuntil the end".as_slice();
    let extra = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more".as_slice();
    let server = Server::start(vec![
        vec![Read, Write(close), Hold],
        vec![Read, Write(old), Close],
        vec![Read, Write(extra), Hold],
        vec![Read, Write(OK)],
    ])
    .await;
    let mut vu = vu(program(vec![get(&server)]));
    for status in [404, 200, 200, 200] {
        assert_status(&vu.step(0).await, status);
    }
    assert_eq!(server.connections(), 4);
}

#[tokio::test]
async fn without_keep_alive_every_request_connects() {
    let server = Server::start(vec![vec![Read, Write(OK), Hold], vec![Read, Write(OK), Hold]]).await;
    let mut vu = vu(program_of(vec![get(&server)], |plan| plan.http.no_keep_alive = true));
    for _ in 0..2 {
        assert!(vu.step(0).await.phases.connect_us.is_some());
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn an_idle_connection_that_the_server_closed_is_replaced_before_sending_even_a_post() {
    let server = Server::start(vec![vec![Read, Write(OK), Close], vec![Read, Write(OK)]]).await;
    let program = program(vec![post(&server, "x")]);
    let sent = program.steps[0].request.http1.len() as u64;
    let mut vu = vu(program);
    assert_status(&vu.step(0).await, 200);
    server.closed(1).await;
    look_around().await;
    let sample = vu.step(0).await;
    assert_status(&sample, 200);
    assert_eq!(sample.bytes_sent, sent, "nothing was sent into the closed connection");
}

#[tokio::test]
async fn a_get_into_a_connection_that_closes_without_a_word_is_sent_again_and_counted_once() {
    for last in [Close, Reset] {
        let server = Server::start(vec![vec![Read, Write(OK), Read, last], vec![Read, Write(OK)]]).await;
        let program = program(vec![get(&server)]);
        let sent = program.steps[0].request.http1.len() as u64;
        let mut vu = vu(program);
        assert_status(&vu.step(0).await, 200);
        let sample = vu.step(0).await;
        assert_status(&sample, 200);
        assert_eq!(sample.bytes_sent, 2 * sent);
        assert!(sample.phases.connect_us.is_some());
    }
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let server = Server::start(vec![vec![Read, Write(OK), Read, Close], vec![Read, Write(OK)]]).await;
    let mut vu = vu(program(vec![post(&server, "x")]));
    assert_status(&vu.step(0).await, 200);
    assert_failed(&vu.step(0).await, ErrorKind::Reset, "before the answer");
    assert_status(&vu.step(0).await, 200);
}

#[tokio::test]
async fn a_fresh_connection_that_breaks_is_an_error_and_not_tried_again() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok".as_slice();
    let server = Server::start(vec![
        vec![Read, Close],
        vec![Read, Reset],
        vec![Read, Write(&half[..20]), Close],
        vec![Read, Write(half), Close],
    ])
    .await;
    let mut vu = vu(program(vec![get(&server)]));
    assert_failed(&vu.step(0).await, ErrorKind::Reset, "before the answer");
    assert_failed(&vu.step(0).await, ErrorKind::Reset, "before the answer");
    assert_failed(&vu.step(0).await, ErrorKind::Reset, "in the answer");
    assert_failed(&vu.step(0).await, ErrorKind::Body, "truncated");
    assert_eq!(server.connections(), 4);
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_a_protocol_error_at_once() {
    let huge: &'static [u8] = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(3_000_000)).leak().as_bytes();
    let server = Server::start(vec![
        vec![Read, Write(b"SSH-2.0-x\r\n"), Hold],
        vec![Read, Write(huge), Hold],
        vec![Read, Write(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"), Hold],
        vec![Read, Write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz"), Hold],
    ])
    .await;
    let mut vu = vu(program(vec![get(&server)]));
    assert_failed(&vu.step(0).await, ErrorKind::Protocol, "head");
    assert_failed(&vu.step(0).await, ErrorKind::Protocol, "too large");
    assert_failed(&vu.step(0).await, ErrorKind::Protocol, "framing");
    assert_failed(&vu.step(0).await, ErrorKind::Body, "chunk");
}

#[tokio::test]
async fn an_answer_may_come_byte_by_byte_and_may_be_large() {
    let large: &'static [u8] =
        [b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".as_slice(), &vec![b'x'; 1_000_000]]
            .concat()
            .leak();
    let mut slow = vec![Read, Write(b"HTTP/1.1 100 Continue\r\n\r\n")];
    slow.extend(OK.chunks(1).map(Write));
    slow.extend([Read, Write(large), Hold]);
    let server = Server::start(vec![slow]).await;
    let mut vu = vu(program(vec![get(&server)]));
    let sample = vu.step(0).await;
    assert_status(&sample, 200);
    assert_eq!(sample.bytes_received, 25 + OK.len() as u64);
    let sample = vu.step(0).await;
    assert_status(&sample, 200);
    assert_eq!(sample.bytes_received, large.len() as u64);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn an_answer_before_the_requests_end_is_taken() {
    let refusal = b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n".as_slice();
    let server = Server::start(vec![vec![ReadHead, Write(refusal), Hold], vec![ReadHead, Write(OK)]]).await;
    let body = "b".repeat(16 * 1024 * 1024);
    let mut vu = vu(program(vec![post(&server, &body), get(&server)]));
    let sample = vu.step(0).await;
    assert_status(&sample, 413);
    assert!(sample.bytes_sent > 0 && sample.bytes_sent < body.len() as u64);
    assert_status(&vu.step(1).await, 200);
    assert_eq!(server.connections(), 2, "the half-written connection is not used again");
}

#[tokio::test]
async fn a_large_request_is_sent_whole() {
    let server = Server::start(vec![vec![Read, Write(OK)]]).await;
    let program = program(vec![post(&server, &"b".repeat(16 * 1024 * 1024))]);
    let sent = program.steps[0].request.http1.len() as u64;
    let sample = vu(program).step(0).await;
    assert_status(&sample, 200);
    assert_eq!(sample.bytes_sent, sent);
}

#[tokio::test]
async fn time_limits_cut_where_the_request_is_and_the_connection_goes() {
    let server = Server::start(vec![
        vec![Read, Hold],
        vec![Read, Write(&OK[..20]), Hold],
        vec![Read, Write(OK), Read, Hold],
        vec![Read, Write(OK)],
    ])
    .await;
    let mut vu = vu(program(vec![within(30, get(&server)), get(&server)]));
    let waited = vu.step(0).await;
    assert_failed(&waited, ErrorKind::Timeout, "waiting");
    assert!(waited.ended_ns - waited.began_ns >= 30_000_000, "{waited:?}");
    assert_failed(&vu.step(0).await, ErrorKind::Timeout, "receiving");
    assert_status(&vu.step(1).await, 200);
    assert_failed(&vu.step(0).await, ErrorKind::Timeout, "waiting");
    assert_status(&vu.step(1).await, 200);
    assert_eq!(server.connections(), 4);
}

#[tokio::test]
async fn a_server_that_never_shakes_hands_times_out_while_connecting() {
    let server = Server::start(vec![vec![Hold]]).await;
    let url = server.url("/").replace("http:", "https:");
    let sample = vu(program(vec![within(30, request("GET", &url, vec![], None))])).step(0).await;
    assert_failed(&sample, ErrorKind::Timeout, "connecting");
    assert_eq!((sample.sent_ns, sample.bytes_sent), (0, 0));
    assert!(sample.phases.connect_us.is_some() && sample.phases.tls_us.is_none());
}

#[tokio::test]
async fn a_refused_connection_is_an_attempt_too() {
    let server = Server::start(vec![]).await;
    let url = server.url("/");
    server.stop().await;
    let sample = vu(program(vec![request("GET", &url, vec![], None)])).step(0).await;
    assert_failed(&sample, ErrorKind::Connect, "refused");
    assert_eq!((sample.sent_ns, sample.bytes_sent), (0, 0));
}

#[tokio::test]
async fn a_target_that_is_not_allowed_is_blocked_after_resolution_and_never_connected_to() {
    let server = Server::start(vec![vec![Read, Write(OK)]]).await;
    let urls = [server.url("/"), server.url("/").replace("127.0.0.1", "localhost")];
    let mut program = program(urls.iter().map(|url| request("GET", url, vec![], None)).collect());
    program.targets.loopback = false;
    let mut vu = vu(program);
    for step in [0, 1] {
        assert_failed(&vu.step(step).await, ErrorKind::Blocked, "target");
    }
    look_around().await;
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn names_are_resolved_once_and_those_that_do_not_exist_are_dns_errors() {
    let server = Server::start(vec![vec![Read, Write(OK), Hold], vec![Read, Write(OK), Hold]]).await;
    let url = server.url("/").replace("127.0.0.1", "localhost");
    let mut program =
        program(vec![request("GET", &url, vec![], None), request("GET", "http://replaced/", vec![], None)]);
    // Longer than a label may be: the resolver refuses it without asking anybody.
    program.origins[1].host = "x".repeat(64);
    let core = CoreClient::new(Arc::new(program));
    let mut vus = [VuClient::new(Rc::clone(&core), 0), VuClient::new(core, 1)];
    for (n, vu) in vus.iter_mut().enumerate() {
        let sample = vu.step(0).await;
        assert_status(&sample, 200);
        assert_eq!(sample.phases.dns_us.is_some(), n == 0);
    }
    assert_failed(&vus[0].step(1).await, ErrorKind::Dns, "not found");
}

#[tokio::test]
async fn a_step_that_is_cut_off_is_told_and_its_connection_closed() {
    let server = Server::start(vec![vec![Read, Write(OK), Read, Hold], vec![Read, Write(OK)]]).await;
    let mut vu = vu(program(vec![get(&server)]));
    assert_status(&vu.step(0).await, 200);
    assert_eq!(vu.interrupted(), None);
    tokio::select! {
        _ = vu.step(0) => panic!("the server holds the answer back"),
        () = server.reads(2) => {}
    }
    let sample = vu.interrupted().unwrap();
    assert_failed(&sample, ErrorKind::Interrupted, "");
    assert!(sample.sent_ns > 0 && sample.bytes_sent > 0);
    assert_eq!(vu.interrupted(), None);
    assert_status(&vu.step(0).await, 200);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn many_vus_share_a_core_without_mixing_their_answers() {
    let answers: Vec<_> = (0..20)
        .map(|n| format!("HTTP/1.1 {} X\r\ncontent-length: {n}\r\n\r\n{}", 220 + n, "x".repeat(n)))
        .collect();
    let scripts = (0..50)
        .map(|_| answers.iter().flat_map(|a| [Read, Write(a.clone().leak().as_bytes())]).collect())
        .collect();
    let server = Server::start(scripts).await;
    let core = CoreClient::new(Arc::new(program(vec![get(&server)])));
    let local = tokio::task::LocalSet::new();
    for number in 0..50 {
        let mut vu = VuClient::new(Rc::clone(&core), number);
        local.spawn_local(async move {
            for n in 0..20 {
                assert_eq!(vu.step(0).await.outcome, Outcome::Status(220 + n));
            }
        });
    }
    local.await;
    assert_eq!((server.connections(), server.read_count()), (50, 1000));
}

#[tokio::test]
async fn tls_is_verified_kept_and_resumed() {
    let tls = Tls::new("localhost");
    let scripts = vec![vec![Read, Write(OK), Read, Write(OK), Hold], vec![Read, Write(OK), Hold]];
    let server = Server::start_tls(scripts, &tls).await;
    let url = server.url("/").replace("127.0.0.1", "localhost");
    let program = program_of(vec![request("GET", &url, vec![], None)], |plan| {
        plan.http.tls.ca_pem = Some(tls.ca_pem.clone())
    });
    let core = CoreClient::new(Arc::new(program));
    let mut first = VuClient::new(Rc::clone(&core), 0);
    let sample = first.step(0).await;
    assert_status(&sample, 200);
    assert!(sample.phases.tls_us.is_some());
    assert_eq!(sample.bytes_received, OK.len() as u64);
    assert_eq!(first.step(0).await.phases.tls_us, None);
    assert_status(&VuClient::new(core, 1).step(0).await, 200);
    assert_eq!(server.resumed(), [false, true]);
}

#[tokio::test]
async fn an_unknown_authority_is_a_certificate_error_unless_the_plan_does_not_care() {
    let tls = Tls::new("localhost");
    let server = Server::start_tls(vec![vec![], vec![Read, Write(OK)], vec![]], &tls).await;
    let steps = || vec![request("GET", &server.url("/").replace("127.0.0.1", "localhost"), vec![], None)];
    let sample = vu(program(steps())).step(0).await;
    assert_failed(&sample, ErrorKind::Tls, "certificate");
    assert_eq!(sample.bytes_sent, 0);
    assert_status(&vu(program_of(steps(), |plan| plan.http.tls.insecure = true)).step(0).await, 200);
    // The certificate names localhost, not the address.
    let by_address = vec![request("GET", &server.url("/"), vec![], None)];
    let sample =
        vu(program_of(by_address, |plan| plan.http.tls.ca_pem = Some(tls.ca_pem.clone()))).step(0).await;
    assert_failed(&sample, ErrorKind::Tls, "certificate");
}

#[tokio::test]
async fn a_server_without_tls_fails_the_handshake() {
    let server = Server::start(vec![vec![Write(b"HTTP/1.1 400 Bad\r\n\r\n"), Close]]).await;
    let url = server.url("/").replace("http:", "https:");
    assert_failed(
        &vu(program(vec![request("GET", &url, vec![], None)])).step(0).await,
        ErrorKind::Tls,
        "handshake",
    );
}

#[tokio::test]
async fn a_vu_keeps_a_connection_to_each_of_a_few_servers() {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Server::start(vec![vec![Read, Write(OK), Read, Write(OK)]]).await);
    }
    let mut vu = vu(program(servers.iter().map(get).collect()));
    for step in [0, 1, 2, 0, 1, 2] {
        assert_status(&vu.step(step).await, 200);
    }
    assert!(servers.iter().all(|server| server.connections() == 1));
}

#[tokio::test]
async fn variables_reach_the_server_as_they_are() {
    let server = Server::start(vec![vec![Read, Write(OK)]]).await;
    let mut step = get(&server);
    step.request.url = Template::parse(&format!("{}?r={{{{ region }}}}", server.url("/"))).unwrap();
    let mut vu = vu(program_of(vec![step], |plan| {
        plan.variables.insert("region".to_owned(), "eu".to_owned());
    }));
    assert_status(&vu.step(0).await, 200);
    assert!(server.last_request().starts_with("GET /?r=eu HTTP/1.1\r\n"));
}

#[tokio::test]
async fn an_idle_vu_is_small() {
    let mut vu = vu(program(vec![request("GET", "http://127.0.0.1:1/", vec![], None)]));
    let own_bytes = size_of_val(&vu);
    let step_bytes = size_of_val(&vu.step(0));
    assert!(own_bytes <= 512 && step_bytes <= 1024, "a VU has {own_bytes} bytes, its step {step_bytes}");
}

fn sharing(count: u32, steps: Vec<RequestStep>) -> Rc<CoreClient> {
    CoreClient::new(Arc::new(program_of(steps, |plan| {
        plan.http.connections = volcanion_common::plan::Connections::Shared(count);
    })))
}

#[tokio::test]
async fn vus_that_share_connections_have_one_each_for_an_exchange_and_no_more_are_made() {
    let script: Vec<_> = std::iter::repeat_n([Read, Write(OK)], 200).flatten().collect();
    let server = Server::start(vec![script; 3]).await;
    let core = sharing(3, vec![get(&server)]);
    let vus = (0..20).map(|number| {
        let mut vu = VuClient::new(Rc::clone(&core), number);
        async move {
            for _ in 0..10 {
                let sample = vu.step(0).await;
                assert_status(&sample, 200);
                assert_eq!(sample.bytes_received, OK.len() as u64);
            }
        }
    });
    futures_util::future::join_all(vus).await;
    assert_eq!((server.connections(), server.read_count()), (3, 200));
}

#[tokio::test]
async fn who_waits_longest_for_a_shared_connection_has_it_first_and_who_leaves_is_passed_over() {
    let server = Server::start(vec![std::iter::repeat_n([Read, Write(OK)], 9).flatten().collect()]).await;
    let core = sharing(1, vec![get(&server)]);
    let order = std::cell::RefCell::new(Vec::new());
    let mut vus: Vec<_> = (0..5).map(|number| VuClient::new(Rc::clone(&core), number)).collect();
    let mut steps: Vec<_> = vus
        .iter_mut()
        .enumerate()
        .map(|(number, vu)| {
            let order = &order;
            Box::pin(async move {
                let sample = vu.step(0).await;
                order.borrow_mut().push(number);
                sample
            })
        })
        .collect();
    // In this order they come; the third goes again.
    for step in &mut steps {
        assert!(futures_util::poll!(step.as_mut()).is_pending());
    }
    drop(steps.remove(2));
    let samples = futures_util::future::join_all(steps).await;
    assert_eq!(*order.borrow(), [0, 1, 3, 4]);
    samples.iter().for_each(|sample| assert_status(sample, 200));
    // Waiting is in the response time, and not in the service time.
    assert!(samples[3].sent_ns > samples[0].ended_ns && samples[3].began_ns < samples[0].ended_ns);
    assert_eq!((server.connections(), server.read_count()), (1, 4));
}

#[tokio::test]
async fn a_shared_connection_that_is_used_up_makes_room_for_another() {
    let close = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".as_slice();
    let server = Server::start(vec![
        vec![Read, Write(OK), Read, Reset],
        vec![Read, Write(close), Close],
        vec![Read, Hold],
        vec![Read, Write(OK), Read, Write(OK)],
    ])
    .await;
    let core = sharing(1, vec![get(&server), within(30, get(&server))]);
    let mut vus = [VuClient::new(Rc::clone(&core), 0), VuClient::new(core, 1)];
    assert_status(&vus[0].step(0).await, 200);
    let again = vus[1].step(0).await;
    assert_status(&again, 200);
    assert!(again.phases.connect_us.is_some(), "sent again in the same place");
    assert_failed(&vus[0].step(1).await, ErrorKind::Timeout, "waiting");
    assert_status(&vus[1].step(0).await, 200);
    assert_status(&vus[0].step(0).await, 200);
    assert_eq!(server.connections(), 4);
}

#[tokio::test]
async fn who_has_no_shared_connection_in_time_was_waiting_for_one() {
    let server = Server::start(vec![vec![Read, Hold]]).await;
    let core = sharing(1, vec![get(&server), within(30, get(&server))]);
    let (mut holding, mut waiting) = (VuClient::new(Rc::clone(&core), 0), VuClient::new(core, 1));
    let mut held = std::pin::pin!(holding.step(0));
    assert!(futures_util::poll!(held.as_mut()).is_pending());
    let sample = waiting.step(1).await;
    assert_failed(&sample, ErrorKind::Timeout, "waiting for a connection");
    assert_eq!((sample.sent_ns, sample.bytes_sent, server.connections()), (0, 0, 1));
}

#[tokio::test]
async fn a_turn_that_comes_too_late_or_to_one_who_left_goes_on_with_its_connection() {
    let server = Server::start(vec![std::iter::repeat_n([Read, Write(OK)], 9).flatten().collect()]).await;
    let core = sharing(1, vec![get(&server), within(30, get(&server))]);
    let mut vus: Vec<_> = (0..4).map(|number| VuClient::new(Rc::clone(&core), number)).collect();
    let [first, leaving, late, last] = &mut vus[..] else { unreachable!() };
    let sample = async {
        let mut first = std::pin::pin!(first.step(0));
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        let mut leaving = Box::pin(leaving.step(0));
        assert!(futures_util::poll!(leaving.as_mut()).is_pending());
        let mut late = std::pin::pin!(late.step(1));
        assert!(futures_util::poll!(late.as_mut()).is_pending());
        let mut last = Box::pin(last.step(0));
        assert!(futures_util::poll!(last.as_mut()).is_pending());
        // The time of the third passes while nobody looks at it.
        let over_ns = super::clock::now_ns() + 40_000_000;
        while super::clock::now_ns() < over_ns {
            std::hint::spin_loop();
        }
        assert_status(&first.await, 200);
        // The turn is the second's now, and it is cut off; then it is the third's.
        drop(leaving);
        let sample = late.await;
        assert_failed(&sample, ErrorKind::Timeout, "waiting for a connection");
        assert_eq!((sample.sent_ns, sample.bytes_sent), (0, 0));
        last.await
    };
    assert_status(&sample.await, 200);
    assert_eq!((server.connections(), server.read_count()), (1, 2));
}
