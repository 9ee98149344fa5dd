-- Keys of clients. hash: SHA-256 of the key in hex; the key itself is nowhere. Microseconds since 1970.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    created_us INTEGER NOT NULL,
    expires_us INTEGER,
    revoked_us INTEGER,
    used_us INTEGER
);
