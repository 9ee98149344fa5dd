//! `volcanion calibrate`: what this machine can generate at most, as a table or as JSON.

use std::fmt::Write;

use serde_json::{Value, json};
use volcanion_agent::calibrate::{CalibrateSettings, Calibration, Paced, calibrate as measure};
use volcanion_common::units::Micros;

use super::outcome::print;
use crate::args::CalibrateArgs;
use crate::exit::{Exit, Failure};
use crate::terminal::text::{count, rate};

/// Iterations a second at which the schedule is watched, on one core.
const RATES: [u64; 3] = [1_000, 10_000, 20_000];
/// Less says nothing, more says nothing new.
const DURATION: std::ops::RangeInclusive<Micros> = Micros::from_secs(5)..=Micros::from_secs(60);
/// Fifths of the time for the closed loop; each rate has one.
const CLOSED_FIFTHS: u64 = 2;

/// Measures, and prints it.
pub async fn calibrate(args: &CalibrateArgs) -> Result<Exit, Failure> {
    if !DURATION.contains(&args.duration) {
        return Err(Failure::wrong(format!("--duration: {} is out of range; give 5s to 60s", args.duration)));
    }
    let fifth = args.duration.0 / (CLOSED_FIFTHS + RATES.len() as u64);
    let settings = CalibrateSettings {
        cores: args.cores,
        closed: Micros(CLOSED_FIFTHS * fifth),
        paced: Micros(fifth),
        rates: RATES.to_vec(),
    };
    if !args.json {
        eprintln!("measuring for {} …", args.duration);
    }
    let found = measure(&settings).await.map_err(Failure::could_not_run)?;
    print(&if args.json { format!("{:#}\n", document(&found)) } else { text(&found) });
    Ok(Exit::Done)
}

fn document(found: &Calibration) -> Value {
    let closed = &found.closed;
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "cpus": found.cpus,
        "cores": found.cores,
        "target_shares_cpus": found.shares_cpus,
        "connections": closed.connections,
        "requests": closed.requests,
        "requests_per_s": closed.requests_per_s,
        "requests_per_s_per_core": closed.requests_per_s / f64::from(found.cores),
        "core_use": closed.core_use,
        "cpu_us_per_request": closed.cpu_us_per_request,
        "capacity": closed.capacity(found.cores),
        "capacity_requests_per_s": closed.requests_per_core_s() * f64::from(found.cores),
        "capacity_requests_per_s_per_core": closed.requests_per_core_s(),
        "pacing": found.paced.iter().map(paced_document).collect::<Vec<_>>(),
        "warnings": found.warnings.iter().map(|w| json!({ "code": w.code, "message": w.message })).collect::<Vec<_>>(),
    })
}

fn paced_document(paced: &Paced) -> Value {
    let lag = &paced.lag;
    json!({
        "rate": paced.rate,
        "started": paced.started,
        "dropped": paced.dropped,
        "core_use": paced.core_use,
        "lag_us": {
            "p50": lag.percentile_us(50.0), "p90": lag.percentile_us(90.0), "p99": lag.percentile_us(99.0), "max": lag.max_us(),
        },
    })
}

fn text(found: &Calibration) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, found);
    out
}

fn write(out: &mut String, found: &Calibration) -> std::fmt::Result {
    let closed = &found.closed;
    let (cores, cpus) = (plural(found.cores, "load core"), plural(found.cpus, "CPU"));
    let target = if found.shares_cpus {
        "the target shares CPUs with the load: the rate is that of both together, the CPU time is the load's own"
    } else {
        "the target has CPUs of its own"
    };
    writeln!(out, "{cores} of {cpus}, {} kept connections, HTTP/1.1; {target}\n", count(closed.connections))?;
    writeln!(
        out,
        "  requests     {:>14}   {} a core, at {:.0} % of its time",
        rate(closed.requests_per_s),
        rate(closed.requests_per_s / f64::from(found.cores)),
        closed.core_use * 100.0
    )?;
    writeln!(out, "  CPU          {:>11.2} µs   a request", closed.cpu_us_per_request)?;
    writeln!(
        out,
        "  capacity     {:>14}   {} at the full time of {cores}, {} each",
        format!("{:.2}", closed.capacity(found.cores)),
        rate(closed.requests_per_core_s() * f64::from(found.cores)),
        rate(closed.requests_per_core_s())
    )?;
    writeln!(out, "\n  schedule of one core, actual minus intended start in µs")?;
    writeln!(
        out,
        "  {:>12}{:>10}{:>10}{:>8}{:>8}{:>8}{:>10}{:>10}",
        "asked", "started", "dropped", "p50", "p90", "p99", "max", "core use"
    )?;
    for paced in &found.paced {
        let lag = &paced.lag;
        writeln!(
            out,
            "  {:>12}{:>10}{:>10}{:>8}{:>8}{:>8}{:>10}{:>8.0} %",
            rate(paced.rate as f64),
            paced.started,
            paced.dropped,
            lag.percentile_us(50.0),
            lag.percentile_us(90.0),
            lag.percentile_us(99.0),
            lag.max_us(),
            paced.core_use * 100.0
        )?;
    }
    if !found.warnings.is_empty() {
        writeln!(out)?;
    }
    for warning in &found.warnings {
        writeln!(out, "  ! {}", warning.message)?;
    }
    Ok(())
}

fn plural(number: u32, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volcanion_agent::calibrate::Closed;
    use volcanion_common::delta::Warning;
    use volcanion_common::series::Distribution;

    fn found() -> Calibration {
        let mut lag = Distribution::default();
        (1..=100).for_each(|n| lag.record(Micros(n)));
        let warning =
            Warning { code: "cpu_wait".into(), message: "a core waited".into(), ..Warning::default() };
        Calibration {
            cpus: 4,
            cores: 2,
            shares_cpus: false,
            closed: Closed {
                connections: 128,
                requests: 400_000,
                requests_per_s: 200_000.0,
                cpu_us_per_request: 8.0,
                core_use: 0.8,
            },
            paced: vec![Paced { rate: 1_000, started: 99, dropped: 1, lag, core_use: 0.125 }],
            warnings: vec![warning],
        }
    }

    #[test]
    fn the_table_and_the_document_say_the_same() {
        let text = text(&found());
        for part in [
            "2 load cores of 4 CPUs, 128 kept connections",
            "the target has CPUs of its own",
            "200,000/s   100,000/s a core, at 80 %",
            "8.00 µs   a request",
            "2.50   250,000/s at the full time of 2 load cores, 125,000/s each",
            "1,000/s        99         1      50      90      99       100      12 %",
            "! a core waited",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let shared = Calibration { shares_cpus: true, ..found() };
        assert!(super::text(&shared).contains("the target shares CPUs with the load"));
        let document = document(&found());
        assert_eq!(document["capacity"], 2.5);
        assert_eq!(document["capacity_requests_per_s"], 250_000.0);
        assert_eq!(document["requests_per_s_per_core"], 100_000.0);
        assert_eq!(document["pacing"][0]["lag_us"]["p90"], 90);
        assert_eq!(document["warnings"][0]["code"], "cpu_wait");
    }
}
