//! Valid plans of every shape, for property tests.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::any_http::any_http;
use crate::plan::executor::{Arrival, Control, Executor, OpenLoop, Stage, WhenBusy};
use crate::plan::template::{Piece, SecretHole, Template};
use crate::plan::{
    AgentChoice, Body, Header, Load, OnAgentLoss, Plan, Request, RequestStep, Scenario, Step, Threshold,
};
use crate::units::{Micros, Rate, Share};

/// Any plan that keeps the rules.
pub(super) fn any_plan() -> impl Strategy<Value = Plan> {
    let first = (
        "[a-zA-Zäß€ ]{0,20}[a-z]",
        option::of(Just("https://shop.example.com/base/".to_owned())),
        time(1_000, 3_600_000_000),
        vec(header(), 0..4),
        any_http(),
        btree_map("[a-z_][a-z0-9_]{0,5}", "[ -~äß\"{}]{0,12}", 0..4),
        agents(),
        any::<(bool, bool)>(),
        prop_oneof![Just(OnAgentLoss::Redistribute), Just(OnAgentLoss::Continue), Just(OnAgentLoss::Abort)],
    );
    let second = (
        vec((100_u16..400, 400_u16..1000), 1..3),
        time(100_000, 60_000_000),
        vec((executor(), time(0, DAY_US), time(0, DAY_US), vec(step(), 0..3), step_request()), 1..4),
        vec(threshold(), 0..4),
        option::of((0..=1_000_000_u32).prop_map(share)),
    );
    (first, second).prop_map(|(first, (success_status, interval, scenarios, thresholds, trace_sample))| {
        let (name, target, timeout, headers, http, mut variables, agents, (is_total, elastic), on_agent_loss) = first;
        variables.insert("x".to_owned(), "a-b".to_owned());
        let mut number = 0;
        let is_whole = target.is_none();
        let scenarios = scenarios.into_iter().enumerate().map(|(index, (executor, start_time, graceful_stop, mut steps, last))| {
            steps.push(Step::Request(Box::new(last)));
            for step in &mut steps {
                if let Step::Request(step) = step {
                    step.name = format!("{}{number}", step.name);
                    number += 1;
                    if is_whole {
                        let path = std::mem::replace(&mut step.request.url, Template::literal("http://h:1"));
                        step.request.url.append(path);
                    }
                }
            }
            Scenario { name: format!("s {index}"), executor, start_time, graceful_stop, steps }
        });
        let load = if is_total { Load::Total } else { Load::PerAgent };
        let mut plan = Plan {
            name, target, timeout, headers, http, variables, agents, load, elastic, on_agent_loss, success_status,
            interval, trace_sample, thresholds, scenarios: Vec::new(),
        };
        plan.scenarios = scenarios.collect();
        for threshold in &mut plan.thresholds {
            threshold.window = threshold.window.map(|window| window.max(interval));
        }
        plan
    })
}

fn share(millionths: u32) -> Share {
    format!("0.{millionths:06}").parse().unwrap_or(Share::ALL)
}

const DAY_US: u64 = 86_400_000_000;

fn time(least: u64, most: u64) -> impl Strategy<Value = Micros> {
    (least..=most).prop_map(Micros)
}

fn template(literal: &'static str) -> impl Strategy<Value = Template> {
    vec((literal, 0..4), 0..4).prop_map(|pieces| {
        let mut template = Template::default();
        for (text, hole) in pieces {
            template.push_literal(&text);
            match hole {
                0 => {}
                1 => template.pieces.push(Piece::Variable("x".to_owned())),
                kind => {
                    let hole = SecretHole { name: "x.key".to_owned(), in_json: kind == 3 };
                    template.pieces.push(Piece::Secret(hole));
                }
            }
        }
        template
    })
}

fn header() -> impl Strategy<Value = Header> {
    ("x-[a-zA-Z0-9-]{0,8}", template("[ -z|~]{0,8}")).prop_map(|(name, value)| Header { name, value })
}

fn agents() -> impl Strategy<Value = AgentChoice> {
    (option::of(1_u32..100), btree_map("[a-z]{1,5}", "[a-z.]{0,5}", 0..3), any::<bool>()).prop_map(
        |(count, labels, exclusive): (_, BTreeMap<_, _>, _)| AgentChoice { count, labels, exclusive },
    )
}

fn rate() -> impl Strategy<Value = Rate> {
    prop_oneof![
        (1..=10_000_u64).prop_map(Rate::per_second),
        (1..=Rate::MAX.micro_per_hour()).prop_map(Rate::from_micro_per_hour)
    ]
}

