//! Redirects, cookies and bodies from files, over real sockets.

use std::fs;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use volcanion_common::ids::RunId;
use volcanion_common::plan::{Body, Plan};
use volcanion_common::shard::{Shard, ShardTrace};
use volcanion_common::telemetry::trace::TraceContext;
use volcanion_common::units::Share;

use super::*;
use crate::prepare::tests::header;

/// An answer that leads somewhere.
fn moved(status: u16, to: &str, lines: &str) -> Act {
    Write(
        format!("HTTP/1.1 {status} X\r\nlocation: {to}\r\n{lines}content-length: 0\r\n\r\n")
            .leak()
            .as_bytes(),
    )
}

fn with(lines: &str) -> Act {
    Write(format!("HTTP/1.1 200 OK\r\n{lines}content-length: 2\r\n\r\nok").leak().as_bytes())
}

fn following(redirects: u32) -> impl FnOnce(&mut Plan) {
    move |plan| plan.http.redirects = redirects
}

fn with_cookies(plan: &mut Plan) {
    plan.http.redirects = 5;
    plan.http.cookies = true;
}

/// A step and all redirects that it leads to, as a VU runs it.
async fn run(vu: &mut VuClient, step: u32) -> Vec<Sample> {
    let mut samples = vec![vu.step(step).await];
    while samples.last().is_some_and(|sample| sample.leads_on) {
        samples.push(vu.follow().await.unwrap());
    }
    assert_eq!(vu.follow().await, None);
    assert!(samples.iter().enumerate().all(|(n, sample)| sample.is_redirect == (n > 0)), "{samples:?}");
    samples
}

#[track_caller]
fn assert_statuses(samples: &[Sample], expected: &[u16]) {
    let statuses: Vec<_> = samples.iter().map(|sample| sample.outcome).collect();
    assert_eq!(statuses, expected.iter().map(|status| Outcome::Status(*status)).collect::<Vec<_>>());
}

fn request_lines(server: &Server) -> Vec<String> {
    server.requests().iter().filter_map(|head| head.lines().next().map(str::to_owned)).collect()
}

/// What a request said in one of its headers.
fn said(head: &str, name: &str) -> Option<String> {
    let prefix = format!("{name}: ");
    head.lines().find_map(|line| {
        line.to_ascii_lowercase().starts_with(&prefix).then(|| line[prefix.len()..].to_owned())
    })
}

#[tokio::test]
async fn each_redirect_is_an_attempt_at_the_same_step_over_the_same_connection() {
    let server =
        Server::start(vec![vec![Read, moved(302, "/b?c#d", ""), Read, moved(301, "e", ""), Read, Write(OK)]])
            .await;
    let mut vu = vu(program_of(vec![get(&server)], following(5)));
    let samples = run(&mut vu, 0).await;
    assert_statuses(&samples, &[302, 301, 200]);
    assert_eq!(request_lines(&server), ["GET / HTTP/1.1", "GET /b?c HTTP/1.1", "GET /e HTTP/1.1"]);
    assert_eq!(server.connections(), 1);
    for pair in samples.windows(2) {
        assert!(pair[0].ended_ns <= pair[1].began_ns && pair[1].step == 0);
    }
    let heads: usize = server.requests().iter().map(String::len).sum();
    assert_eq!(samples.iter().map(|sample| sample.bytes_sent).sum::<u64>(), heads as u64);
}

#[tokio::test]
async fn without_leave_and_past_the_limit_the_answer_stands() {
    let server = Server::start(vec![vec![Read, moved(302, "/1", "")]]).await;
    let never = &mut vu(program(vec![get(&server)]));
    assert_statuses(&run(never, 0).await, &[302]);
    let server = Server::start(vec![vec![
        Read,
        moved(302, "/1", ""),
        Read,
        moved(302, "/2", ""),
        Read,
        moved(302, "/3", ""),
        Read,
        moved(302, "ftp://h/", ""),
    ]])
    .await;
    let twice = &mut vu(program_of(vec![get(&server)], following(2)));
    let samples = run(twice, 0).await;
    assert_statuses(&samples, &[302, 302, 302]);
    assert!(
        samples.iter().all(|sample| sample.success),
        "a redirect that stands is what the plan says of its status"
    );
    assert_statuses(&run(twice, 0).await, &[302]);
}

