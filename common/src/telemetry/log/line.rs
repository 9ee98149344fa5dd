//! One event → one JSON line, with the fields of its spans beside its own.
//!
//! A line is one flat object: `timestamp`, `level`, the event's fields, those of the spans that it happened in, and `target`. Where two
//! have a name the nearer one stands: the event's own, then the innermost span's, then what the whole process says. So a line
//! has `run_id`, `agent_id` and `request_id` where the work that wrote it was begun under spans with these fields. Whatever a value
//! holds is escaped: a line is one line.

use std::fmt;
use std::sync::OnceLock;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// What every line of this process says.
static ALWAYS: OnceLock<(&str, String)> = OnceLock::new();

/// Has every JSON line of this process carry a field from now on. The first call stands.
pub fn always(name: &'static str, value: &str) {
    let _ = ALWAYS.set((name, value.to_owned()));
}

/// Writes flat JSON lines; spans' fields must be formatted as JSON.
pub(super) struct FlatJson;

impl<S, N> FormatEvent<S, N> for FlatJson
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let metadata = event.metadata();
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), timestamp.into());
        line.insert("level".to_owned(), metadata.level().as_str().into());
        event.record(&mut Fields(&mut line));
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let Some(fields) = extensions.get::<FormattedFields<N>>() else { continue };
            let Ok(fields) = serde_json::from_str::<Map<String, Value>>(fields) else { continue };
            fields.into_iter().for_each(|(name, value)| put(&mut line, &name, value));
        }
        if let Some((name, value)) = ALWAYS.get() {
            put(&mut line, name, value.as_str().into());
        }
        put(&mut line, "target", metadata.target().into());
        let text = serde_json::to_string(&line).map_err(|_| fmt::Error)?;
        writeln!(writer, "{text}")
    }
}

fn put(line: &mut Map<String, Value>, name: &str, value: Value) {
    if !line.contains_key(name) {
        line.insert(name.to_owned(), value);
    }
}

/// An event's fields.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        put(self.0, field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        put(self.0, field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        put(self.0, field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        put(self.0, field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        put(self.0, field.name(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // What the `log` crate's records bring beside their message says nothing of ours.
        if !field.name().starts_with("log.") {
            put(self.0, field.name(), format!("{value:?}").into());
        }
    }
}
