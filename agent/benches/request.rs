//! What one request costs the sending half of a core, closed loop, nothing recorded: the floor under the whole engine.
//!
//! `cargo bench -p volcanion-agent --bench request -- http://127.0.0.1:8099/ [connections] [seconds]`, against a server of your own on
//! another core (`taskset`). Prints requests, requests a second, and the CPU time of this process for each; to be read as a ratio
//! to another client on the same server. Without a URL it does nothing.
#![allow(clippy::print_stdout)] // a program that prints its result

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use volcanion_agent::prepare::{PrepareSettings, compile};
use volcanion_agent::send::clock::now_ns;
use volcanion_agent::send::{CoreClient, VuClient};
use volcanion_common::ids::{AgentId, Epoch, Incarnation, RunId};
use volcanion_common::plan::template::Template;
use volcanion_common::plan::{Executor, Plan, Request, RequestStep, Scenario, Step};
use volcanion_common::shard::{ScenarioShare, Shard};
use volcanion_common::units::Micros;

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let Some(url) = words.next() else {
        println!("no URL given: nothing to measure");
        return;
    };
    let connections: u64 = words.next().map_or(64, |word| word.parse().expect("connections: a number"));
    let seconds: u64 = words.next().map_or(5, |word| word.parse().expect("seconds: a number"));
    let settings = PrepareSettings { listens_on_loopback: true, allow: None };
    let plan = plan(&url);
    let program = Arc::new(compile(&shard(), &plan, &settings).expect("the URL is one"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .expect("a runtime");
    let done = Rc::new(Cell::new(0_u64));
    let failed = Rc::new(Cell::new(0_u64));
    let began_ns = now_ns();
    let until_ns = began_ns + seconds * 1_000_000_000;
    runtime.block_on(async {
        let core = CoreClient::new(program);
        let mut vus = tokio::task::JoinSet::new();
        for number in 0..connections {
            let (core, done, failed) = (core.clone(), done.clone(), failed.clone());
            vus.spawn_local(async move {
                let mut vu = VuClient::new(core, number);
                loop {
                    let sample = vu.step(0).await;
                    done.set(done.get() + 1);
                    failed.set(failed.get() + u64::from(!sample.success));
                    if sample.ended_ns >= until_ns {
                        break;
                    }
                }
            });
        }
        while vus.join_next().await.is_some() {}
    });
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu_us = cpu.tv_sec as f64 * 1e6 + cpu.tv_nsec as f64 / 1e3;
    let elapsed_s = (now_ns() - began_ns) as f64 / 1e9;
    let count = done.get() as f64;
    println!(
        "{} requests, {} failed, {:.0}/s, {:.2} us CPU each",
        done.get(),
        failed.get(),
        count / elapsed_s,
        cpu_us / count
    );
}

fn plan(url: &str) -> Plan {
    let request =
        Request { method: "GET".to_owned(), url: Template::literal(url), headers: vec![], body: None };
    let step = RequestStep { name: "get".to_owned(), request, timeout: None };
    Plan {
        name: "bench".to_owned(),
        target: None,
        timeout: Micros::from_secs(30),
        headers: vec![],
        http: Default::default(),
        variables: Default::default(),
        agents: Default::default(),
        load: Default::default(),
        elastic: false,
        on_agent_loss: Default::default(),
        success_status: vec![(200, 399)],
        interval: Micros::from_secs(1),
        scenarios: vec![Scenario {
            name: "default".to_owned(),
            executor: Executor::ConstantVus { vus: 1, duration: Micros::from_secs(1) },
            start_time: Micros::ZERO,
            graceful_stop: Micros::ZERO,
            steps: vec![Step::Request(Box::new(step))],
        }],
        thresholds: vec![],
    }
}

fn shard() -> Shard {
    Shard {
        run: RunId::new(),
        epoch: Epoch(1),
        agent: AgentId::from("bench"),
        incarnation: Incarnation(1),
        expires_unix_ms: 0,
        seed: 0,
        plan: serde_json::Value::Null,
        scenarios: vec![ScenarioShare { lanes: 1, owned: vec![0] }],
    }
}