fn open() -> impl Strategy<Value = OpenLoop> {
    (1..=10_000_000_u64, 0..=10_000_000_u64, any::<(bool, bool)>()).prop_map(
        |(max_vus, pre, (uniform, drop))| OpenLoop {
            arrival: if uniform { Arrival::Uniform } else { Arrival::Poisson },
            pre_allocated_vus: pre.min(max_vus),
            max_vus,
            when_busy: if drop { WhenBusy::Drop } else { WhenBusy::Queue },
        },
    )
}

fn executor() -> impl Strategy<Value = Executor> {
    let vus = || 1..=10_000_000_u64;
    let length = || time(1_000, DAY_US);
    let vu_stages = vec((length(), vus()), 1..5)
        .prop_map(|stages| stages.into_iter().map(|(duration, target)| Stage { duration, target }).collect());
    let rate_stages = vec((length(), rate()), 1..5)
        .prop_map(|stages| stages.into_iter().map(|(duration, target)| Stage { duration, target }).collect());
    prop_oneof![
        (vus(), length()).prop_map(|(vus, duration)| Executor::ConstantVus { vus, duration }),
        (0..=1_000_u64, vu_stages, time(0, DAY_US)).prop_map(|(start_vus, stages, graceful_ramp_down)| {
            Executor::RampingVus { start_vus, stages, graceful_ramp_down }
        }),
        (0..=1_000_u64, 1_000..=10_000_000_u64, length()).prop_map(|(vus, max_vus, duration)| {
            Executor::ExternallyControlled { control: Control::Vus { vus, max_vus }, duration }
        }),
        (prop_oneof![Just(Rate::ZERO), rate()], length(), open()).prop_map(|(rate, duration, open)| {
            Executor::ExternallyControlled { control: Control::Rate { rate, open }, duration }
        }),
        (vus(), 1..1_000_u64, length()).prop_map(|(vus, iterations, max_duration)| {
            Executor::PerVuIterations { vus, iterations, max_duration }
        }),
        (vus(), 0..1_000_u64, length()).prop_map(|(vus, more, max_duration)| {
            Executor::SharedIterations { vus, iterations: vus + more, max_duration }
        }),
        (rate(), length(), open()).prop_map(|(rate, duration, open)| Executor::ConstantArrivalRate {
            rate,
            duration,
            open
        }),
        (rate(), rate_stages, open()).prop_map(|(start_rate, stages, open)| Executor::RampingArrivalRate {
            start_rate,
            stages,
            open
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        step_request().prop_map(|step| Step::Request(Box::new(step))),
        (time(0, DAY_US), time(0, DAY_US)).prop_map(|(a, b)| Step::Think { least: a.min(b), most: a.max(b) }),
    ]
}

fn step_request() -> impl Strategy<Value = RequestStep> {
    let url = template("[a-z0-9/?=&]{0,6}").prop_map(|rest| {
        let mut url = Template::literal("/p");
        url.append(rest);
        url
    });
    let body = option::of(prop_oneof![
        template("[ -~äß\n\"{}]{0,20}").prop_map(Body::Text),
        "(\\./)?[a-zä ]{0,3}[a-z](/[a-z{}.]{0,3}[a-z])?".prop_map(Body::File),
    ]);
    (
        "[a-z {}\"\\\\]{1,8}",
        "(GET|POST|PURGE|custom)",
        url,
        vec(header(), 0..3),
        body,
        option::of(time(1_000, 3_600_000_000)),
    )
        .prop_map(|(name, method, url, headers, body, timeout)| RequestStep {
            name,
            request: Request { method, url, headers, body },
            timeout,
        })
}

fn threshold() -> impl Strategy<Value = Threshold> {
    let rule = prop_oneof![
        (0..=1000_u32, 1..100_000_u32).prop_map(|(p, us)| format!("p({}) < {us}us", f64::from(p) / 10.0)),
        Just("med<=1.5s".to_owned()),
        Just("error_rate <= 0.5%".to_owned()),
        Just("rps>=100/s".to_owned()),
        Just("dropped == 0".to_owned()),
    ];
    (rule, any::<bool>(), time(0, DAY_US), option::of(time(100_000, 3_600_000_000))).prop_map(
        |(rule, abort, grace, window)| {
            let rule = Threshold::parse(&rule).unwrap();
            if abort { Threshold { abort, grace, window, ..rule } } else { rule }
        },
    )
}
