//! Being moved in.
fn main() {}
