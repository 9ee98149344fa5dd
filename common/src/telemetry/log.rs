//! Logs on stderr: JSON lines for machines, or text for people.
//!
//! A JSON line is one flat object: `timestamp` (RFC 3339, UTC), `level`, `target`, `message`, and beside them the fields of the event and of
//! the spans that it happened in. stdout stays free for results.
//!
//! Spans that give lines a field are `error_span!`s, so that they are there for warnings too where nothing else is shown. They are
//! entered by tasks and threads, never by what is done for each request to a target.

mod line;

use std::io;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;

pub use line::always;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Text without colours.
    Text,
}

/// Why logging was not set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Neither a level nor a filter.
    #[error(
        "`{0}` is neither a level (error, warn, info, debug, trace, off) nor a filter such as volcanion_agent=debug"
    )]
    Filter(String),
    /// Somebody else has set it up in this process.
    #[error("logging was set up before")]
    Twice,
}

/// Sets up logging for the whole process.
///
/// `filter` is a level or a filter in `tracing`'s form. A bare level is that of our own lines; of libraries only
/// warnings are shown with it, for theirs drown ours.
///
/// # Errors
/// The filter cannot be read, or logging was set up before.
pub fn init(format: Format, filter: &str) -> Result<(), LogError> {
    let subscriber = subscriber(format, filter, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)
}

fn subscriber<W>(
    format: Format,
    filter: &str,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let wrong = || LogError::Filter(filter.to_owned());
    let filter = match filter.trim().parse::<LevelFilter>() {
        Ok(level) => format!("{},volcanion={level}", level.min(LevelFilter::WARN)),
        // What is not a level has to say for which target; `EnvFilter` itself would take a misspelt level for a target.
        Err(_) if filter.contains('=') => filter.to_owned(),
        Err(_) => return Err(wrong()),
    };
    let filter = EnvFilter::builder().parse(&filter).map_err(|_| wrong())?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match format {
        Format::Json => Box::new(builder.fmt_fields(JsonFields::new()).event_format(line::FlatJson).finish()),
        Format::Text => Box::new(builder.with_ansi(false).finish()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: Format, filter: &str) -> String {
        written_by(format, filter, || {
            tracing::info!(target: "volcanion_agent::engine", run = "r1", rate = 500, "run started");
            tracing::debug!(target: "volcanion_agent::engine", "detail");
            tracing::info!(target: "h2::codec", "frame");
        })
    }

    fn written_by(format: Format, filter: &str, write: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, write);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_carry_their_fields_flat() {
        let text = written(Format::Json, "info");
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "run started");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["target"], "volcanion_agent::engine");
        assert_eq!((&line["run"], &line["rate"]), (&"r1".into(), &500.into()));
        assert!(line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{line}");
    }

    #[test]
    fn fields_of_spans_stand_beside_the_events_and_the_nearer_one_wins() {
        let text = written_by(Format::Json, "warn", || {
            let agent = tracing::error_span!(target: "volcanion_agent", "agent", agent_id = "a-1", n = 1);
            let _agent = agent.enter();
            let run = tracing::error_span!(
                target: "volcanion_agent", "run", run_id = tracing::field::Empty, n = 2, level = "lost"
            );
            let _run = run.enter();
            run.record("run_id", "r1");
            tracing::warn!(target: "volcanion_agent::x", n = 3, share = 0.5, ok = true, "first");
            tracing::warn!(target: "volcanion_agent::x", request_id = "a\"b\n{\u{1}", "second");
        });
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        for line in &lines {
            let ids = (&line["agent_id"], &line["run_id"], &line["level"], &line["target"]);
            assert_eq!(ids, (&"a-1".into(), &"r1".into(), &"WARN".into(), &"volcanion_agent::x".into()));
            assert!(line.get("span").is_none() && line.get("spans").is_none(), "{line}");
        }
        assert_eq!((&lines[0]["n"], &lines[1]["n"]), (&3.into(), &2.into()));
        assert_eq!((&lines[0]["share"], &lines[0]["ok"]), (&0.5.into(), &true.into()));
        assert_eq!(lines[1]["request_id"], "a\"b\n{\u{1}");
    }

    #[test]
    fn filters_choose_lines() {
        assert_eq!(written(Format::Text, "debug").lines().count(), 2);
        assert_eq!(written(Format::Text, "off").lines().count(), 0);
        assert_eq!(written(Format::Text, "volcanion_agent=debug,h2=info").lines().count(), 3);
        for wrong in ["loud", "volcanion=loud", "5x"] {
            assert!(
                matches!(subscriber(Format::Json, wrong, io::sink), Err(LogError::Filter(_))),
                "`{wrong}`"
            );
        }
    }
}
