-- How many bytes the audit takes, kept by triggers, so that its bound needs no count of all rows.
CREATE TABLE audit_size (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    bytes INTEGER NOT NULL
) STRICT;

-- 64 stands for the numbers of a row and for its place in the tables.
INSERT INTO audit_size (one, bytes)
SELECT 1, coalesce(sum(64 + octet_length(who) + octet_length(verb) + octet_length(object)
                       + octet_length(outcome) + octet_length(detail)), 0)
FROM audit;

CREATE TRIGGER audit_grows AFTER INSERT ON audit
BEGIN
    UPDATE audit_size SET bytes = bytes + 64 + octet_length(NEW.who) + octet_length(NEW.verb)
        + octet_length(NEW.object) + octet_length(NEW.outcome) + octet_length(NEW.detail);
END;

CREATE TRIGGER audit_shrinks AFTER DELETE ON audit
BEGIN
    UPDATE audit_size SET bytes = bytes - 64 - octet_length(OLD.who) - octet_length(OLD.verb)
        - octet_length(OLD.object) - octet_length(OLD.outcome) - octet_length(OLD.detail);
END;