#[tokio::test]
async fn a_post_becomes_a_get_or_stays_what_it_was() {
    let server = Server::start(vec![vec![
        Read,
        moved(303, "/get", ""),
        Read,
        Write(OK),
        Read,
        moved(307, "/post", ""),
        Read,
        Write(OK),
    ]])
    .await;
    let mut step = post(&server, "body");
    step.request.headers.push(header("Content-Type", "text/plain"));
    let mut vu = vu(program_of(vec![step], following(1)));
    for _ in 0..2 {
        assert_eq!(run(&mut vu, 0).await.len(), 2);
    }
    let heads = server.requests();
    assert!(heads[1].starts_with("GET /get ") && said(&heads[1], "content-type").is_none(), "{}", heads[1]);
    assert_eq!(said(&heads[1], "content-length"), None);
    assert!(heads[3].starts_with("POST /post "), "{}", heads[3]);
    assert_eq!(said(&heads[3], "content-length").as_deref(), Some("4"));
    assert_eq!(said(&heads[3], "content-type").as_deref(), Some("text/plain"));
}

#[tokio::test]
async fn another_server_is_not_told_who_is_asking_and_both_connections_are_kept() {
    let second = Server::start(vec![vec![Read, Write(OK), Read, Write(OK)]]).await;
    let to = || moved(302, &second.url("/there"), "");
    let first = Server::start(vec![vec![Read, to(), Read, to()]]).await;
    let mut step = get(&first);
    step.request.headers = vec![header("Authorization", "secret"), header("X-Plain", "kept")];
    let mut vu = vu(program_of(vec![step], following(1)));
    for _ in 0..2 {
        assert_statuses(&run(&mut vu, 0).await, &[302, 200]);
    }
    assert_eq!(said(&first.last_request(), "authorization").as_deref(), Some("secret"));
    let head = second.last_request();
    assert_eq!((said(&head, "authorization"), said(&head, "x-plain").as_deref()), (None, Some("kept")));
    assert_eq!(format!("http://{}/there", said(&head, "host").unwrap()), second.url("/there"));
    assert_eq!((first.connections(), second.connections()), (1, 1));
}

