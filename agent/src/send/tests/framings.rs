//! Every odd framing over real sockets: in one piece, byte by byte, and cut at its end in each way. Each is one attempt with the right
//! outcome and every byte counted, is over in good time, and leaves the VU fit for the next request.

use super::*;

/// What becomes of the connection after the answer's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It stays open, and silent.
    Stays,
    Closes,
    Resets,
}
use End::{Closes, Resets, Stays};

#[derive(Clone, Copy, Debug)]
enum Expected {
    Answer(u16),
    Error(ErrorKind, &'static str),
}
use Expected::{Answer, Error};

/// For what is to run into its limit.
const SHORT_MS: u64 = 400;

/// For what must not, however busy the machine is.
const LONG_MS: u64 = 30_000;

async fn check(bytes: impl AsRef<[u8]>, end: End, expected: Expected) {
    check_with("GET", bytes, end, expected).await;
}

async fn check_with(method: &str, bytes: impl AsRef<[u8]>, end: End, expected: Expected) {
    let bytes: &'static [u8] = bytes.as_ref().to_vec().leak();
    // Byte by byte a long answer would take long and show nothing more.
    let pieces = if bytes.len() <= 600 { vec![bytes.len().max(1), 1] } else { vec![bytes.len()] };
    for piece in pieces {
        let mut script = vec![Read];
        script.extend(bytes.chunks(piece).map(Write));
        script.extend(match end {
            Stays => Some(Hold),
            Closes => Some(Close),
            Resets => Some(Reset),
        });
        let server = Server::start(vec![script, vec![Read, Write(OK)]]).await;
        let is_timeout = matches!(expected, Error(ErrorKind::Timeout, _));
        let limit_ms = if is_timeout { SHORT_MS } else { LONG_MS };
        let odd = within(limit_ms, request(method, &server.url("/"), vec![], None));
        let program = program(vec![odd, get(&server)]);
        let sent = program.steps[0].request.http1.len() as u64;
        let mut vu = vu(program);
        let sample = vu.step(0).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]);
        match expected {
            Answer(status) => {
                assert_eq!(sample.outcome, Outcome::Status(status), "{shown:?} {end:?}: {sample:?}");
                assert_eq!(sample.bytes_received, bytes.len() as u64, "{shown:?} {end:?}");
            }
            Error(kind, detail) => {
                let outcome = (sample.outcome, sample.detail);
                assert_eq!(
                    outcome,
                    (Outcome::Error(kind), detail),
                    "{shown:?} {end:?} by {piece}: {sample:?}"
                );
                assert!(sample.bytes_received <= bytes.len() as u64, "{shown:?} {end:?}");
            }
        }
        assert_eq!(sample.bytes_sent, sent, "{shown:?} {end:?}");
        // The next request has its own connection, or this one where that was left whole.
        let next = vu.step(1).await;
        let is_over = end == Stays && matches!(next.outcome, Outcome::Error(_)) && server.connections() == 1;
        assert!(next.outcome == Outcome::Status(200) || is_over, "{shown:?} {end:?}: then {next:?}");
    }
}

const FRAMING: Expected = Error(ErrorKind::Protocol, "framing");
const TRUNCATED: Expected = Error(ErrorKind::Body, "truncated");
const CHUNK: Expected = Error(ErrorKind::Body, "chunk");
const IN_THE_ANSWER: Expected = Error(ErrorKind::Reset, "in the answer");
const RECEIVING: Expected = Error(ErrorKind::Timeout, "receiving");

fn ok(lines: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}")
}

#[tokio::test]
async fn lengths() {
    for wrong in ["-1", "x", "", "2,3", "0x10", "99999999999999999999", "9223372036854775808"] {
        check(ok(&format!("content-length: {wrong}\r\n"), "ok"), Stays, FRAMING).await;
    }
    check(ok("content-length: 2\r\ncontent-length: 3\r\n", "ok"), Stays, FRAMING).await;
    check(ok("connection: close\r\ncontent-length: 2\r\ncontent-length: 2\r\n", "ok"), Stays, Answer(200))
        .await;
    check(ok("content-length: 9223372036854775807\r\n", "ok"), Closes, TRUNCATED).await;
    check(ok("content-length: 9223372036854775807\r\n", "ok"), Stays, RECEIVING).await;
    check(ok("content-length: 9223372036854775807\r\n", "ok"), Resets, IN_THE_ANSWER).await;
}

