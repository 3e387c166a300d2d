//! A seed, its steps and their faults; running, shrinking and replaying them.
