//! Any bytes, cut anywhere: one verdict, no panic, bounded memory and work; and what is well formed is read as a simple reader of whole
//! bytes reads it.
//!
//! Each property has 10,000 cases, with `VOLCANION_LONG_TESTS=1` (`make fuzz`) a million.

use proptest::prelude::*;
use proptest::test_runner::Config;
use volcanion_common::series::ErrorKind;

use super::body::Chunks;
use super::head::HEAD_BYTES_MAX;
use super::response::{Progress, Response};
use super::tests::{TRUNCATED, Verdict, read, whole};
use crate::send::kept::Kept as Lines;
use Verdict::{Awaiting, Failed, Kept, Spent};

/// More often than this no head is read, whatever its bytes: 256 times at line breaks, then at its end and at doubled lengths.
const READS_MAX: u32 = 256 + 1 + 17;

fn cases() -> Config {
    let is_long = std::env::var_os("VOLCANION_LONG_TESTS").is_some();
    Config { cases: if is_long { 1_000_000 } else { 10_000 }, ..Config::default() }
}

/// Pieces of answers, right and wrong, that chance puts together.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 404 No\r\n",
        "HTTP/1.1 100 C\r\n\r\n",
        "HTTP/1.1 204 N\r\n",
        "HTTP/1.1 302 F\r\nlocation: /x\r\n",
        "HTTP/1.1 ",
        "\r\n",
        "\n",
        "\r",
        ": ",
        " ",
        "content-length: 5\r\n",
        "content-length: 0\r\n",
        "content-length: -1\r\n",
        "content-length: 18446744073709551615\r\n",
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding: gzip\r\n",
        "connection: close\r\n",
        "connection: keep-alive\r\n",
        "set-cookie: a=b\r\n",
        "x-a: b\r\n",
        "\r\n\r\n",
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "0\r\n",
        "a;x=y\r\n",
        "hello",
        "ffff\r\n",
        "ffffffffffffffff\r\n",
    ])
    .prop_map(|text| text.as_bytes().to_vec());
    prop_oneof![
        16 => known,
        2 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (1..300_usize).prop_map(|n| vec![b'a'; n]),
    ]
}

