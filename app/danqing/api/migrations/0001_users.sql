-- Who may log in. `hash` is argon2's; '' is none: the first administrator's stands in secrets/admin.hash, where a box keeps it, and
-- somebody who comes through OIDC has none. `subject` is "issuer subject" of OIDC. NULL limits are the settings' own.
CREATE TABLE user (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL CHECK (role IN ('admin', 'artist', 'api')),
    hash TEXT NOT NULL DEFAULT '',
    disabled INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    subject TEXT UNIQUE,
    jobs INTEGER,
    images INTEGER,
    weight REAL
) STRICT;
INSERT INTO user (name, role, created) VALUES ('admin', 'admin', unixepoch());

-- Logins of browsers. `key` is the SHA-256 of the cookie; `id` names a session in lists and opens nothing.
CREATE TABLE session (
    key TEXT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    user TEXT NOT NULL REFERENCES user (name) ON DELETE CASCADE,
    created REAL NOT NULL,
    expires REAL NOT NULL,
    address TEXT NOT NULL,
    agent TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX session_by_user ON session (user, created);
CREATE INDEX session_by_end ON session (expires);
