//! `volcanion demo`: everything in one process, nothing to install, no file to write.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use volcanion_agent::prepare::SecretSources;
use volcanion_common::units::{Micros, Share};

use super::outcome::{Wishes, tell};
use crate::args::{DemoArgs, TargetArgs};
use crate::cluster::Cluster;
use crate::embedded::{Embedded, Size};
use crate::exit::{Exit, Failure};
use crate::target::Target;
use crate::terminal::follow::follow;

/// Runs it.
pub async fn demo(args: &DemoArgs) -> Result<Exit, Failure> {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let stop = CancellationToken::new();
    let behaviour = TargetArgs {
        listen: anywhere,
        delay: Micros::from_millis(2),
        jitter: Micros::from_millis(4),
        error_rate: 0.0,
        body_size: 128,
    };
    let target = Target::start(&behaviour, stop.clone()).await.map_err(Failure::could_not_run)?;
    let size = Size {
        agents: args.agents,
        cores: Some(1),
        pacing: Default::default(),
        collector: None,
        trace_sample: Share::NONE,
    };
    let embedded = Embedded::start(size, Some(anywhere), None, &SecretSources::default()).await?;
    let api = embedded.rest_address().map_or(String::new(), |address| format!("http://{address}"));
    eprintln!("A master, {} agents and a target in this process.", args.agents);
    eprintln!(
        "API {api}/api/v1 · its page {api}/api/docs · metrics {api}/metrics · target http://{}/\n",
        target.address()
    );
    let document = json!({
        "name": "demo",
        "target": format!("http://{}", target.address()),
        "scenarios": {
            "visitors": {
                "executor": "constant-vus",
                "vus": 20,
                "duration": args.duration,
                "steps": [{ "name": "home", "get": "/" }],
            },
            "orders": {
                "executor": "constant-arrival-rate",
                "rate": "200/s",
                "duration": args.duration,
                "max_vus": 100,
                "steps": [{ "name": "order", "post": "/orders", "json": { "item": 1 } }],
            },
        },
        "thresholds": ["p(95) < 500ms", "error_rate < 1%"],
    });
    let run = embedded.start(&document).await?;
    let followed = follow(&embedded, run, true).await;
    embedded.stop().await?;
    stop.cancel();
    target.stopped().await.map_err(Failure::could_not_run)?;
    tell(&followed?, &Wishes { name: "demo", json: args.json, require_valid: false, out: None })
}
