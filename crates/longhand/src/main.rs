//! The `longhand` command line.

fn main() {}