#[tokio::test]
async fn a_redirect_to_where_the_agent_does_not_go_is_blocked_and_counted() {
    let server = Server::start(vec![vec![
        Read,
        moved(302, "http://169.254.169.254/latest/", ""),
        Read,
        moved(302, "http://one-more.example/", ""),
        Read,
        Write(OK),
    ]])
    .await;
    let core = CoreClient::new(Arc::new(program_of(vec![get(&server)], following(1))));
    let mut vu = VuClient::new(Rc::clone(&core), 0);
    let samples = run(&mut vu, 0).await;
    assert_statuses(&samples[..1], &[302]);
    assert_failed(&samples[1], ErrorKind::Blocked, "target");
    assert!(samples[1].is_own_fault() && samples[1].sent_ns == 0);
    for n in 0.. {
        let url = format!("http://h{n}.example/").parse().unwrap();
        if core.servers.find_or_add(&crate::prepare::Origin::of(&url).unwrap()).is_none() {
            assert_eq!(n, 63, "the guarded address was one already");
            break;
        }
    }
    let samples = run(&mut vu, 0).await;
    assert_failed(&samples[1], ErrorKind::Blocked, "too many hosts");
    assert_statuses(&run(&mut vu, 0).await, &[200]);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_redirect_that_is_cut_off_is_told_and_has_a_time_of_its_own() {
    let hop = || vec![Read, moved(302, "/slow", ""), Read, Hold];
    let server = Server::start(vec![hop(), hop()]).await;
    let mut vu = vu(program_of(vec![get(&server), within(50, get(&server))], following(1)));
    assert!(vu.step(0).await.leads_on);
    tokio::select! {
        _ = vu.follow() => panic!("the server holds the answer back"),
        () = server.reads(2) => {}
    }
    let sample = vu.interrupted().unwrap();
    assert_failed(&sample, ErrorKind::Interrupted, "");
    assert!(sample.is_redirect && sample.bytes_sent > 0);
    assert_eq!(vu.follow().await, None, "it is followed once");
    let samples = run(&mut vu, 1).await;
    assert_failed(&samples[1], ErrorKind::Timeout, "waiting");
    assert!(samples[1].ended_ns - samples[1].began_ns >= 50_000_000);
}

#[tokio::test]
async fn a_vu_keeps_its_cookies_for_its_iteration_and_no_other_has_them() {
    let server = Server::start(vec![
        vec![
            Read,
            with("Set-Cookie: a=1\r\nset-cookie: b=2; path=/other\r\nset-cookie: c=3; secure\r\n"),
            Read,
            with("set-cookie: a=; max-age=0\r\nset-cookie: d=4\r\n"),
            Read,
            with(""),
            Read,
            with(""),
        ],
        vec![Read, with("")],
    ])
    .await;
    let core = CoreClient::new(Arc::new(program_of(vec![get(&server)], with_cookies)));
    let mut vu = VuClient::new(Rc::clone(&core), 0);
    for _ in 0..3 {
        assert_statuses(&run(&mut vu, 0).await, &[200]);
    }
    vu.begin_iteration();
    assert_statuses(&run(&mut vu, 0).await, &[200]);
    assert_statuses(&run(&mut VuClient::new(core, 1), 0).await, &[200]);
    let cookies: Vec<_> = server.requests().iter().map(|head| said(head, "cookie")).collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(cookies, [None, some("a=1"), some("d=4"), None, None]);
}

#[tokio::test]
async fn cookies_of_a_redirect_go_with_it_beside_the_plans_own() {
    let server = Server::start(vec![vec![
        Read,
        moved(302, "/in", "set-cookie: session=s\r\nset-cookie: own=theirs\r\n"),
        Read,
        Write(OK),
    ]])
    .await;
    let mut step = post(&server, "user=x");
    step.request.headers = vec![header("Cookie", "own=1"), header("cookie", "two=2")];
    let program = program_of(vec![step], with_cookies);
    let samples = run(&mut vu(program), 0).await;
    assert_statuses(&samples, &[302, 200]);
    let heads = server.requests();
    assert_eq!(said(&heads[0], "cookie").as_deref(), Some("own=1; two=2"));
    assert_eq!(said(&heads[1], "cookie").as_deref(), Some("own=1; two=2; session=s"));
    assert_eq!(heads[1].to_ascii_lowercase().matches("cookie:").count(), 1);
    assert_eq!(samples[1].bytes_sent, heads[1].len() as u64);
}

#[tokio::test]
async fn where_cookies_are_off_none_is_kept() {
    let server = Server::start(vec![vec![Read, with("set-cookie: a=1\r\n"), Read, with("")]]).await;
    let mut vu = vu(program(vec![get(&server)]));
    for _ in 0..2 {
        assert_statuses(&run(&mut vu, 0).await, &[200]);
    }
    assert_eq!(said(&server.last_request(), "cookie"), None);
}

/// A folder with one file, and a program whose only step sends it.
fn upload(url: &str, bytes: &[u8], adjust: impl FnOnce(&mut Plan)) -> (tempfile::TempDir, Program) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("body.bin"), bytes).unwrap();
    let mut step = request("PUT", url, vec![], None);
    step.request.body = Some(Body::File("body.bin".to_owned()));
    let mut plan = plan(None, vec![step]);
    adjust(&mut plan);
    let settings = PrepareSettings {
        listens_on_loopback: true,
        files: Some(folder.path().to_owned()),
        ..PrepareSettings::default()
    };
    let program = compile(&shard(1), &plan, &settings).unwrap();
    (folder, program)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

