-- Deletes that were answered, so that a retry after a restart gets the same answer: nothing else is left of the volume.
CREATE TABLE deleted (
    number  INTEGER PRIMARY KEY,
    request TEXT NOT NULL UNIQUE,
    volume  TEXT NOT NULL
) STRICT;
