//! What one request costs the sending half of a core, closed loop, nothing recorded: the floor under the whole engine. And, with
//! `bare`, what it costs a loop of nothing but tokio's socket and httparse: the floor under that.
//!
//! `cargo bench -p volcanion-agent --bench request -- http://127.0.0.1:8099/ [connections] [seconds] [bare]`, against a server of your
//! own on another core (`taskset`). Prints requests, requests a second, and the CPU time of this process for each; to be read as a
//! ratio to another client on the same server. Without a URL it does nothing.
#![allow(clippy::print_stdout)] // a program that prints its result

mod program;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use volcanion_agent::prepare::Program;
use volcanion_agent::send::clock::now_ns;
use volcanion_agent::send::{CoreClient, VuClient};

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let Some(url) = words.next() else {
        println!("no URL given: nothing to measure");
        return;
    };
    let connections: u64 = words.next().map_or(64, |word| word.parse().expect("connections: a number"));
    let seconds: u64 = words.next().map_or(5, |word| word.parse().expect("seconds: a number"));
    let is_bare = words.next().is_some_and(|word| word == "bare");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .expect("a runtime");
    let began_ns = now_ns();
    let count = Count { until_ns: began_ns + seconds * 1_000_000_000, ..Count::default() };
    runtime.block_on(async {
        let mut vus = JoinSet::new();
        if is_bare {
            let url = url::Url::parse(&url).expect("the URL is one");
            (0..connections).for_each(|_| drop(vus.spawn_local(bare(url.clone(), count.clone()))));
        } else {
            let core = CoreClient::new(program(&url));
            (0..connections)
                .for_each(|number| drop(vus.spawn_local(vu(core.clone(), number, count.clone()))));
        }
        while let Some(ended) = vus.join_next().await {
            ended.expect("no connection breaks");
        }
    });
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu_us = cpu.tv_sec as f64 * 1e6 + cpu.tv_nsec as f64 / 1e3;
    let elapsed_s = (now_ns() - began_ns) as f64 / 1e9;
    let (done, failed) = (count.done.get(), count.failed.get());
    let each_us = cpu_us / done as f64;
    println!("{done} requests, {failed} failed, {:.0}/s, {each_us:.2} us CPU each", done as f64 / elapsed_s);
}

#[derive(Clone, Default)]
struct Count {
    done: Rc<Cell<u64>>,
    failed: Rc<Cell<u64>>,
    until_ns: u64,
}

impl Count {
    /// Counts one that has ended; says whether there is time for another.
    fn ended(&self, success: bool, at_ns: u64) -> bool {
        self.done.set(self.done.get() + 1);
        self.failed.set(self.failed.get() + u64::from(!success));
        at_ns < self.until_ns
    }
}

fn program(url: &str) -> Arc<Program> {
    let scenario = "{ executor: constant-vus, vus: 1, duration: 1s, steps: [{ name: get, get: URL }] }";
    program::of(&format!(
        "name: bench\nscenarios:\n  default: {}\n",
        scenario.replace("URL", &format!("\"{url}\""))
    ))
}

async fn vu(core: Rc<CoreClient>, number: u64, count: Count) {
    let mut vu = VuClient::new(core, number);
    loop {
        let sample = vu.step(0).await;
        if !count.ended(sample.success, sample.ended_ns) {
            break;
        }
    }
}

/// One write, one read, a head that is parsed; right only for answers that come in one piece. No time limit, no phases, no record.
async fn bare(url: url::Url, count: Count) {
    let address = url.socket_addrs(|| None).expect("the URL has an address")[0];
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.set_nodelay(true).expect("a socket of TCP");
    let request = format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", url.path(), url.authority());
    let mut buffer = vec![0; 16 * 1024];
    loop {
        stream.write_all(request.as_bytes()).await.expect("the server goes on");
        let length = stream.read(&mut buffer).await.expect("the server goes on");
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&buffer[..length]).expect("the answer is HTTP");
        let success = parsed.is_complete() && response.code == Some(200);
        if !count.ended(success, now_ns()) {
            break;
        }
    }
}
