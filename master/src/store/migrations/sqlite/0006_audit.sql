-- Changes that were made over REST. Microseconds since 1970.
CREATE TABLE audit_logs (
    id TEXT PRIMARY KEY,
    at_us INTEGER NOT NULL,
    who TEXT NOT NULL,
    who_id TEXT NOT NULL,
    role TEXT NOT NULL,
    action TEXT NOT NULL,
    path TEXT NOT NULL,
    status INTEGER NOT NULL,
    made TEXT,
    from_address TEXT,
    request_id TEXT NOT NULL
);
CREATE INDEX audit_logs_at ON audit_logs (at_us);
