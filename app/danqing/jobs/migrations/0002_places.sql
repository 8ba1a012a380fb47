-- An owner may change the order of waiting jobs (rank, NULL for the order of arrival), an administrator their priority.
ALTER TABLE job ADD COLUMN rank INTEGER;
ALTER TABLE job ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;

-- What was told to the queue itself and holds over a restart, such as "paused".
CREATE TABLE told (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
