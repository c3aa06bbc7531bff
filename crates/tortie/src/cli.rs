//! `tortie` itself: subcommands.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

/// A pure layer-3 network for containers, virtual machines and hosts: every host is a router.
#[derive(Debug, Parser)]
#[command(
    name = "tortie",
    version,
    after_help = "\
Start here:
  tortie lab demo                 see it work on this machine: hosts, BGP, pods, policy; cleans up
  tortie lab up                   the same, kept running to play with
  tortie ctl get nodes            what calicoctl does; so does a link to this binary named calicoctl
  tortie completion bash          completion for your shell

Called as calicoctl, calico or calico-ipam (by a link of that name) it is that program.

Exit codes: 0 done, 1 failed, 2 wrong usage. `lab exec` and `lab ctl` pass on the code of what they
ran; `tortie node --help` has the node's."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the per-node daemon: routes, policy, BGP and CNI for this host
    #[command(after_help = NODE_HELP)]
    Node(node::NodeArgs),
    /// Run a BGP speaker alone, such as a route reflector: no workloads, no policy
    Reflector(node::ReflectorArgs),
    /// Hosts on one machine, each in a network namespace: learn, try, test
    Lab(lab::LabArgs),
    /// Manage resources, addresses and nodes (calicoctl)
    Ctl(ctl::CtlArgs),
    /// Print a completion script
    Completion {
        /// For which shell
        shell: Shell,
    },
}

const NODE_HELP: &str = "\
Configuration comes from the environment, as for calico/node. The variables that matter first:
  NODENAME                    the node's name (default: the host's)
  IP, IP_AUTODETECTION_METHOD the node's address, or how to find it: first-found, interface=REGEX,
                              skip-interface=REGEX, cidr=CIDR or can-reach=DESTINATION
  CALICO_IPV4POOL_CIDR        the pool to make when there is none
  TORTIE_DATASTORE            file of the embedded datastore (default: /var/lib/calico/tortie.db)
  TORTIE_RUN_DIR              folder of the socket for the CNI plugins (default: /var/run/calico)
  FELIX_HEALTHENABLED         true: serve /liveness and /readiness on localhost:9099
  FELIX_LOGSEVERITYSCREEN     Debug, Info, Warning or Error; TORTIE_LOG_FORMAT=json for JSON lines
docs/configuration.md has them all. SIGTERM stops it; routes and policy stay in the kernel.
Exit codes: 1 cannot start, 3 the kernel refuses the rules.";

/// Runs `tortie`.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match Cli::parse_from(arguments).command {
        Command::Node(args) => node::run(&args),
        Command::Reflector(args) => node::run_reflector(&args),
        Command::Lab(args) => lab::run(args).unwrap_or_else(|error| {
            eprintln!("tortie lab: {error:#}");
            ExitCode::FAILURE
        }),
        Command::Ctl(args) => ctl::run(args),
        Command::Completion { shell } => complete(shell),
    }
}

fn complete(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tortie", &mut script);
    match std::io::stdout().write_all(&script) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("tortie completion: standard output: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_fits_a_terminal() {
        fn check(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            let wide: Vec<&str> = help.lines().filter(|line| line.chars().count() > 100).collect();
            assert!(wide.is_empty(), "{}: {wide:#?}", command.get_name());
            command.get_subcommands_mut().for_each(check);
        }
        check(&mut Cli::command());
    }
}