/// Takes so many requests over one connection, answers each after the last byte of its body, and gives the bodies.
async fn bodies(listener: TcpListener, count: usize) -> Vec<Vec<u8>> {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bodies = Vec::new();
    for _ in 0..count {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let length = said(&head, "content-length").unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(OK).await.unwrap();
        bodies.push(body);
    }
    bodies
}

async fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn a_file_arrives_whole_whether_it_is_small_or_sent_in_pieces() {
    for length in [0, 1, 256 * 1024, 256 * 1024 + 1, 5_000_001] {
        let (listener, address) = listening().await;
        let (_folder, program) = upload(&format!("http://{address}/"), &pattern(length), |_| {});
        let head = program.steps[0].request.http1_head_bytes;
        let rendered = program.steps[0].request.http1.len();
        assert_eq!(rendered, if length <= 256 * 1024 { head + length } else { head });
        let mut vu = vu(program);
        let client = async {
            for _ in 0..2 {
                let sample = vu.step(0).await;
                assert_status(&sample, 200);
                assert_eq!(sample.bytes_sent, (head + length) as u64);
            }
        };
        let (bodies, ()) = tokio::join!(bodies(listener, 2), client);
        assert!(bodies.iter().all(|body| *body == pattern(length)), "{length} bytes");
    }
}

#[tokio::test]
async fn a_file_goes_over_tls_and_again_with_a_redirect() {
    let tls = Tls::new("localhost");
    let server = Server::start_tls(vec![vec![Read, moved(307, "/again", ""), Read, Write(OK)]], &tls).await;
    let length = 3_000_000;
    let url = server.url("/").replace("127.0.0.1", "localhost");
    let (_folder, program) = upload(&url, &pattern(length), |plan| {
        plan.http.tls.ca_pem = Some(tls.ca_pem.clone());
        plan.http.redirects = 1;
        plan.http.version = volcanion_common::plan::HttpVersion::Http1;
    });
    let samples = run(&mut vu(program), 0).await;
    assert_statuses(&samples, &[307, 200]);
    let heads = server.requests();
    assert!(heads[1].starts_with("PUT /again "));
    for (sample, head) in samples.iter().zip(&heads) {
        assert_eq!(sample.bytes_sent, (head.len() + length) as u64);
    }
}

