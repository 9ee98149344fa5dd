//! The text at the end of a run.

use std::fmt::Write;

use volcanion_common::view::metrics::{Metrics, StepView, TimesView, Verdict};
use volcanion_common::view::{RunStatus, StopReason};

use super::text::{bytes, count, millis, percent, rate};

/// The result of a run for people; ends with a line break.
pub fn text(name: &str, message: Option<&str>, m: &Metrics) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, name, message, m);
    out
}

fn write(out: &mut String, name: &str, message: Option<&str>, m: &Metrics) -> std::fmt::Result {
    let status = m.status.unwrap_or(RunStatus::Failed).name();
    let agents = match m.agents.len() {
        1 => "1 agent".to_owned(),
        n => format!("{n} agents"),
    };
    writeln!(
        out,
        "{name}: {status} after {:.1} s on {agents}{}",
        m.total_duration_ms / 1e3,
        reason(m.stop_reason)
    )?;
    if let Some(message) = message {
        writeln!(out, "  {message}")?;
    }
    writeln!(out)?;
    writeln!(out, "  requests     {:>14}   {}", count(m.total_requests), rate(m.requests_per_sec))?;
    writeln!(
        out,
        "  failed       {:>14}   {}",
        count(m.failed_requests),
        percent(m.failed_requests, m.total_requests)
    )?;
    if m.own_faults > 0 {
        writeln!(
            out,
            "  own faults   {:>14}   {}, not the target's",
            count(m.own_faults),
            percent(m.own_faults, m.total_requests)
        )?;
    }
    if m.redirects > 0 {
        writeln!(
            out,
            "  redirects    {:>14}   {}, in the requests above",
            count(m.redirects),
            percent(m.redirects, m.total_requests)
        )?;
    }
    writeln!(
        out,
        "  iterations   {:>14}   interrupted {}, dropped {}, missed {}",
        count(m.iterations),
        count(m.interrupted_iterations),
        count(m.dropped_iterations),
        count(m.missed_iterations)
    )?;
    writeln!(out, "  received     {:>14}   sent {}", bytes(m.bytes_received), bytes(m.bytes_sent))?;
    writeln!(out)?;
    writeln!(
        out,
        "  {:<14}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "", "min", "avg", "p50", "p90", "p95", "p99", "p99.9", "max"
    )?;
    row(out, "response time", &m.response_time_ms)?;
    row(out, "service time", &m.service_time_ms)?;
    row(out, "schedule lag", &m.schedule_lag_ms)?;
    for (name, times) in [
        ("  dns", &m.phases.dns),
        ("  connect", &m.phases.connect),
        ("  tls", &m.phases.tls),
        ("  wait", &m.phases.wait),
        ("  receive", &m.phases.receive),
    ] {
        row(out, name, times)?;
    }
    writeln!(out)?;
    for (code, number) in &m.status_codes {
        writeln!(out, "  status {code:<6} {:>14}   {}", count(*number), percent(*number, m.total_requests))?;
    }
    for (kind, number) in &m.errors {
        writeln!(out, "  error  {kind}: {} ({})", count(*number), percent(*number, m.total_requests))?;
    }
    if m.steps.len() > 1 {
        steps(out, &m.steps)?;
    }
    if m.agents.len() > 1 {
        writeln!(out, "\n  agents")?;
        for agent in &m.agents {
            writeln!(
                out,
                "    {:<20} {:>14}   {:>12}   {}",
                agent.id,
                count(agent.requests),
                rate(agent.rate),
                agent.state
            )?;
        }
    }
    if !m.thresholds.is_empty() {
        writeln!(out, "\n  thresholds")?;
        for threshold in &m.thresholds {
            let mark = if threshold.ok { "✓" } else { "✗" };
            let observed = threshold.observed.map_or("nothing measured".to_owned(), |v| {
                format!("observed {}", figure(&threshold.expr, v))
            });
            writeln!(out, "    {mark} {}   {observed}", threshold.expr)?;
        }
    }
    judgement(out, m)
}

