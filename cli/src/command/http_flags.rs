//! The flags of HTTP → `http` of a plan's document, one from a file too.

use serde_json::{Map, Value, json};

use super::files::Files;
use super::quick::entry;
use crate::args::http::HttpArgs;
use crate::exit::Failure;

/// Puts what the flags say into the place of what the plan says.
///
/// # Errors
/// A file that cannot be read, or that does not lie where agents read files.
pub fn apply(args: &HttpArgs, plan: &mut Map<String, Value>, files: &Files) -> Result<(), Failure> {
    let unix_socket =
        args.unix_socket.as_deref().map(|path| files.socket("--unix-socket", path)).transpose()?;
    let connections = args.connections.as_ref().map(|text| match text.parse::<u64>() {
        Ok(number) => json!(number),
        Err(_) => json!(text),
    });
    put(
        plan,
        &[],
        [
            ("version", args.version.as_ref().map(|version| json!(version))),
            ("connections", connections),
            ("keep_alive", args.disable_keepalive.then_some(json!(false))),
            ("redirects", args.redirects.map(|count| json!(count))),
            ("cookies", args.cookies.then_some(json!(true))),
            ("local_ips", (!args.local_ips.is_empty()).then(|| json!(args.local_ips))),
            ("unix_socket", unix_socket.map(|path| json!(path))),
        ],
    );
    let family = args.ipv4.then_some("ipv4").or(args.ipv6.then_some("ipv6"));
    put(
        plan,
        &["dns"],
        [
            ("resolve", (!args.resolve.is_empty()).then(|| json!(args.resolve))),
            ("refresh", args.dns_refresh.as_ref().map(|when| json!(when))),
            ("family", family.map(|family| json!(family))),
        ],
    );
    let named = |flag: &str, path: Option<&std::path::PathBuf>| {
        path.map(|path| files.name(flag, path).map(|name| json!(name))).transpose()
    };
    put(
        plan,
        &["tls"],
        [
            ("insecure", args.insecure.then_some(json!(true))),
            ("ca", authorities(args)?.map(|pem| json!(pem))),
            ("cert", named("--cert", args.cert.as_ref())?),
            ("key", named("--key", args.key.as_ref())?),
            ("server_name", args.server_name.as_ref().map(|name| json!(name))),
            ("min_version", args.tls_min.as_ref().map(|version| json!(version))),
            ("max_version", args.tls_max.as_ref().map(|version| json!(version))),
            ("resumption", args.no_tls_resumption.then_some(json!(false))),
        ],
    );
    Ok(())
}

/// Puts the given values below `http` and these names; what was not given stays as it is, absent too.
fn put<const N: usize>(plan: &mut Map<String, Value>, below: &[&str], values: [(&str, Option<Value>); N]) {
    if values.iter().all(|(_, value)| value.is_none()) {
        return;
    }
    let mut object = entry(plan, "http");
    for name in below {
        object = entry(object, name);
    }
    for (name, value) in values {
        if let Some(value) = value {
            object.insert(name.to_owned(), value);
        }
    }
}

/// The text of `--cacert`: agents need no file for it.
fn authorities(args: &HttpArgs) -> Result<Option<String>, Failure> {
    let Some(path) = &args.cacert else { return Ok(None) };
    let wrong = |why: &str| Failure::wrong(format!("--cacert {}: {why}", path.display()));
    let pem = std::fs::read_to_string(path).map_err(|error| wrong(&error.to_string()))?;
    // A text without this would be taken for a file's name.
    if !pem.contains("-----BEGIN") {
        return Err(wrong("holds no certificate; give PEM text (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(Some(pem))
}

#[cfg(test)]
mod tests;
