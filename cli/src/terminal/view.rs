//! How a run looks while it goes: a block that is drawn anew on a terminal, a line a second in a pipe.

use std::io::{IsTerminal, Write};

use crossterm::style::Stylize;
use crossterm::{cursor, queue, terminal};
use volcanion_common::view::metrics::TimesView;

use super::state::RunState;
use super::text::{bytes, count, millis, percent, rate};

/// Draws on stderr, so that stdout holds results only.
pub struct LiveView {
    is_terminal: bool,
    lines_drawn: u16,
    last_line: Option<String>,
    warnings_shown: usize,
}

impl LiveView {
    /// A view that fits where stderr goes.
    pub fn new() -> Self {
        Self {
            is_terminal: std::io::stderr().is_terminal(),
            lines_drawn: 0,
            last_line: None,
            warnings_shown: 0,
        }
    }

    /// Shows the state. A terminal that is gone is no reason to end a run: what cannot be written is left out.
    pub fn draw(&mut self, state: &RunState) {
        let _ = if self.is_terminal { self.redraw(state) } else { self.append(state) };
    }

    /// Takes the block away, so that the summary stands alone.
    pub fn clear(&mut self) {
        if self.is_terminal {
            let _ = self.rewind(&mut std::io::stderr());
        }
    }

    fn rewind(&mut self, out: &mut impl Write) -> std::io::Result<()> {
        if self.lines_drawn > 0 {
            queue!(
                out,
                cursor::MoveToPreviousLine(self.lines_drawn),
                terminal::Clear(terminal::ClearType::FromCursorDown)
            )?;
            self.lines_drawn = 0;
        }
        out.flush()
    }

    fn redraw(&mut self, state: &RunState) -> std::io::Result<()> {
        let columns = terminal::size().map_or(80, |(columns, _)| usize::from(columns)).max(40);
        let mut out = std::io::stderr();
        self.rewind(&mut out)?;
        for line in block(state, columns) {
            writeln!(out, "{line}")?;
            self.lines_drawn += 1;
        }
        out.flush()
    }

    fn append(&mut self, state: &RunState) -> std::io::Result<()> {
        let mut out = std::io::stderr();
        for warning in &state.warnings[self.warnings_shown..] {
            writeln!(out, "warning: {}", warning.message)?;
        }
        self.warnings_shown = state.warnings.len();
        let line = line(state);
        if self.last_line.as_ref() != Some(&line) {
            writeln!(out, "{line}")?;
            self.last_line = Some(line);
        }
        Ok(())
    }
}

/// The run in one line.
pub fn line(state: &RunState) -> String {
    let m = &state.metrics;
    if m.total_requests == 0 && m.iterations == 0 {
        return format!("{:>6}  {}", seconds(m.total_duration_ms), state.status().name());
    }
    let shown_rate = if state.ended { m.requests_per_sec } else { m.current_rps };
    let mut text = format!(
        "{:>6}  {:>10}  p50 {:>8}  p95 {:>8}  p99 {:>8}  errors {}  vus {}",
        seconds(m.total_duration_ms),
        rate(shown_rate),
        millis(m.p50_latency_ms),
        millis(m.p95_latency_ms),
        millis(m.p99_latency_ms),
        count(m.failed_requests),
        count(m.active_workers),
    );
    if m.dropped_iterations > 0 {
        text += &format!("  dropped {}", count(m.dropped_iterations));
    }
    if state.planned_ms() > 0 {
        text += &format!("  {:.0} %", state.progress() * 100.0);
    }
    text
}

fn block(state: &RunState, columns: usize) -> Vec<String> {
    let m = &state.metrics;
    let bar_columns = columns.saturating_sub(34).clamp(10, 60);
    let filled = (state.progress() * bar_columns as f64).round() as usize;
    let name = state.run.as_ref().map_or("", |run| run.plan_name.as_str());
    let mut lines = vec![
        format!("{} {}", clip(name, columns.saturating_sub(16)).bold(), state.status().name().dim()),
        format!(
            "{}{} {:>3.0} %  {} of {}",
            "━".repeat(filled).green(),
            "━".repeat(bar_columns - filled).dark_grey(),
            state.progress() * 100.0,
            seconds(m.total_duration_ms),
            seconds(state.planned_ms() as f64),
        ),
        format!(
            "  rate      {:>12}   requests {:>14}   vus {}",
            rate(m.current_rps),
            count(m.total_requests),
            count(m.active_workers)
        ),
        format!("  response  {}", times(&m.response_time_ms)),
        format!("  service   {}", times(&m.service_time_ms)),
        format!(
            "  received  {:>12}   iterations {:>12}   dropped {}",
            bytes(m.bytes_received),
            count(m.iterations),
            count(m.dropped_iterations)
        ),
    ];
    let failed = format!(
        "  failed    {:>12}   {}",
        count(m.failed_requests),
        percent(m.failed_requests, m.total_requests)
    );
    lines.push(if m.failed_requests > 0 { failed.red().to_string() } else { failed });
    for (kind, number) in m.errors.iter().take(4) {
        lines.push(format!("    {} {}", clip(kind, 40), count(*number)).red().to_string());
    }
    for warning in state.warnings.iter().rev().take(3) {
        lines.push(clip(&format!("  ! {}", warning.message), columns.saturating_sub(1)).yellow().to_string());
    }
    lines
}

fn times(times: &TimesView) -> String {
    format!(
        "p50 {:>8}  p90 {:>8}  p95 {:>8}  p99 {:>8}  max {:>8}",
        millis(times.p50),
        millis(times.p90),
        millis(times.p95),
        millis(times.p99),
        millis(times.max)
    )
}

fn seconds(ms: f64) -> String {
    format!("{:.0}s", ms / 1e3)
}

fn clip(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use volcanion_common::view::Metrics;

    #[test]
    fn a_line_says_rate_percentiles_errors_and_progress() {
        let metrics = Metrics {
            total_duration_ms: 3_000.0,
            total_requests: 1_500,
            failed_requests: 2,
            current_rps: 501.0,
            p50_latency_ms: 1.5,
            active_workers: 7,
            dropped_iterations: 3,
            ..Metrics::default()
        };
        let state = RunState { metrics, ..RunState::default() };
        let line = line(&state);
        for part in ["3s", "501/s", "p50  1.50 ms", "errors 2", "vus 7", "dropped 3"] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    #[test]
    fn a_block_fits_its_terminal() {
        assert_eq!(clip("abcdef", 4), "abc…");
        assert!(block(&RunState::default(), 80).len() >= 7);
    }
}
