//! One binary: dispatch on the subcommand or `argv[0]`.

fn main() {}
