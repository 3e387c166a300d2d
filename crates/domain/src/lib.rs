//! (being moved in)
