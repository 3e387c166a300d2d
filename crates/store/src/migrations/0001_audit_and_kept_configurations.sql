-- Times are milliseconds since 1970-01-01 UTC, identities are hyphenated UUIDs: a person with `sqlite3` can read both.

-- Every change and every denial. `count` identical denials of one caller are one row that spans first_ms to last_ms.
CREATE TABLE audit (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    first_ms INTEGER NOT NULL,
    last_ms  INTEGER NOT NULL,
    count    INTEGER NOT NULL CHECK (count >= 1),
    who      TEXT NOT NULL,
    verb     TEXT NOT NULL,
    object   TEXT NOT NULL,
    volume   TEXT,
    -- DONE, or the reason of docs/error-codes.md.
    outcome  TEXT NOT NULL,
    detail   TEXT NOT NULL
) STRICT;

-- Folding looks at a caller's newest row.
CREATE INDEX audit_by_who ON audit (who, id);

-- What is written stays written: folding may move the span and raise the count, nothing else changes.
CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit
WHEN NEW.id IS NOT OLD.id OR NEW.who IS NOT OLD.who OR NEW.verb IS NOT OLD.verb
  OR NEW.object IS NOT OLD.object OR NEW.volume IS NOT OLD.volume
  OR NEW.outcome IS NOT OLD.outcome OR NEW.detail IS NOT OLD.detail
  OR NEW.count <= OLD.count
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;

-- The last good copy of each configuration document this host follows.
CREATE TABLE kept_config (
    id    TEXT PRIMARY KEY,
    seq   INTEGER NOT NULL,
    bytes BLOB NOT NULL
) STRICT;
