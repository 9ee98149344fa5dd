-- Who leads: one row, whose epoch fences every write that belongs to a run.
CREATE TABLE office (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch BIGINT NOT NULL
);
INSERT INTO office (one, epoch) VALUES (1, 0);

-- Ids are UUIDv7 as text, compared byte by byte, so their order is the order of their making. Times are microseconds since 1970.
CREATE TABLE plans (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    is_simple BOOLEAN NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL
);

-- A run keeps its own copy of the plan, so the plan may change or go. levels: what its externally-controlled scenarios are set to, as
-- JSON. is_forgotten: its time is over, nobody sees it any more, and its parts are deleted a few at a time.
CREATE TABLE runs (
    id TEXT COLLATE "C" PRIMARY KEY,
    plan_id TEXT COLLATE "C" NOT NULL,
    plan_name TEXT NOT NULL,
    plan TEXT NOT NULL,
    status TEXT NOT NULL,
    stop_reason TEXT,
    message TEXT,
    created_us BIGINT NOT NULL,
    started_us BIGINT,
    ended_us BIGINT,
    planned_ms BIGINT NOT NULL,
    seed BIGINT NOT NULL,
    members TEXT NOT NULL,
    next_part BIGINT NOT NULL,
    metrics TEXT,
    levels TEXT,
    is_forgotten BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX runs_of_plan ON runs (plan_id, id);
CREATE INDEX runs_going ON runs (id) WHERE ended_us IS NULL;
CREATE INDEX runs_forgotten ON runs (id) WHERE is_forgotten;
CREATE INDEX runs_ended ON runs (ended_us) WHERE ended_us IS NOT NULL;

-- Where each agent's process stands that ever reported. seq: its highest durable delta; the rest is in state.
CREATE TABLE run_agents (
    run_id TEXT COLLATE "C" NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    agent_id TEXT COLLATE "C" NOT NULL,
    incarnation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (run_id, agent_id, incarnation)
);

-- Every change of a level, kept before any agent hears of it. vus, or rate in millionths of an iteration an hour.
CREATE TABLE run_changes (
    run_id TEXT COLLATE "C" NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    scenario BIGINT NOT NULL,
    at_us BIGINT NOT NULL,
    vus BIGINT,
    rate BIGINT,
    PRIMARY KEY (run_id, number)
);

-- Which lanes an agent gives away or gets, and from when; kept before that agent hears of it. lanes: JSON, {"release": [], "take": []}.
CREATE TABLE run_moves (
    run_id TEXT COLLATE "C" NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    agent_id TEXT COLLATE "C" NOT NULL,
    incarnation BIGINT NOT NULL,
    scenario BIGINT NOT NULL,
    from_us BIGINT NOT NULL,
    lanes TEXT NOT NULL,
    PRIMARY KEY (run_id, number)
);

-- The history: merged deltas in their wire form. Running totals are the sum of the parts.
CREATE TABLE parts (
    run_id TEXT COLLATE "C" NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    from_us BIGINT NOT NULL,
    to_us BIGINT NOT NULL,
    body BYTEA NOT NULL,
    agents TEXT NOT NULL,
    PRIMARY KEY (run_id, number)
);
CREATE INDEX parts_in_time ON parts (run_id, from_us);

-- The sum of the parts up to and with the one of this number, so that nobody need sum an hour.
CREATE TABLE totals (
    run_id TEXT COLLATE "C" PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    part BIGINT NOT NULL,
    body BYTEA NOT NULL
);

CREATE TABLE idempotency_keys (
    key TEXT COLLATE "C" PRIMARY KEY,
    request TEXT NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    created_us BIGINT NOT NULL
);
CREATE INDEX idempotency_keys_of_run ON idempotency_keys (run_id);

-- Written while the store fails, to see whether it takes something again; never compressed, so that it takes its space.
CREATE TABLE probe (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    body BYTEA NOT NULL
);
ALTER TABLE probe ALTER COLUMN body SET STORAGE EXTERNAL;
