//! One binary: dispatch on the subcommand or `argv[0]`.

mod cli;
mod dispatch;

use std::process::ExitCode;

use dispatch::Program;

fn main() -> ExitCode {
    let arguments = std::env::args_os();
    match dispatch::program(std::env::args_os().next().as_deref()) {
        // Nothing may come before this: a container runtime waits.
        Program::Plugin(plugin) => cni::run(plugin, arguments),
        Program::Calicoctl => ctl::main(arguments),
        Program::Tortie => cli::run(arguments),
    }
}
