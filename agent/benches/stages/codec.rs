//! Requests to bytes, and bytes to answers, without a socket.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use volcanion_agent::send::Kept;
use volcanion_agent::send::http1::response::Response;

/// What nginx says to a small request.
const SMALL: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
Content-Type: text/plain\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok";

/// Once a run: a plan is read, checked, cut and rendered to the bytes of its ten requests.
#[divan::bench]
fn plan_of_ten_steps_to_requests(bencher: Bencher<'_, '_>) {
    let plan = super::ten_steps();
    bencher.bench_local(|| super::program::of(black_box(&plan)));
}

#[divan::bench]
fn small_answer(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| fed(SMALL, SMALL.len()));
}

/// The worst that a server can do short of being wrong: each byte by itself.
#[divan::bench]
fn small_answer_byte_by_byte(bencher: Bencher<'_, '_>) {
    bencher.counter(BytesCount::of_slice(SMALL)).bench_local(|| fed(SMALL, 1));
}

/// 1 MiB in chunks of this size, in reads of 64 KiB.
#[divan::bench(args = [16, 1_024, 16_384])]
fn chunked_answer(bencher: Bencher<'_, '_>, chunk: usize) {
    let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..(1 << 20) / chunk {
        answer.extend_from_slice(format!("{chunk:x}\r\n").as_bytes());
        answer.resize(answer.len() + chunk, b'x');
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"0\r\n\r\n");
    bencher.counter(BytesCount::of_slice(&answer)).bench_local(|| fed(&answer, 64 * 1024));
}

fn fed(answer: &[u8], piece: usize) -> u16 {
    let (mut response, mut kept) = (Response::new(false), Kept::default());
    for bytes in black_box(answer).chunks(piece) {
        black_box(response.feed(bytes, &mut kept)).expect("the answer is one");
    }
    response.status()
}
