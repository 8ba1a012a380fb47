-- Who handed an input picture in: its name is the hash of its content, which others may have too, and it opens it to these alone.
CREATE TABLE input (
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    created REAL NOT NULL,
    PRIMARY KEY (owner, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX input_by_time ON input (created);
