//! Known mistakes, each of which the simulation or the crash matrix must catch.