fn judgement(out: &mut String, m: &Metrics) -> std::fmt::Result {
    writeln!(out)?;
    let verdict = verdict_name(m.validity.verdict);
    let complete = if m.completeness.complete { "nothing is missing" } else { "INCOMPLETE" };
    writeln!(out, "  numbers are {verdict}, {complete}")?;
    for cause in &m.validity.causes {
        let who = cause.agent.as_ref().map_or(String::new(), |agent| format!(" on {agent}"));
        let until = cause.until_ms.map_or(String::new(), |until| format!(" to {:.1} s", until / 1e3));
        writeln!(
            out,
            "    {}: {}{who} from {:.1} s{until}",
            verdict_name(cause.verdict),
            cause.code,
            cause.since_ms / 1e3
        )?;
    }
    for gap in &m.completeness.gaps {
        let about = if gap.estimate { "an estimated" } else { "at most" };
        writeln!(
            out,
            "    missing: {} from {:.1} s to {:.1} s, {about} {} requests",
            gap.agent,
            gap.from_ms / 1e3,
            gap.to_ms / 1e3,
            count(gap.at_most_requests)
        )?;
    }
    for warning in &m.warnings {
        let who = warning.agent.as_ref().map_or(String::new(), |agent| format!("{agent}: "));
        writeln!(out, "  ! {who}{}", warning.message)?;
    }
    Ok(())
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "valid",
        Verdict::Degraded => "degraded",
        Verdict::Invalid => "invalid",
    }
}

fn steps(out: &mut String, steps: &[StepView]) -> std::fmt::Result {
    writeln!(
        out,
        "\n  {:<28}{:>12}{:>10}{:>12}{:>10}{:>10}{:>10}",
        "step", "requests", "failed", "rate", "p50", "p95", "p99"
    )?;
    for step in steps {
        writeln!(
            out,
            "  {:<28}{:>12}{:>10}{:>12}{:>10}{:>10}{:>10}",
            step.name,
            count(step.requests),
            count(step.failed),
            rate(step.rate),
            millis(step.response_time_ms.p50),
            millis(step.response_time_ms.p95),
            millis(step.response_time_ms.p99)
        )?;
    }
    Ok(())
}

/// A row of the table; a measure that has no values has no row.
fn row(out: &mut String, name: &str, t: &TimesView) -> std::fmt::Result {
    if t.count == 0 {
        return Ok(());
    }
    write!(out, "  {name:<14}")?;
    for value in [t.min, t.avg, t.p50, t.p90, t.p95, t.p99, t.p99_9, t.max] {
        write!(out, "{:>10}", millis(value))?;
    }
    writeln!(out)
}

fn reason(reason: Option<StopReason>) -> &'static str {
    match reason {
        Some(StopReason::Threshold) => ": a threshold was broken",
        Some(StopReason::Lost) => ": the run was lost",
        Some(StopReason::Failed) => ": it could not go on",
        _ => "",
    }
}

/// An observed value in the unit of its rule's bound: times come in milliseconds, rates of errors as fractions.
fn figure(expr: &str, value: f64) -> String {
    if expr.ends_with('%') {
        format!("{:.4} %", value * 100.0)
    } else if expr.ends_with("/s") || !expr.ends_with('s') {
        if value == value.trunc() && value.abs() < 1e15 { format!("{value}") } else { format!("{value:.4}") }
    } else {
        millis(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volcanion_common::view::metrics::{CauseView, GapView, ThresholdView};

    #[test]
    fn what_is_broken_or_missing_is_said() {
        let mut m = Metrics {
            status: Some(RunStatus::Failed),
            stop_reason: Some(StopReason::Threshold),
            ..Metrics::default()
        };
        m.thresholds.push(ThresholdView { expr: "p(95) < 1ms".into(), observed: Some(2.5), ok: false });
        m.thresholds.push(ThresholdView { expr: "error_rate < 1%".into(), observed: Some(0.005), ok: true });
        m.completeness.complete = false;
        m.completeness.gaps.push(GapView {
            agent: "a2".into(),
            from_ms: 1e3,
            to_ms: 2e3,
            at_most_requests: 77,
            estimate: false,
        });
        (m.total_requests, m.own_faults) = (100, 7);
        m.validity.verdict = Verdict::Invalid;
        m.validity.causes.push(CauseView {
            code: "no_ports".into(),
            verdict: Verdict::Invalid,
            agent: Some("a2".into()),
            since_ms: 2e3,
            until_ms: Some(4e3),
            ..CauseView::default()
        });
        let text = text("checkout", None, &m);
        for part in [
            "numbers are invalid",
            "invalid: no_ports on a2 from 2.0 s to 4.0 s",
            "7   7.00 %, not the target's",
            "checkout: failed",
            "a threshold was broken",
            "✗ p(95) < 1ms   observed 2.50 ms",
            "✓ error_rate < 1%   observed 0.5000 %",
            "INCOMPLETE",
            "a2 from 1.0 s to 2.0 s, at most 77",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("schedule lag"), "a measure without values has no row");
    }
}
