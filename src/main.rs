//! The `nixlayer` program.
fn main() {}
