//! Integration tests: the real binary and the real protocols, in process.

fn main() {}
