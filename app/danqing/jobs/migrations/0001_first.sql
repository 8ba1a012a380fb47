-- Jobs in their order of arrival.
CREATE TABLE job (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    client TEXT NOT NULL DEFAULT '',
    request TEXT NOT NULL,
    save INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    disk_tries INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    interrupted INTEGER NOT NULL DEFAULT 0,
    error TEXT
) STRICT;
CREATE INDEX job_by_state ON job (state, seq);
CREATE INDEX job_by_owner ON job (owner, seq);

-- Pictures. A row is reserved (complete = 0) before its file exists and completed when the file is whole; sha256 tells after a
-- crash whether the file at that path is the one that was meant. No foreign key to job: pictures outlive the queue's rows, and
-- those found again on disk have no job (NULL).
CREATE TABLE picture (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    job TEXT,
    position INTEGER NOT NULL DEFAULT 0,
    path TEXT NOT NULL UNIQUE,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    infotext TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    created REAL NOT NULL,
    temporary INTEGER NOT NULL,
    complete INTEGER NOT NULL DEFAULT 0,
    UNIQUE (job, position)
) STRICT;
CREATE INDEX picture_by_owner ON picture (owner, created);
CREATE INDEX picture_by_time ON picture (created);
CREATE INDEX picture_incomplete ON picture (complete) WHERE complete = 0;
CREATE INDEX picture_temporary ON picture (created) WHERE temporary = 1;
