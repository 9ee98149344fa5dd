-- What the externally-controlled scenarios of a run are set to, as JSON for its readers; null where there are none.
ALTER TABLE runs ADD COLUMN levels TEXT;

-- Every change of a level, kept before any agent hears of it. vus, or rate in millionths of an iteration an hour.
CREATE TABLE run_changes (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    scenario INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    vus INTEGER,
    rate INTEGER,
    PRIMARY KEY (run_id, number)
) WITHOUT ROWID;
