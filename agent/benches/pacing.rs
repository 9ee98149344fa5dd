//! How exactly iterations start: actual minus intended start at a fixed rate, on one core.
//!
//! `cargo bench -p volcanion-agent --bench pacing -- [rate] [seconds] [rounds]` (20000, 2, 3 where not given). The load runs on the first
//! allowed CPU, the target (a loop that answers and notes when it was asked) on the last one; with one CPU the figures say little.
//! In each round all pacers take turns, so that they meet the same machine; a row gives each figure's median over the rounds:
//! - `sleep_until`: the control, a pacer of the runtime's own timer that sends everything due at each wake;
//! - the engine with its usual quantum, with others, and polling busily.
//!
//! Columns: median, 90th and 99th percentile of the delay in microseconds; its median as a ratio to the control's; CPU time of the load's
//! thread for each request (a busily polling one uses it all); the median and the 99th percentile of the gaps between arrivals
//! at the target; and what was started and dropped of what was asked for.
#![allow(clippy::print_stdout)] // a program that prints its result

mod program;

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};
use volcanion_agent::engine::{EngineEvent, EngineSettings, prepare};
use volcanion_agent::record::process::thread_cpu_us;
use volcanion_agent::send::clock::now_ns;
use volcanion_agent::send::{CoreClient, VuClient};
use volcanion_common::delta::Delta;
use volcanion_common::series::Distribution;
use volcanion_common::units::Micros;

/// VUs: many more than are ever busy with a target that answers at once.
const VUS: u64 = 200;

#[derive(Clone, Copy)]
enum Pacer {
    SleepUntil,
    Quantum(Micros),
    BusyPoll,
}

const PACERS: [(&str, Pacer); 6] = [
    ("sleep_until (control)", Pacer::SleepUntil),
    ("timerfd, quantum 50 us", Pacer::Quantum(Micros(50))),
    ("timerfd, quantum 0", Pacer::Quantum(Micros(0))),
    ("timerfd, quantum 100 us", Pacer::Quantum(Micros(100))),
    ("timerfd, quantum 200 us", Pacer::Quantum(Micros(200))),
    ("busy poll", Pacer::BusyPoll),
];

/// What one pacer did in one round.
struct Measured {
    delay: Distribution,
    started: u64,
    dropped: u64,
    cpu_us: u64,
    gaps_ns: Vec<u64>,
}

fn main() {
    let words: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let word = |place: usize, default: u64| words.get(place).copied().unwrap_or(default);
    let (rate, seconds, rounds) = (word(0, 20_000), word(1, 2), word(2, 3));
    let (load_cpu, target_cpu) = cpus();
    let target = Target::start(target_cpu, rate * seconds);
    pin(load_cpu);
    let mut results: Vec<Vec<Measured>> = PACERS.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for ((_, pacer), results) in PACERS.iter().zip(&mut results) {
            target.forget();
            let mut measured = match pacer {
                Pacer::SleepUntil => control(target.address, rate, seconds),
                Pacer::Quantum(quantum) => engine(
                    target.address,
                    rate,
                    seconds,
                    EngineSettings { quantum: *quantum, ..EngineSettings::new(1) },
                ),
                Pacer::BusyPoll => engine(
                    target.address,
                    rate,
                    seconds,
                    EngineSettings { busy_poll: true, ..EngineSettings::new(1) },
                ),
            };
            measured.gaps_ns = target.gaps_ns();
            results.push(measured);
        }
    }
    print(rate, seconds, &results);
}

