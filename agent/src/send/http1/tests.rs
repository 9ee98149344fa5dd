//! Every framing that we could think of, whole and cut anywhere.

use volcanion_common::series::ErrorKind;

use super::head::{self, Framing, HEAD_BYTES_MAX, Head};
use super::response::{Progress, Response};
use crate::send::kept;
use crate::send::sample::Failure;

/// How the reading of an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Whole; the connection may be used again.
    Kept(u16),
    /// Whole; the connection may not.
    Spent(u16),
    /// Everything was fed, and more is awaited.
    Awaiting,
    Failed(ErrorKind, &'static str),
}

use Verdict::{Awaiting, Failed, Kept, Spent};

impl From<Failure> for Verdict {
    fn from(failure: Failure) -> Self {
        Failed(failure.kind, failure.detail)
    }
}

pub(super) fn whole(response: &Response) -> Verdict {
    if response.keeps_alive() { Kept(response.status()) } else { Spent(response.status()) }
}

/// Feeds pieces until the answer is whole or wrong.
pub(super) fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, is_head: bool) -> (Response, Verdict) {
    let mut response = Response::new(is_head);
    for piece in pieces {
        match response.feed(piece, &mut kept::Kept::default()) {
            Ok(Progress::More) => {}
            Ok(Progress::Whole) => {
                let verdict = whole(&response);
                return (response, verdict);
            }
            Err(failure) => return (response, failure.into()),
        }
    }
    (response, Awaiting)
}

/// The verdict while the connection stays open: in one piece and byte by byte.
fn check(bytes: impl AsRef<[u8]>, expected: Verdict) {
    let bytes = bytes.as_ref();
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    assert_eq!(read([bytes], false).1, expected, "{shown:?}");
    // Byte by byte what follows the answer is not seen any more, so that the connection looks fit.
    let (_, bytewise) = read(bytes.chunks(1), false);
    let agrees = bytewise == expected || matches!((bytewise, expected), (Kept(a), Spent(b)) if a == b);
    assert!(agrees, "byte by byte: {bytewise:?} for {expected:?}: {shown:?}");
}

/// The verdict once the server has closed.
fn check_closed(bytes: &str, expected: Verdict) {
    let (mut response, verdict) = read([bytes.as_bytes()], false);
    assert_eq!(verdict, Awaiting, "{bytes:?}");
    let closed = response.end().map_or_else(Verdict::from, |()| whole(&response));
    assert_eq!(closed, expected, "{bytes:?}");
}

const HEAD: Verdict = Failed(ErrorKind::Protocol, "head");
const STATUS: Verdict = Failed(ErrorKind::Protocol, "status");
const FRAMING: Verdict = Failed(ErrorKind::Protocol, "framing");
const TOO_LARGE: Verdict = Failed(ErrorKind::Protocol, "too large");
const CHUNK: Verdict = Failed(ErrorKind::Body, "chunk");
pub(super) const TRUNCATED: Verdict = Failed(ErrorKind::Body, "truncated");
const IN_THE_ANSWER: Verdict = Failed(ErrorKind::Reset, "in the answer");

#[test]
fn lengths_are_followed_and_contradictions_refused() {
    let with = |lines: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}");
    check(with("content-length: 2\r\n", "ok"), Kept(200));
    check(with("Content-Length:2\r\n", "ok"), Kept(200));
    check(with("content-length: 0\r\n", ""), Kept(200));
    check(with("content-length: 3\r\n", "ok"), Awaiting);
    check(with("content-length: 2\r\n", "okHTTP/1.1 200"), Spent(200));
    check(with("content-length: 2\r\ncontent-length: 2\r\n", "ok"), Kept(200));
    check(with("content-length: 2, 2\r\n", "ok"), Kept(200));
    check(with("content-length: 02\r\n", "ok"), Kept(200));
    for wrong in [
        "-1",
        "+2",
        "2x",
        "",
        "0x2",
        "2,3",
        "2;3",
        "99999999999999999999",
        "9223372036854775808",
        "1e3",
        "2 2",
    ] {
        check(with(&format!("content-length: {wrong}\r\n"), "ok"), FRAMING);
    }
    check(with("content-length: 2\r\ncontent-length: 3\r\n", "ok"), FRAMING);
    check(with("content-length: 3\r\ncontent-length: x\r\ncontent-length: x\r\n", "ok"), FRAMING);
    check(with("content-length: 9223372036854775807\r\n", "ok"), Awaiting);
}