/// What is done to bytes that were right.
#[derive(Clone, Debug)]
enum Mutation {
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize, usize),
    Repeat(usize, usize),
    End(usize),
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let count = bytes.len();
        let span = |at: usize, length: usize| {
            let from = at % count;
            from..count.min(from + length)
        };
        match *self {
            _ if count == 0 => {}
            Self::Set(at, byte) => bytes[at % count] = byte,
            Self::Insert(at, byte) => bytes.insert(at % count, byte),
            Self::Remove(at, length) => drop(bytes.drain(span(at, length))),
            Self::Repeat(at, length) => {
                let piece = bytes[span(at, length)].to_vec();
                bytes.splice(at % count..at % count, piece);
            }
            Self::End(at) => bytes.truncate(at % count),
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let telling = prop::sample::select(b"\r\n:; ,0159afH/.-\0\xff".to_vec());
    let byte = prop_oneof![telling, any::<u8>()];
    prop_oneof![
        (any::<usize>(), byte.clone()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (any::<usize>(), byte).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        (any::<usize>(), 1..20_usize).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (any::<usize>(), 1..20_usize).prop_map(|(at, length)| Mutation::Repeat(at, length)),
        any::<usize>().prop_map(Mutation::End),
    ]
}

/// An answer that is well formed, but may contradict itself and end early or late.
#[derive(Clone, Debug)]
struct Answer {
    interim: Vec<u16>,
    minor: u8,
    status: u16,
    lines: Vec<&'static str>,
    body: Vec<u8>,
}

impl Answer {
    fn bytes(&self) -> Vec<u8> {
        let interim = self.interim.iter().map(|status| format!("HTTP/1.1 {status} X\r\nlink: </a>\r\n\r\n"));
        let head = format!("HTTP/1.{} {} X\r\n{}\r\n", self.minor, self.status, self.lines.concat());
        [interim.collect::<String>().as_bytes(), head.as_bytes(), &self.body].concat()
    }

    /// What a reader says that has all bytes in front of it and knows that the connection ends after them (RFC 9112 6.3).
    fn read_simply(&self, is_head: bool) -> Verdict {
        const FRAMING: Verdict = Failed(ErrorKind::Protocol, "framing");
        if self.interim.contains(&101) {
            // After it nothing is an answer any more.
            return Spent(101);
        }
        let values = |wanted: &str| {
            let lines = self.lines.iter().filter_map(|line| line.trim_end().split_once(": "));
            lines
                .filter(|(name, _)| *name == wanted)
                .flat_map(|(_, value)| value.split(", "))
                .collect::<Vec<_>>()
        };
        let (codings, lengths, options) =
            (values("transfer-encoding"), values("content-length"), values("connection"));
        if codings.iter().rev().skip(1).any(|coding| *coding == "chunked") {
            return FRAMING;
        }
        let stays = match self.minor {
            1 => !options.contains(&"close"),
            _ => options.contains(&"keep-alive") && !options.contains(&"close"),
        };
        let stays = stays && (codings.is_empty() || lengths.is_empty() && self.minor == 1);
        let ended = |status: u16, stays: bool| if stays { Kept(status) } else { Spent(status) };
        if is_head || [204, 304].contains(&self.status) {
            return ended(self.status, stays && self.body.is_empty());
        }
        if codings.last() == Some(&"chunked") {
            return match chunks_simply(&self.body) {
                Err(()) => Failed(ErrorKind::Body, "chunk"),
                Ok(None) => TRUNCATED,
                Ok(Some(taken)) => ended(self.status, stays && taken == self.body.len()),
            };
        }
        if !codings.is_empty() || lengths.is_empty() {
            return Spent(self.status);
        }
        let parsed: Vec<_> = lengths.iter().map(|length| length.parse::<u64>().ok()).collect();
        match parsed[0] {
            Some(length) if parsed.iter().all(|other| *other == Some(length)) => {
                match (self.body.len() as u64).cmp(&length) {
                    std::cmp::Ordering::Less => TRUNCATED,
                    order => ended(self.status, stays && order.is_eq()),
                }
            }
            _ => FRAMING,
        }
    }
}

/// How many bytes of these are chunks to their end; `None`: their end is missing; an error: they are none.
fn chunks_simply(bytes: &[u8]) -> Result<Option<usize>, ()> {
    let mut at = 0;
    // A line up to its break, and where the next one begins.
    let line = |from: usize| {
        let end = bytes[from..].iter().position(|byte| *byte == b'\n')? + from;
        let text = &bytes[from..end];
        Some((text.strip_suffix(b"\r").unwrap_or(text), end + 1))
    };
    loop {
        let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let text = std::str::from_utf8(&bytes[at..at + digits]).map_err(drop)?;
        let size = if digits == 0 { None } else { u64::from_str_radix(text, 16).ok() };
        let Some(size) = size else {
            return if digits == 0 && at == bytes.len() { Ok(None) } else { Err(()) };
        };
        match &bytes[at + digits..] {
            [] | [b'\r'] => return Ok(None),
            [b';' | b' ' | b'\t', rest @ ..] => {
                // A CR may stand in an extension only before the LF.
                let end = rest.iter().position(|byte| *byte == b'\r' || *byte == b'\n');
                match end.map(|end| &rest[end..]) {
                    None | Some([b'\r']) => return Ok(None),
                    Some([b'\n', ..] | [b'\r', b'\n', ..]) => {}
                    Some(_) => return Err(()),
                }
            }
            [b'\n', ..] | [b'\r', b'\n', ..] => {}
            _ => return Err(()),
        }
        let Some((_, data)) = line(at) else { return Ok(None) };
        if size == 0 {
            at = data;
            break;
        }
        let Some(end) = usize::try_from(size).ok().and_then(|size| data.checked_add(size)) else {
            return Ok(None);
        };
        match bytes.get(end..).unwrap_or_default() {
            [] | [b'\r'] => return Ok(None),
            [b'\n', ..] => at = end + 1,
            [b'\r', b'\n', ..] => at = end + 2,
            _ => return Err(()),
        }
    }
    loop {
        match &bytes[at..] {
            [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => return Ok(Some(at + 2)),
            [b'\r', ..] => return Err(()),
            _ => {}
        }
        let Some((text, next)) = line(at) else { return Ok(None) };
        if text.is_empty() {
            return Ok(Some(next));
        }
        at = next;
    }
}

fn chunked_body() -> impl Strategy<Value = Vec<u8>> {
    let chunk = (1..40_usize, prop::sample::select(vec!["\r\n", "\n", ";e=1\r\n", " \r\n"])).prop_map(
        |(size, line_end)| {
            let mut bytes = format!("{size:x}{line_end}").into_bytes();
            bytes.extend((0..size).map(|n| b"\r\n0;"[n % 4]));
            bytes.extend(b"\r\n");
            bytes
        },
    );
    let end = prop::sample::select(vec![
        "0\r\n\r\n",
        "0\n\n",
        "00;x\r\na: b\r\n\r\n",
        "0\r\n",
        "",
        "0\r\n\r\nmore",
    ]);
    (prop::collection::vec(chunk, 0..5), end)
        .prop_map(|(chunks, end)| [chunks.concat(), end.as_bytes().to_vec()].concat())
}

fn answer() -> impl Strategy<Value = Answer> {
    let line = prop::sample::select(vec![
        "content-length: 5\r\n",
        "content-length: 5, 5\r\n",
        "content-length: 0\r\n",
        "content-length: 17\r\n",
        "content-length: x\r\n",
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "connection: close\r\n",
        "connection: keep-alive\r\n",
        "connection: keep-alive, close\r\n",
        "location: /x\r\n",
        "x-a: b\r\n",
    ]);
    let body = prop_oneof![
        chunked_body(),
        Just(b"hello".to_vec()),
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 0..30),
    ];
    let any_framing = (prop::collection::vec(line.clone(), 0..4), body);
    let fitting = prop_oneof![
        chunked_body().prop_map(|body| ("transfer-encoding: chunked\r\n", body)),
        Just(("content-length: 5\r\n", b"hello".to_vec())),
        Just(("content-length: 0\r\n", Vec::new())),
    ];
    let harmless = prop::sample::select(vec!["location: /x\r\n", "x-a: b\r\n", "connection: keep-alive\r\n"]);
    let fitting =
        (fitting, prop::collection::vec(harmless, 0..3)).prop_map(|((framing, body), mut lines)| {
            lines.push(framing);
            (lines, body)
        });
    let status = prop::sample::select(vec![200, 204, 301, 304, 404, 500, 999]);
    let interim = prop::collection::vec(prop::sample::select(vec![100, 102, 103, 103, 101]), 0..3);
    let parts = (prop_oneof![4 => Just(Vec::new()), 1 => interim], 0..2_u8, status);
    (parts, prop_oneof![any_framing, fitting]).prop_map(|((interim, minor, status), (lines, body))| Answer {
        interim,
        minor,
        status,
        lines,
        body,
    })
}

fn any_answer() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop::collection::vec(fragment(), 0..16).prop_map(|parts| parts.concat());
    let plausible = prop::collection::vec(fragment(), 0..12).prop_map(|rest| {
        let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
        bytes.extend(rest.concat());
        bytes
    });
    let mutated = (answer(), prop::collection::vec(mutation(), 0..3)).prop_map(|(answer, mutations)| {
        let mut bytes = answer.bytes();
        mutations.iter().for_each(|mutation| mutation.apply(&mut bytes));
        bytes
    });
    prop_oneof![1 => parts, 1 => plausible, 3 => mutated, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut bounds: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    bounds.extend([0, bytes.len()]);
    bounds.sort_unstable();
    bounds.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).filter(|piece| !piece.is_empty()).collect()
}

