-- Who leads: one row, whose epoch fences every write that belongs to a run.
CREATE TABLE office (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL
);
INSERT INTO office (one, epoch) VALUES (1, 0);

-- Ids are UUIDv7 as text, so their order is the order of their making. Times are microseconds since 1970.
CREATE TABLE plans (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    is_simple INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL
);

-- A run keeps its own copy of the plan, so the plan may change or go.
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    plan_id TEXT NOT NULL,
    plan_name TEXT NOT NULL,
    plan TEXT NOT NULL,
    status TEXT NOT NULL,
    stop_reason TEXT,
    message TEXT,
    created_us INTEGER NOT NULL,
    started_us INTEGER,
    ended_us INTEGER,
    planned_ms INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    members TEXT NOT NULL,
    next_part INTEGER NOT NULL,
    metrics TEXT
);
CREATE INDEX runs_of_plan ON runs (plan_id, id);
CREATE INDEX runs_going ON runs (id) WHERE ended_us IS NULL;

-- Where each agent's process stands that ever reported. seq: its highest durable delta; the rest is in state.
CREATE TABLE run_agents (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    agent_id TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (run_id, agent_id, incarnation)
) WITHOUT ROWID;

-- The history: merged deltas in their wire form. Running totals are the sum of the parts.
CREATE TABLE parts (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    from_us INTEGER NOT NULL,
    to_us INTEGER NOT NULL,
    body BLOB NOT NULL,
    agents TEXT NOT NULL,
    PRIMARY KEY (run_id, number)
);
CREATE INDEX parts_in_time ON parts (run_id, from_us);

-- The sum of the parts up to and with the one of this number, so that nobody need sum an hour.
CREATE TABLE totals (
    run_id TEXT PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    part INTEGER NOT NULL,
    body BLOB NOT NULL
);

CREATE TABLE idempotency_keys (
    key TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    created_us INTEGER NOT NULL
);
