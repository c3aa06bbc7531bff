//! The command line.

use std::ffi::OsString;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use tracing::level_filters::LevelFilter;

use crate::console::Pipe;
use crate::{
    Console, apply, bgp, completion, confirm, create, delete, explain, flows, get, ipam, label, node, patch,
    policy, replace, validate, version,
};

/// Manage Calico resources, addresses and nodes.
#[derive(Debug, Parser)]
#[command(name = "calicoctl", version)]
pub(crate) struct Calicoctl {
    #[command(flatten)]
    args: CtlArgs,
}

/// Arguments of calicoctl.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl get ippools -o wide              what there is
  calicoctl apply -f policy.yaml             create or change what a file says
  calicoctl delete globalnetworkpolicy deny  by name; -f FILE deletes what a file names
  calicoctl node status                      this host's BGP sessions
  calicoctl explain --from a --to b          would a ping pass, and why (not)?
  calicoctl ipam show --show-blocks          which addresses are in use

Files may also hold Kubernetes NetworkPolicies, ClusterNetworkPolicies, AdminNetworkPolicies,
Namespaces, ServiceAccounts and EndpointSlices.

Which datastore: what --config FILE says, else the file that TORTIE_DATASTORE names, else what
/etc/calico/calicoctl.cfg says, else DATASTORE_TYPE (embedded: /var/lib/calico/tortie.db).

Exit codes: 0 done, 1 failed (standard error says what, where and how to mend it), 2 wrong usage.")]
pub struct CtlArgs {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// File that says which datastore to use (a CalicoAPIConfig)
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Context of a kubeconfig; only for the Kubernetes datastore
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub(crate) context: Option<String>,
    /// Go on although the cluster runs another version
    #[arg(long, global = true)]
    pub(crate) allow_version_mismatch: bool,
    /// What to tell on standard error while working
    #[arg(short, long, global = true, value_name = "LEVEL", default_value = "panic")]
    log_level: LogLevel,
}

/// The levels that Calico users know; nothing here logs at the two most severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogLevel {
    Panic,
    Fatal,
    Error,
    Warn,
    Info,
    Debug,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Panic | LogLevel::Fatal => Self::OFF,
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create resources from a file
    Create(create::CreateArgs),
    /// Create resources from a file, or change those that exist
    Apply(apply::ApplyArgs),
    /// Confirm a change that was made with apply --confirm
    Confirm(confirm::ConfirmArgs),
    /// Replace existing resources by what a file says
    Replace(replace::ReplaceArgs),
    /// Change some fields of a resource
    Patch(patch::PatchArgs),
    /// Delete resources, by name or by file
    Delete(delete::DeleteArgs),
    /// Show resources
    Get(get::GetArgs),
    /// Set or remove labels of a resource
    Label(label::LabelArgs),
    /// Check a file without writing anything
    Validate(validate::ValidateArgs),
    /// This host's node
    #[command(subcommand)]
    Node(node::NodeVerb),
    /// Show which packets this host's policies deny and allow, and the rules that decide
    Flows(flows::FlowsArgs),
    /// BGP: what a change would do
    #[command(subcommand)]
    Bgp(bgp::BgpVerb),
    /// Say whether a packet would pass, and why
    Explain(explain::ExplainArgs),
    /// Policy as a whole: what a change would do, who can reach whom, assertions for CI
    #[command(subcommand)]
    Policy(policy::PolicyVerb),
    /// Addresses, blocks and their settings
    #[command(subcommand)]
    Ipam(ipam::IpamVerb),
    /// Show the versions of this program and of the cluster
    Version(version::VersionArgs),
    /// Print a completion script
    Completion(completion::CompletionArgs),
}

/// Runs calicoctl as the process's own program; `arguments` begin with its name.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    run(Calicoctl::parse_from(arguments).args)
}

