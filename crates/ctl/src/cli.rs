//! The command line.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Manage resources, addresses and nodes.
#[derive(Debug, Parser)]
#[command(name = "calicoctl", version)]
struct Calicoctl {
    #[command(flatten)]
    args: CtlArgs,
}

/// Arguments of calicoctl.
#[derive(Debug, Args)]
pub struct CtlArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the versions of this program and of the cluster
    Version,
}

/// Runs calicoctl as the process's own program; `arguments` begin with its name.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    run(Calicoctl::parse_from(arguments).args)
}

/// Runs calicoctl and returns its exit code: 0 done, 1 failed.
pub fn run(args: CtlArgs) -> ExitCode {
    match args.verb {
        Verb::Version => println!("Client Version:    {}", env!("CARGO_PKG_VERSION")),
    }
    ExitCode::SUCCESS
}