#[test]
fn chunks_are_followed_with_extensions_and_trailers() {
    let with = |body: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}");
    check(with("2\r\nok\r\n0\r\n\r\n"), Kept(200));
    check(with("0\r\n\r\n"), Kept(200));
    check(with("2\nok\n0\n\n"), Kept(200));
    check(with("000002\r\nok\r\n00\r\n\r\n"), Kept(200));
    check(with("a;name=value;other=\"x y\"\r\n0123456789\r\n0;last\r\nx-a: b\r\nx-c: d\r\n\r\n"), Kept(200));
    check(with("A \r\n0123456789\r\n0 \r\n\r\n"), Kept(200));
    check(with("2\r\nok\r\n0\r\n\r\nmore"), Spent(200));
    check(with("2\r\nok\r\n0\r\n"), Awaiting);
    check(with("2\r\nok\r\n0\r\nx-a: b\r\n"), Awaiting);
    for wrong in [
        "\r\n",
        "x\r\n",
        "-2\r\nok",
        "2\r\nokay\r\n",
        "2\rok",
        "2\r\nok\rx",
        "ffffffffffffffffff\r\n",
        ";x\r\n",
        "0\r\n\rx",
    ] {
        check(with(wrong), CHUNK);
    }
    check(with(&format!("2;{}\r\nok\r\n0\r\n\r\n", "e".repeat(20_000))), CHUNK);
    check(with(&format!("0\r\n{}\r\n", "x: y\r\n".repeat(20_000))), CHUNK);
    check(with(&format!("2{}\r\nok\r\n0\r\n\r\n", ";e".repeat(4_000))), Kept(200));
}

#[test]
fn both_framings_together_are_read_by_chunks_and_cost_the_connection() {
    let both =
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    check(both, Spent(200));
    check(both.replace("content-length: 5", "content-length: -5"), Spent(200));
    check(
        both.replace("HTTP/1.1", "HTTP/1.0").replace("content-length: 5", "connection: keep-alive"),
        Spent(200),
    );
}

#[test]
fn codings_that_do_not_end_in_chunks_end_with_the_connection() {
    let with = |lines: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}");
    check(with("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"), Kept(200));
    check(with("transfer-encoding: gzip\r\ntransfer-encoding: Chunked\r\n", "0\r\n\r\n"), Kept(200));
    check(with("transfer-encoding: identity\r\ncontent-length: 2\r\n", "ok"), Kept(200));
    check(with("transfer-encoding: chunked, gzip\r\n", "0\r\n\r\n"), FRAMING);
    check(with("transfer-encoding: chunked, chunked\r\n", "0\r\n\r\n"), FRAMING);
    check_closed(&with("transfer-encoding: gzip\r\ncontent-length: 2\r\n", "whatever"), Spent(200));
}

