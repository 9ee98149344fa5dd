//! The names that documents may use, object by object: one list for the decoder, its suggestions and the JSON Schema.

/// What an object of a document may hold.
pub(crate) struct Shape {
    /// For messages: `a scenario`.
    pub(crate) what: &'static str,
    /// The names.
    pub(crate) known: &'static [&'static str],
    /// Names that the full language has and this version does not.
    pub(crate) later: &'static [&'static str],
}

/// What clients get back with a plan and may send again: read over.
pub(crate) const READ_ONLY: &[&str] = &["id", "created_at", "updated_at"];

pub(crate) const PLAN: Shape = Shape {
    what: "a plan",
    known: &[
        "name",
        "target",
        "timeout",
        "headers",
        "http",
        "variables",
        "agents",
        "load",
        "elastic",
        "on_agent_loss",
        "interval",
        "trace",
        "success_status",
        "scenarios",
        "thresholds",
    ],
    later: &["data", "setup", "teardown", "checks", "allow_targets"],
};

pub(crate) const TRACE: Shape = Shape { what: "trace", known: &["sample"], later: &[] };

pub(crate) const HTTP: Shape = Shape {
    what: "http",
    known: &[
        "version",
        "keep_alive",
        "connections",
        "redirects",
        "cookies",
        "dns",
        "local_ips",
        "unix_socket",
        "tls",
    ],
    later: &["proxy", "compression"],
};

pub(crate) const DNS: Shape = Shape { what: "dns", known: &["refresh", "family", "resolve"], later: &[] };

pub(crate) const TLS: Shape = Shape {
    what: "tls",
    known: &["insecure", "ca", "cert", "key", "server_name", "min_version", "max_version", "resumption"],
    later: &[],
};

pub(crate) const AGENTS: Shape =
    Shape { what: "agents", known: &["count", "labels", "exclusive"], later: &[] };

pub(crate) const SCENARIO: Shape = Shape {
    what: "a scenario",
    known: &[
        "executor",
        "vus",
        "start_vus",
        "iterations",
        "duration",
        "max_duration",
        "rate",
        "start_rate",
        "stages",
        "arrival",
        "when_busy",
        "pre_allocated_vus",
        "max_vus",
        "graceful_ramp_down",
        "start_time",
        "graceful_stop",
        "steps",
    ],
    later: &["data", "variables", "weight", "setup", "teardown"],
};

/// Of [`SCENARIO`], what every executor takes.
pub(crate) const EVERY_EXECUTOR: &[&str] = &["executor", "start_time", "graceful_stop", "steps"];

/// Of [`SCENARIO`], what each executor takes beyond that.
pub(crate) const EXECUTORS: &[(&str, &[&str])] = &[
    ("constant-vus", &["vus", "duration"]),
    ("ramping-vus", &["start_vus", "stages", "graceful_ramp_down"]),
    ("per-vu-iterations", &["vus", "iterations", "max_duration"]),
    ("shared-iterations", &["vus", "iterations", "max_duration"]),
    ("constant-arrival-rate", &["rate", "duration", "arrival", "when_busy", "pre_allocated_vus", "max_vus"]),
    (
        "ramping-arrival-rate",
        &["start_rate", "stages", "arrival", "when_busy", "pre_allocated_vus", "max_vus"],
    ),
    (
        "externally-controlled",
        &["vus", "rate", "max_vus", "duration", "arrival", "when_busy", "pre_allocated_vus"],
    ),
];

pub(crate) const STAGE: Shape = Shape { what: "a stage", known: &["duration", "target"], later: &[] };

/// The methods that have a field of their own, with the method each stands for.
pub(crate) const METHODS: &[(&str, &str)] = &[
    ("get", "GET"),
    ("post", "POST"),
    ("put", "PUT"),
    ("patch", "PATCH"),
    ("delete", "DELETE"),
    ("head", "HEAD"),
    ("options", "OPTIONS"),
];

pub(crate) const STEP: Shape = Shape {
    what: "a step",
    known: &[
        "name",
        "get",
        "post",
        "put",
        "patch",
        "delete",
        "head",
        "options",
        "method",
        "url",
        "headers",
        "body",
        "json",
        "body_file",
        "timeout",
        "think",
    ],
    later: &["extract", "check", "if", "repeat", "while", "group", "form", "redirects"],
};

pub(crate) const THRESHOLD: Shape =
    Shape { what: "a threshold", known: &["expr", "abort", "grace", "window"], later: &[] };

pub(crate) const SIMPLE: Shape = Shape {
    what: "a simple plan",
    known: &[
        "name",
        "target_url",
        "method",
        "headers",
        "body",
        "users",
        "concurrent_users",
        "ramp_up_sec",
        "ramp_up_seconds",
        "duration_sec",
        "duration_seconds",
        "timeout_ms",
        "think_time_ms",
        "target_rps",
        "rate_pattern",
        "rate_steps",
        "success_status_codes",
        "variables",
        "sla",
        "sla_config",
        "http",
        "agents",
        "thresholds",
    ],
    later: &["data", "extract", "check", "checks"],
};

pub(crate) const RATE_STEP: Shape =
    Shape { what: "a rate step", known: &["rps", "duration_sec"], later: &[] };

pub(crate) const SLA: Shape = Shape {
    what: "an sla",
    known: &["max_p95_latency", "max_p99_latency", "max_error_rate", "min_rps"],
    later: &[],
};