/// Reads to the first verdict, closing the connection after the last piece.
fn verdict_of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, is_head: bool) -> Verdict {
    let (mut response, verdict) = read(pieces, is_head);
    assert!(response.held_bytes() <= HEAD_BYTES_MAX);
    assert!(response.reads() <= READS_MAX, "a head was read {} times", response.reads());
    match verdict {
        Awaiting => response.end().map_or_else(Verdict::from, |()| whole(&response)),
        verdict => verdict,
    }
}

/// Bytes after the answer are seen only where they come with its end.
fn is_same(a: Verdict, b: Verdict) -> bool {
    a == b || matches!((a, b), (Kept(a), Spent(b)) | (Spent(a), Kept(b)) if a == b)
}

/// How far chunks go in these pieces, or that they are none.
fn chunks_in(pieces: &[&[u8]]) -> Result<Option<usize>, ()> {
    let (mut chunks, mut taken) = (Chunks::default(), 0);
    for piece in pieces {
        let count = chunks.feed(piece).map_err(drop)?;
        assert!(count == piece.len() || chunks.is_done());
        taken += count;
        if chunks.is_done() {
            return Ok(Some(taken));
        }
    }
    Ok(None)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_bytes_cut_anywhere_give_one_verdict(
        bytes in any_answer(),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
        is_head in any::<bool>(),
    ) {
        let in_one = verdict_of([bytes.as_slice()].into_iter().filter(|bytes| !bytes.is_empty()), is_head);
        let in_pieces = verdict_of(pieces(&bytes, &cuts), is_head);
        let bytewise = verdict_of(bytes.chunks(1), is_head);
        prop_assert!(is_same(in_one, in_pieces), "{in_one:?} {in_pieces:?}");
        prop_assert!(is_same(in_one, bytewise), "{in_one:?} {bytewise:?}");
    }

    #[test]
    fn well_formed_answers_are_read_as_a_reader_of_whole_bytes_reads_them(
        answer in answer(),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
        is_head in any::<bool>(),
    ) {
        let bytes = answer.bytes();
        let expected = answer.read_simply(is_head);
        let in_one = verdict_of([bytes.as_slice()], is_head);
        prop_assert_eq!(in_one, expected);
        let in_pieces = verdict_of(pieces(&bytes, &cuts), is_head);
        prop_assert!(is_same(in_pieces, expected), "{in_pieces:?} {expected:?}");
    }

    #[test]
    fn what_is_wanted_of_a_head_is_found_wherever_it_is_cut(
        answer in answer(),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let bytes = answer.bytes();
        let kept = |pieces: Vec<&[u8]>| {
            let (mut response, mut lines) = (Response::new(false), Lines::new(true, true));
            for piece in pieces {
                if response.feed(piece, &mut lines) != Ok(Progress::More) {
                    break;
                }
            }
            lines.location().map(<[u8]>::to_vec)
        };
        let in_one = kept(vec![&bytes]);
        prop_assert_eq!(&in_one, &kept(pieces(&bytes, &cuts)));
        let has_switched = answer.interim.contains(&101);
        let is_framed = answer.read_simply(true) != Failed(ErrorKind::Protocol, "framing")
            && answer.read_simply(false) != Failed(ErrorKind::Protocol, "framing");
        if is_framed {
            let expected = !has_switched && answer.lines.contains(&"location: /x\r\n");
            prop_assert_eq!(in_one.is_some(), expected);
        }
    }

    #[test]
    fn chunks_are_read_as_a_reader_of_whole_bytes_reads_them(
        mut bytes in chunked_body(),
        mutations in prop::collection::vec(mutation(), 0..6),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        mutations.iter().for_each(|mutation| mutation.apply(&mut bytes));
        let expected = chunks_simply(&bytes);
        prop_assert_eq!(chunks_in(&[bytes.as_slice()]), expected);
        prop_assert_eq!(chunks_in(&pieces(&bytes, &cuts)), expected);
        prop_assert_eq!(chunks_in(&bytes.chunks(1).collect::<Vec<_>>()), expected);
    }
}
