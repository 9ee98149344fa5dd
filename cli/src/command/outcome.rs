//! What a followed run leaves: the summary or the JSON on stdout, a file, the exit code.

use std::io::Write;
use std::path::Path;

use crate::exit::{Exit, Failure, of_run};
use crate::terminal::follow::Followed;
use crate::terminal::summary;

/// How a run's end is told.
pub struct Wishes<'a> {
    pub name: &'a str,
    pub json: bool,
    pub require_valid: bool,
    pub out: Option<&'a Path>,
}

/// Tells a run's end.
pub fn tell(followed: &Followed, wishes: &Wishes<'_>) -> Result<Exit, Failure> {
    let exit = of_run(&followed.metrics, wishes.require_valid, followed.interrupted);
    let json = serde_json::to_string_pretty(&followed.metrics).map_err(Failure::could_not_run)?;
    if let Some(path) = wishes.out {
        std::fs::write(path, format!("{json}\n")).map_err(|error| {
            Failure::could_not_run(format!("--out {}: {error}; the result is only printed", path.display()))
        })?;
    }
    if wishes.json {
        print(&format!("{json}\n"));
    } else {
        print(&summary::text(wishes.name, followed.message.as_deref(), &followed.metrics));
    }
    Ok(exit)
}

/// Checks before anything is sent that `--out` names a form that there is.
pub fn check_out(path: &Path) -> Result<(), Failure> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("json") => Ok(()),
        _ => Err(Failure::wrong(format!(
            "--out {}: the ending says the form, and there is .json",
            path.display()
        ))),
    }
}

/// Writes to stdout; a reader that is gone (`| head`) is no failure.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