#[tokio::test]
async fn chunks_and_both_framings_together() {
    let both = ok("content-length: 9\r\ntransfer-encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n");
    check(&both, Stays, Answer(200)).await;
    check(both.replace(": 9", ": -9"), Closes, Answer(200)).await;
    let chunked = |body: &str| ok("connection: close\r\ntransfer-encoding: chunked\r\n", body);
    check(chunked("2;x=y\r\nok\r\n0\r\na: b\r\n\r\n"), Stays, Answer(200)).await;
    for wrong in ["x", "-2\r\nok", "2\r\nokay\r\n", "ffffffffffffffffff\r\n"] {
        check(chunked(wrong), Stays, CHUNK).await;
    }
    for cut in ["", "2", "2\r\no", "2\r\nok\r\n", "2\r\nok\r\n0\r\n"] {
        check(chunked(cut), Closes, TRUNCATED).await;
        check(chunked(cut), Resets, IN_THE_ANSWER).await;
    }
    check(chunked("2\r\nok\r\n0\r\n"), Stays, RECEIVING).await;
    check(chunked("ffffffffffffffff\r\nok"), Closes, TRUNCATED).await;
    check(ok("transfer-encoding: chunked, gzip\r\n", "0\r\n\r\n"), Stays, FRAMING).await;
}

#[tokio::test]
async fn interim_answers_and_those_without_a_body() {
    let last = ok("connection: close\r\ncontent-length: 2\r\n", "ok");
    check(
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: </a>\r\n\r\n{last}"),
        Stays,
        Answer(200),
    )
    .await;
    check("HTTP/1.1 100 Continue\r\n\r\n", Closes, IN_THE_ANSWER).await;
    check("HTTP/1.1 100 Continue\r\n\r\n", Stays, RECEIVING).await;
    check("HTTP/1.1 100 C\r\n\r\n".repeat(33), Stays, Error(ErrorKind::Protocol, "too large")).await;
    check("HTTP/1.1 204 No\r\nconnection: close\r\ncontent-length: 5\r\n\r\n", Stays, Answer(204)).await;
    check_with("HEAD", ok("connection: close\r\ncontent-length: 5\r\n", ""), Stays, Answer(200)).await;
    check("HTTP/1.1 101 Switching\r\n\r\n", Stays, Answer(101)).await;
}

#[tokio::test]
async fn bodies_that_end_with_the_connection() {
    check(ok("", "until the end"), Closes, Answer(200)).await;
    check(ok("", "until the end"), Resets, IN_THE_ANSWER).await;
    check(ok("", "until the end"), Stays, RECEIVING).await;
    check("HTTP/1.0 200 OK\r\n\r\nold", Closes, Answer(200)).await;
    check(ok("content-length: 5\r\n", "ok"), Closes, TRUNCATED).await;
}

#[tokio::test]
async fn what_is_no_answer() {
    let head = Error(ErrorKind::Protocol, "head");
    let too_large = Error(ErrorKind::Protocol, "too large");
    for garbage in ["garbage\r\n\r\n", "\0\0\0\0", "SSH-2.0-x\r\n", "HTTP/2 200 OK\r\n\r\n", "<html>"] {
        check(garbage, Stays, head).await;
    }
    check("HTTP/1.1 2000 OK\r\n\r\n", Stays, Error(ErrorKind::Protocol, "status")).await;
    check(format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(3_000_000)), Stays, too_large).await;
    check(format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(500_000)), Stays, too_large).await;
    check("\r\n".repeat(1_500_000), Stays, too_large).await;
    check("", Closes, Error(ErrorKind::Reset, "before the answer")).await;
    check("", Resets, Error(ErrorKind::Reset, "before the answer")).await;
    check("", Stays, Error(ErrorKind::Timeout, "waiting")).await;
    for cut in ["H", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\ncontent-le"] {
        check(cut, Closes, IN_THE_ANSWER).await;
        check(cut, Resets, IN_THE_ANSWER).await;
        check(cut, Stays, RECEIVING).await;
    }
}

/// The other direction: the server goes while the request is still on its way.
#[tokio::test]
async fn a_request_that_is_cut_is_a_typed_error_or_the_answer_that_came_before() {
    let refusal = b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".as_slice();
    let body = "b".repeat(16 * 1024 * 1024);
    for end in [Close, Reset] {
        let scripts = vec![vec![ReadHead, end], vec![ReadHead, Write(refusal), end], vec![Read, Write(OK)]];
        let server = Server::start(scripts).await;
        let mut vu = vu(program(vec![post(&server, &body)]));
        let cut = vu.step(0).await;
        assert_failed(&cut, ErrorKind::Reset, "before the answer");
        assert!(cut.bytes_sent > 0 && cut.bytes_sent < body.len() as u64);
        // The reset may overtake the answer and take it away: then nobody can know of it.
        let early = vu.step(0).await;
        match early.outcome {
            Outcome::Status(413) => {}
            _ => assert_failed(&early, ErrorKind::Reset, early.detail),
        }
        assert_status(&vu.step(0).await, 200);
        assert_eq!(server.connections(), 3);
    }
}
