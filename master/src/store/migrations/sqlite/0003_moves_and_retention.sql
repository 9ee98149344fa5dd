-- Which lanes an agent gives away or gets, and from when; kept before that agent hears of it. lanes: JSON, {"release": [], "take": []}.
CREATE TABLE run_moves (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    agent_id TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    scenario INTEGER NOT NULL,
    from_us INTEGER NOT NULL,
    lanes TEXT NOT NULL,
    PRIMARY KEY (run_id, number)
) WITHOUT ROWID;

-- A run whose time is over: nobody sees it any more, and its parts are deleted a few at a time.
ALTER TABLE runs ADD COLUMN is_forgotten INTEGER NOT NULL DEFAULT 0;
CREATE INDEX runs_forgotten ON runs (id) WHERE is_forgotten;
CREATE INDEX runs_ended ON runs (ended_us) WHERE ended_us IS NOT NULL;
CREATE INDEX idempotency_keys_of_run ON idempotency_keys (run_id);

-- Written while the store fails, to see whether it takes something again.
CREATE TABLE probe (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    body BLOB NOT NULL
);