/// Runs calicoctl on the process's own streams and environment, and returns its exit code: 0 done, 1 failed.
pub fn run(args: CtlArgs) -> ExitCode {
    let log_level = LevelFilter::from(args.global.log_level);
    if log_level != LevelFilter::OFF {
        // Fails only if there is a subscriber already, which then serves.
        let _ = tracing_subscriber::fmt().with_max_level(log_level).with_writer(std::io::stderr).try_init();
    }
    let mut output = BufWriter::new(Pipe::new(std::io::stdout()));
    let mut console = Console {
        input: &mut std::io::stdin(),
        output: &mut output,
        errors: &mut std::io::stderr(),
        variable: &|name| std::env::var(name).ok(),
    };
    ExitCode::from(execute(args, &mut console))
}

/// Runs calicoctl on the streams and environment of `console`; `arguments` begin with its name. Returns the exit code: 0
/// done, 1 failed, 2 wrong usage.
pub fn run_in(arguments: impl IntoIterator<Item = OsString>, console: &mut Console<'_>) -> u8 {
    match Calicoctl::try_parse_from(arguments) {
        Ok(parsed) => execute(parsed.args, console),
        Err(error) => {
            let stream = if error.use_stderr() { &mut *console.errors } else { &mut *console.output };
            // There is nowhere left to say that this failed.
            let _ = write!(stream, "{}", error.render());
            u8::try_from(error.exit_code()).unwrap_or(2)
        }
    }
}

fn execute(args: CtlArgs, console: &mut Console<'_>) -> u8 {
    let outcome = dispatch(args, console).and_then(|()| Ok(console.output.flush()?));
    match outcome {
        Ok(()) => 0,
        Err(error) if error.is::<Exit>() => {
            let _ = console.output.flush();
            error.downcast_ref::<Exit>().map_or(1, |exit| exit.0)
        }
        Err(error) => {
            // What was shown before it failed comes first; if that cannot be written, the error still can.
            let _ = console.output.flush();
            let _ = writeln!(console.errors, "{error:#}");
            1
        }
    }
}

/// All is said; the process is to end with this code, which the verb's help explains.
#[derive(Debug)]
pub(crate) struct Exit(pub(crate) u8);

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}", self.0)
    }
}

impl std::error::Error for Exit {}

fn dispatch(args: CtlArgs, console: &mut Console<'_>) -> Result<()> {
    let global = &args.global;
    match args.verb {
        Verb::Create(verb) => create::run(&verb, global, console),
        Verb::Apply(verb) => apply::run(&verb, global, console),
        Verb::Confirm(verb) => confirm::run(&verb, global, console),
        Verb::Replace(verb) => replace::run(&verb, global, console),
        Verb::Patch(verb) => patch::run(&verb, global, console),
        Verb::Delete(verb) => delete::run(&verb, global, console),
        Verb::Get(verb) => get::run(&verb, global, console),
        Verb::Label(verb) => label::run(&verb, global, console),
        Verb::Validate(verb) => validate::run(&verb, console),
        Verb::Node(verb) => node::run(&verb, console),
        Verb::Flows(verb) => flows::run(&verb, global, console),
        Verb::Bgp(verb) => bgp::run(&verb, global, console),
        Verb::Explain(verb) => explain::run(&verb, global, console),
        Verb::Policy(verb) => policy::run(&verb, global, console),
        Verb::Ipam(verb) => ipam::run(&verb, global, console),
        Verb::Version(verb) => version::run(&verb, global, console),
        Verb::Completion(verb) => completion::run(&verb, &mut Calicoctl::command(), console),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Calicoctl::command().debug_assert();
    }

    #[test]
    fn every_verb_teaches_by_example() {
        fn check(command: &clap::Command) {
            for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
                match verb.has_subcommands() {
                    true => check(verb),
                    false => {
                        let help = verb.clone().render_long_help().to_string();
                        assert!(help.contains("Example"), "{} has no example", verb.get_name());
                        let wide: Vec<&str> =
                            help.lines().filter(|line| line.chars().count() > 100).collect();
                        assert!(wide.is_empty(), "{} does not fit a terminal: {wide:#?}", verb.get_name());
                    }
                }
            }
        }
        check(&Calicoctl::command());
    }
}
