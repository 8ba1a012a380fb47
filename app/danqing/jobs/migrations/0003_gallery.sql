-- What people like, and what they show to others. Tokens are stored as their SHA-256 only.
CREATE TABLE favourite (
    owner TEXT NOT NULL,
    picture TEXT NOT NULL,
    created REAL NOT NULL,
    PRIMARY KEY (owner, picture)
) STRICT, WITHOUT ROWID;
CREATE INDEX favourite_by_picture ON favourite (picture);

CREATE TABLE share (
    token TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    picture TEXT NOT NULL,
    created REAL NOT NULL,
    expires REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX share_by_picture ON share (picture);
CREATE INDEX share_by_time ON share (expires);

CREATE INDEX job_by_end ON job (finished) WHERE finished IS NOT NULL;