fn print(rate: u64, seconds: u64, results: &[Vec<Measured>]) {
    println!("{rate}/s for {seconds} s on one core, medians of {} rounds, microseconds", results[0].len());
    println!(
        "{:<24} {:>7} {:>7} {:>7} {:>8} {:>8} {:>9} {:>9}  started + dropped = asked",
        "pacer", "p50", "p90", "p99", "p50/ctl", "CPU/req", "gap p50", "gap p99"
    );
    let control = median(results[0].iter().map(|measured| measured.delay.percentile_us(50.0) as f64));
    for ((name, _), measured) in PACERS.iter().zip(results) {
        let figure = |of: &dyn Fn(&Measured) -> f64| median(measured.iter().map(of));
        let delay = |percent| figure(&|measured| measured.delay.percentile_us(percent) as f64);
        let gap = |percent: usize| {
            figure(&|measured| {
                measured
                    .gaps_ns
                    .get(measured.gaps_ns.len() * percent / 100)
                    .map_or(0.0, |ns| *ns as f64 / 1e3)
            })
        };
        let is_exact = measured.iter().all(|measured| measured.started + measured.dropped == rate * seconds);
        let dropped: u64 = measured.iter().map(|measured| measured.dropped).sum();
        println!(
            "{:<24} {:>7.0} {:>7.0} {:>7.0} {:>8.3} {:>8.2} {:>9.1} {:>9.1}  {} ({dropped} dropped)",
            name,
            delay(50.0),
            delay(90.0),
            delay(99.0),
            delay(50.0) / control,
            figure(&|measured| measured.cpu_us as f64 / measured.started.max(1) as f64),
            gap(50),
            gap(99),
            if is_exact { "yes" } else { "NO" },
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn plan(target: SocketAddr, rate: u64, seconds: u64) -> String {
    format!(
        "{{name: pacing, target: 'http://{target}', scenarios: {{s: {{executor: constant-arrival-rate, rate: {rate}/s, \
         duration: {seconds}s, pre_allocated_vus: {VUS}, max_vus: {VUS}, steps: [{{get: /}}]}}}}}}"
    )
}

/// The engine itself.
fn engine(target: SocketAddr, rate: u64, seconds: u64, settings: EngineSettings) -> Measured {
    let prepared = prepare(program::of(&plan(target, rate, seconds)), settings).expect("one core can be had");
    let (_handle, mut events) = prepared.start(now_ns() + 20_000_000);
    let mut total = Delta::default();
    while let Some(event) = events.blocking_recv() {
        match event {
            EngineEvent::Delta(delta) => total.add(&delta),
            EngineEvent::Failed(reason) => panic!("{reason}"),
            EngineEvent::Started { .. } | EngineEvent::Moved { .. } | EngineEvent::Finished => {}
        }
    }
    let scenario = &total.scenarios[&0];
    Measured {
        delay: scenario.schedule_lag.clone(),
        started: scenario.started,
        dropped: scenario.dropped,
        cpu_us: total.process.cpu_us,
        gaps_ns: Vec::new(),
    }
}

/// The usual way: one task that sleeps until the next slot and sends whatever is due; over the same client.
fn control(target: SocketAddr, rate: u64, seconds: u64) -> Measured {
    let program = program::of(&plan(target, rate, seconds));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .expect("a runtime");
    let delay = Rc::new(RefCell::new(Distribution::default()));
    let (started, dropped, in_flight) = (Rc::new(Cell::new(0)), Cell::new(0), Rc::new(Cell::new(0_u64)));
    let cpu_us = thread_cpu_us();
    runtime.block_on(async {
        let core = CoreClient::new(program);
        let free: Vec<VuClient> = (0..VUS).map(|number| VuClient::new(core.clone(), number)).collect();
        let free = Rc::new(RefCell::new(free));
        let (origin, origin_ns) = (Instant::now(), now_ns());
        for slot in 0..rate * seconds {
            let intended_ns = slot * 1_000_000_000 / rate;
            if now_ns() < origin_ns + intended_ns {
                sleep_until(origin + Duration::from_nanos(intended_ns)).await;
            }
            let Some(mut vu) = free.borrow_mut().pop() else {
                dropped.set(dropped.get() + 1);
                continue;
            };
            let (free, delay, started, in_flight) =
                (free.clone(), delay.clone(), started.clone(), in_flight.clone());
            in_flight.set(in_flight.get() + 1);
            drop(spawn_local(async move {
                let lag_ns = now_ns().saturating_sub(origin_ns + intended_ns);
                delay.borrow_mut().record(Micros(lag_ns / 1_000));
                started.set(started.get() + 1);
                vu.step(0).await;
                free.borrow_mut().push(vu);
                in_flight.set(in_flight.get() - 1);
            }));
        }
        while in_flight.get() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let delay = delay.borrow().clone();
    Measured {
        delay,
        started: started.get(),
        dropped: dropped.get(),
        cpu_us: thread_cpu_us() - cpu_us,
        gaps_ns: Vec::new(),
    }
}

/// Answers whatever comes, and notes when it came.
struct Target {
    address: SocketAddr,
    arrivals: Arc<Mutex<Vec<u64>>>,
}

impl Target {
    fn start(cpu: Option<usize>, expected: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let arrivals = Arc::new(Mutex::new(Vec::with_capacity(expected as usize)));
        let noted = arrivals.clone();
        // It ends with the process.
        drop(std::thread::spawn(move || {
            pin(cpu);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(Default::default())
                .expect("a runtime");
            listener.set_nonblocking(true).expect("a socket can be set so");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    drop(spawn_local(answer(stream, noted.clone())));
                }
            });
        }));
        Self { address, arrivals }
    }

    fn forget(&self) {
        self.arrivals.lock().expect("no holder panics").clear();
    }

    /// Ascending.
    fn gaps_ns(&self) -> Vec<u64> {
        let arrivals = self.arrivals.lock().expect("no holder panics");
        let mut gaps: Vec<u64> = arrivals.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
        gaps.sort_unstable();
        gaps
    }
}

async fn answer(stream: tokio::net::TcpStream, noted: Arc<Mutex<Vec<u64>>>) {
    let mut buffer = [0; 4096];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {
                noted.lock().expect("no holder panics").push(now_ns());
                if stream.try_write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// The first and the last CPU that this process may use; none where there is only one.
fn cpus() -> (Option<usize>, Option<usize>) {
    let Ok(allowed) = sched_getaffinity(None) else { return (None, None) };
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    match cpus[..] {
        [first, .., last] => (Some(first), Some(last)),
        _ => (None, None),
    }
}

/// Keeps this thread, and those that it starts, on a CPU.
fn pin(cpu: Option<usize>) {
    if let Some(cpu) = cpu {
        let mut own = CpuSet::new();
        own.set(cpu);
        sched_setaffinity(None, &own).expect("an allowed CPU can be chosen");
    }
}
