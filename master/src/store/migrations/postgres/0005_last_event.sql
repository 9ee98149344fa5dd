-- The id of a run's last event, so that a client that comes back later is not told of the end again; null before this version.
ALTER TABLE runs ADD COLUMN last_event BIGINT;
