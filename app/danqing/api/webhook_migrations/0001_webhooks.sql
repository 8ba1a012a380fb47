-- Addresses that are told when a job is over; a row goes when it was told, or when nobody answered often enough.
CREATE TABLE webhooks (
    job TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    secret TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    -- seconds since 1970; not before then
    due REAL NOT NULL DEFAULT 0
);
