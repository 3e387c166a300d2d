//! One VM from inside: the real volume service over a simulated page cache, journal and connection.
