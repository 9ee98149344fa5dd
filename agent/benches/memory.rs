//! What a VU costs in memory, and what making very many of them at once costs the others.
//!
//! `cargo bench -p volcanion-agent --bench memory -- [vus]` (100000 where not given). On one core, with a target of its own:
//! - VUs that have not sent anything yet, and think;
//! - VUs that have sent over shared connections, and think;
//! - a thousand VUs that have a connection each.
//!
//! Each line gives resident memory in all and for each VU, and how late the iterations of a small open loop beside them were started at
//! worst, in the second in which the VUs were made and after.
#![allow(clippy::print_stdout)] // a program that prints its result

mod program;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use volcanion_agent::engine::{EngineEvent, EngineSettings, prepare};
use volcanion_agent::record::process::resident_bytes;
use volcanion_agent::send::clock::now_ns;
use volcanion_common::units::Micros;

/// The word that makes this program its own target, so that its memory is that of the load alone.
const SERVE: &str = "serve";

fn main() {
    if std::env::args().any(|word| word == SERVE) {
        return serve();
    }
    let vus = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(100_000);
    let (mut child, target) = target();
    // So that what only the first run needs is not counted for its VUs.
    let _ = measure(target, 1, "", "[{get: /}, {think: 60s}]");
    println!("VUs                                     count  resident  a VU    start late at worst");
    let shared = "http: {connections: 32},";
    print("thinking, nothing sent yet", vus, measure(target, vus, shared, "[{think: 60s}, {get: /}]"));
    print(
        "thinking, sent on shared connections",
        vus,
        measure(target, vus, shared, "[{get: /}, {think: 60s}]"),
    );
    let few = vus.min(1_000);
    print("thinking, a connection each", few, measure(target, few, "", "[{get: /}, {think: 60s}]"));
    // It has nothing to lose.
    let _ = child.kill().and_then(|()| child.wait());
}

struct Measured {
    resident: u64,
    added: u64,
    late_first_ms: f64,
    late_after_ms: f64,
}

fn print(what: &str, vus: u64, measured: Measured) {
    let Measured { resident, added, late_first_ms, late_after_ms } = measured;
    println!(
        "{what:<38} {vus:>6} {:>5.1} MiB {:>5} B  {late_first_ms:.1} ms, then {late_after_ms:.1} ms",
        resident as f64 / 1_048_576.0,
        added / vus,
    );
}

/// Runs for five seconds and looks at the memory in the last of them.
fn measure(target: SocketAddr, vus: u64, http: &str, steps: &str) -> Measured {
    let plan = format!(
        "{{name: memory, target: 'http://{target}', {http} scenarios: {{many: {{executor: constant-vus, vus: {vus}, duration: 5s, \
         graceful_stop: 0s, steps: {steps}}}, few: {{executor: constant-arrival-rate, rate: 200/s, duration: 5s, max_vus: 50, \
         steps: [{{name: few, get: /}}]}}}}}}"
    );
    let program = program::of(&plan);
    let before = resident_bytes();
    let (_handle, mut events) =
        prepare(program, EngineSettings::new(1)).expect("one core can be had").start(now_ns() + 20_000_000);
    let (mut resident, mut late_ms) = (0, Vec::new());
    while let Some(event) = events.blocking_recv() {
        match event {
            EngineEvent::Delta(delta) => {
                let lag =
                    delta.scenarios.get(&1).map_or(Micros::ZERO, |few| Micros(few.schedule_lag.max_us()));
                late_ms.push(lag.0 as f64 / 1e3);
                if late_ms.len() == 4 {
                    resident = resident_bytes();
                }
            }
            EngineEvent::Failed(reason) => panic!("{reason}"),
            EngineEvent::Started { .. } | EngineEvent::Moved { .. } | EngineEvent::Finished => {}
        }
    }
    let late_after_ms = late_ms.get(1..4).unwrap_or_default().iter().copied().fold(0.0, f64::max);
    Measured { resident, added: resident.saturating_sub(before), late_first_ms: late_ms[0], late_after_ms }
}

/// This program again, as a target.
fn target() -> (Child, SocketAddr) {
    let program = std::env::current_exe().expect("this program has a path");
    let mut child =
        Command::new(program).arg(SERVE).stdout(Stdio::piped()).spawn().expect("a process can be had");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
    (child, line.trim().parse().expect("an address"))
}

/// Answers whatever comes, a thread a connection.
fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    println!("{}", listener.local_addr().expect("it is bound"));
    for stream in listener.incoming().flatten() {
        let answering = std::thread::Builder::new().stack_size(64 * 1024).spawn(move || answer(stream));
        drop(answering.expect("a thread can be had"));
    }
}

fn answer(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(1..) = stream.read(&mut buffer) {
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
            return;
        }
    }
}
