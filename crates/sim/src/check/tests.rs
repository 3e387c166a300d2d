//! The checker can fail: every promise, broken on purpose.