#[test]
fn some_answers_have_no_body_whatever_they_say() {
    for status in [204, 304] {
        check(format!("HTTP/1.1 {status} X\r\ncontent-length: 5\r\n\r\n"), Kept(status));
        check(format!("HTTP/1.1 {status} X\r\ntransfer-encoding: chunked\r\n\r\n"), Kept(status));
    }
    let (_, verdict) = read([b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".as_slice()], true);
    assert_eq!(verdict, Kept(200));
    let (_, verdict) = read([b"HTTP/1.1 200 OK\r\n\r\n".as_slice()], true);
    assert_eq!(verdict, Kept(200));
}

#[test]
fn interim_answers_are_skipped_but_not_for_ever() {
    let last = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    check(format!("HTTP/1.1 100 Continue\r\n\r\n{last}"), Kept(200));
    check(format!("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 P\r\n\r\n{last}"), Kept(200));
    check(format!("{}{last}", "HTTP/1.1 100 C\r\n\r\n".repeat(32)), Kept(200));
    check(format!("{}{last}", "HTTP/1.1 100 C\r\n\r\n".repeat(33)), TOO_LARGE);
    check("HTTP/1.1 100 Continue\r\n\r\n", Awaiting);
    check_closed("HTTP/1.1 100 Continue\r\n\r\n", IN_THE_ANSWER);
    check("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", Spent(101));
}

#[test]
fn the_version_and_the_connection_header_decide_on_reuse() {
    let with =
        |version: &str, lines: &str| format!("HTTP/{version} 200 OK\r\n{lines}content-length: 2\r\n\r\nok");
    check(with("1.1", ""), Kept(200));
    check(with("1.1", "connection: close\r\n"), Spent(200));
    check(with("1.1", "Connection: Upgrade, Close\r\n"), Spent(200));
    check(with("1.0", ""), Spent(200));
    check(with("1.0", "connection: keep-alive\r\n"), Kept(200));
    check(with("1.0", "connection: keep-alive, close\r\n"), Spent(200));
    check_closed("HTTP/1.1 200 OK\r\n\r\nuntil the end", Spent(200));
    check_closed("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\nuntil the end", Spent(200));
}

#[test]
fn what_ends_too_early_is_told_by_where() {
    check_closed("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", TRUNCATED);
    check_closed("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", TRUNCATED);
    check_closed("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nok", TRUNCATED);
    check_closed("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", TRUNCATED);
    check_closed("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", TRUNCATED);
    check_closed("HTTP/1.1 200 O", IN_THE_ANSWER);
    check_closed("HTTP/1.1 200 OK\r\ncontent-le", IN_THE_ANSWER);
}

#[test]
fn heads_that_are_none_are_refused_at_once() {
    for wrong in [
        "garbage",
        "\0\0\0\0",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: \0\r\n\r\n",
    ] {
        check(wrong, HEAD);
    }
    for wrong in [
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 -20 OK\r\n\r\n",
        "HTTP/1.1 000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 200 OK\rx\r\n",
    ] {
        check(wrong, STATUS);
    }
    check("HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n", Kept(999));
    check("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", Kept(200));
    check("\r\n\r\nHTTP/1.1 200 OK\nContent-Length : 2\nx-folded: a\n b\n\nok", Kept(200));
}

#[test]
fn heads_past_the_limits_are_refused_with_bounded_memory() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "a".repeat(HEAD_BYTES_MAX));
    check(&long, TOO_LARGE);
    let fits =
        format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "a".repeat(HEAD_BYTES_MAX - 100));
    check(&fits, Kept(200));
    let lines = |count| format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "a: b\r\n".repeat(count));
    check(lines(127), Kept(200));
    check(lines(128), TOO_LARGE);
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(3_000_000));
    let mut response = Response::new(false);
    let verdict =
        huge.as_bytes().chunks(1460).find_map(|piece| response.feed(piece, &mut kept::Kept::default()).err());
    assert_eq!(verdict.map(Verdict::from), Some(TOO_LARGE));
    assert!(response.held_bytes() <= HEAD_BYTES_MAX);
}

#[test]
fn a_head_says_its_length_and_framing() {
    let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nabc";
    let expected =
        Head { length: bytes.len() - 3, status: 200, framing: Framing::Length(7), keeps_alive: true };
    assert_eq!(head::read(bytes, false, &mut kept::Kept::default()), Ok(Some(expected)));
}