#[tokio::test]
async fn a_file_that_became_shorter_is_our_own_fault_and_costs_the_connection() {
    let server = Server::start(vec![vec![Read, Write(OK)], vec![Read, Write(OK)]]).await;
    let (folder, program) = upload(&server.url("/"), &pattern(1_000_000), |_| {});
    let path = folder.path().join("body.bin");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(600_000).unwrap();
    let mut vu = vu(program);
    let sample = vu.step(0).await;
    assert_failed(&sample, ErrorKind::Body, "file changed");
    assert!(sample.is_own_fault() && sample.bytes_sent >= 600_000);
    fs::write(&path, pattern(1_000_000)).unwrap();
    assert_status(&vu.step(0).await, 200);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn an_answer_in_the_middle_of_a_file_is_taken() {
    let refusal = b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n".as_slice();
    let server =
        Server::start(vec![vec![ReadHead, Write(refusal), Hold], vec![ReadHead, Write(refusal), Hold]]).await;
    let length = 32 * 1024 * 1024;
    let (_folder, program) = upload(&server.url("/"), &pattern(length), |_| {});
    let mut vu = vu(program);
    for _ in 0..2 {
        let sample = vu.step(0).await;
        assert_status(&sample, 413);
        assert!(sample.bytes_sent < length as u64);
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn while_a_large_file_is_sent_other_vus_have_their_turn() {
    let (listener, address) = listening().await;
    let quick = Server::start(vec![[Read, Write(OK)].repeat(50)]).await;
    let length = 64 * 1024 * 1024;
    let (_folder, program) = upload(&format!("http://{address}/"), &pattern(length), |plan| {
        let another = super::plan(None, vec![get(&quick)]);
        plan.scenarios[0].steps.extend(another.scenarios[0].steps.clone());
    });
    let core = CoreClient::new(Arc::new(program));
    let (mut sender, mut other) = (VuClient::new(Rc::clone(&core), 0), VuClient::new(core, 1));
    let is_sent = std::cell::Cell::new(false);
    let sending = async {
        let sample = sender.step(0).await;
        is_sent.set(true);
        sample
    };
    let turns = async {
        let mut turns = 0;
        while !is_sent.get() && turns < 50 {
            assert_status(&other.step(1).await, 200);
            turns += 1;
        }
        turns
    };
    let (sample, turns, bodies) = tokio::join!(sending, turns, bodies(listener, 1));
    assert_status(&sample, 200);
    assert_eq!(bodies[0].len(), length);
    assert!(turns >= 5, "only {turns} other requests while 64 MiB went out");
}

#[tokio::test]
async fn compressed_bodies_are_counted_as_they_come() {
    // What a decoder would refuse is none of our business: nothing asks for the content.
    for coding in ["gzip", "br", "zstd", "deflate, gzip"] {
        let body = vec![0xfe; 3_000];
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\n");
        let plain = [format!("{head}content-length: 3000\r\n\r\n").as_bytes(), &body].concat();
        let chunked = [
            format!("{head}transfer-encoding: chunked\r\n\r\nbb8\r\n").as_bytes(),
            &body,
            b"\r\n0\r\n\r\n".as_slice(),
        ]
        .concat();
        let answers = [plain, chunked];
        let script = answers.iter().flat_map(|bytes| [Read, Write(bytes.clone().leak())]).collect();
        let server = Server::start(vec![script]).await;
        let mut vu = vu(program(vec![get(&server)]));
        for bytes in &answers {
            let sample = vu.step(0).await;
            assert_status(&sample, 200);
            assert_eq!(sample.bytes_received, bytes.len() as u64);
        }
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn each_request_of_a_trace_says_its_own_place_unless_the_plan_does() {
    let server =
        Server::start(vec![vec![Read, moved(302, "/b", ""), Read, Write(OK), Read, Write(OK)]]).await;
    let mut own = get(&server);
    own.request.headers = vec![header("TraceParent", "of the plan")];
    let mut plan = plan(None, vec![get(&server), own]);
    plan.http.redirects = 1;
    let parent = TraceContext { is_sampled: false, ..TraceContext::of_run(RunId::new()) };
    let shard = Shard { trace: Some(ShardTrace { parent, sample: Share::ALL }), ..shard(1) };
    let settings = PrepareSettings { listens_on_loopback: true, ..PrepareSettings::default() };
    let mut vu = vu(compile(&shard, &plan, &settings).unwrap());
    let samples = [run(&mut vu, 0).await, run(&mut vu, 1).await].concat();
    assert_statuses(&samples, &[302, 200, 200]);
    let heads = server.requests();
    let bytes: usize = heads.iter().map(String::len).sum();
    assert_eq!(samples.iter().map(|sample| sample.bytes_sent).sum::<u64>(), bytes as u64);
    let places: Vec<String> = heads.iter().filter_map(|head| said(head, "traceparent")).collect();
    assert_eq!((places.len(), places[2].as_str()), (3, "of the plan"), "{heads:?}");
    let places: Vec<TraceContext> = places[..2].iter().map(|place| place.parse().unwrap()).collect();
    assert!(places.iter().all(|place| place.trace == parent.trace && place.is_sampled));
    assert!(places[0].span != places[1].span && places[0].span != parent.span);
}
