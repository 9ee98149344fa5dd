//! `volcanion adjust`: another level for a run's externally-controlled scenario.

use serde_json::{Map, Value, json};
use volcanion_common::view::{LevelView, RunView};

use super::outcome::print;
use super::plans::pretty;
use crate::args::AdjustArgs;
use crate::client::Client;
use crate::exit::{Exit, Failure};

/// Changes the level, and says what the run is set to.
pub async fn adjust(args: &AdjustArgs) -> Result<Exit, Failure> {
    let client = Client::new(&args.master)?;
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<Value>| value.map(|value| body.insert(name.to_owned(), value));
    put("vus", args.vus.map(|vus| json!(vus)));
    put("rate", args.rate.map(|rate| json!(rate)));
    put("scenario", args.scenario.as_ref().map(|scenario| json!(scenario)));
    let run: RunView = client.patch(&format!("test-runs/{}", args.run), &Value::Object(body)).await?;
    print(&if args.json { pretty(&run)? } else { run.levels.iter().map(line).collect() });
    Ok(Exit::Done)
}

fn line(level: &LevelView) -> String {
    let LevelView { scenario, vus, rate, max_vus, from_ms, .. } = level;
    let since = format!("from {:.1} s of the run on", from_ms / 1e3);
    match (vus, rate) {
        (Some(vus), _) => format!("{scenario}: {vus} of at most {max_vus} VUs {since}\n"),
        (None, Some(rate)) => format!("{scenario}: {rate} {since}\n"),
        (None, None) => String::new(),
    }
}
