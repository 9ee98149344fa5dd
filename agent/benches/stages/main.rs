//! What the pure stages of an agent cost: plan to program, schedule, HTTP/1.1 codec, recorder, fold.
//!
//! `cargo bench -p volcanion-agent --bench stages [FILTER]`. Each line is one operation; where one operation is a batch, its counter
//! says of what, and the time for one is in the throughput.

#[path = "../program/mod.rs"]
mod program;

mod codec;
mod record;
mod schedule;

fn main() {
    divan::main();
}

/// A browser of a shop: ten steps, each a series of its own.
fn ten_steps() -> String {
    let steps: String = (0..10)
        .map(|n| {
            format!(
                "      - {{ name: step-{n}, post: /orders/{n}, json: {{ item: {n}, note: a short one }} }}\n"
            )
        })
        .collect();
    format!(
        "name: bench\ntarget: http://127.0.0.1:9\nscenarios:\n  browse:\n    executor: constant-vus\n    vus: 1\n    duration: 1s\n    steps:\n{steps}"
    )
}
