//! `tortie lab`: its verbs, and what each does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use kernel::netns::Netns;

use crate::lifecycle::{self, Plan};
use crate::state::{DEFAULT_DIRECTORY, LabDir, LabState, Pod};
use crate::topology::{Host, Topology};
use crate::{demo, process};

/// Hosts on one machine, each in a network namespace, with real nodes, BGP, pods and policy.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tortie lab demo                                    prove the main job end to end, then clean up
  tortie lab up --hosts 3                            make a lab to play with, one pod per host
  tortie lab status                                  hosts, sessions and pods
  tortie lab exec pod-1 -- ping -c1 10.65.0.2        run a command inside a pod or a host
  tortie lab exec node-1 -- ip route                 the host's routes
  tortie lab ctl -- get ippools -o wide              calicoctl against the lab's datastore
  tortie lab pod add web --node node-2 --label app=web
  tortie lab down                                    leave nothing behind")]
pub struct LabArgs {
    /// Folder of the lab; labs in different folders do not meet
    #[arg(long, global = true, default_value = DEFAULT_DIRECTORY, value_name = "FOLDER")]
    dir: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make three hosts and six pods, prove BGP, policy, restart and removal, and take everything down
    Demo,
    /// Make a lab: hosts, fabric, nodes, and one pod per host
    Up(UpArgs),
    /// Show hosts, BGP sessions and pods
    Status,
    /// Add or remove pods
    #[command(subcommand)]
    Pod(PodVerb),
    /// Run a command inside a host (node-1) or a pod (pod-1, NAMESPACE/NAME)
    Exec(ExecArgs),
    /// Run calicoctl against the lab's datastore (and node-1, for node status)
    Ctl(CtlArgs),
    /// Take the lab down; leaves no namespace, link, process or file, also after a crash
    Down,
}

#[derive(Debug, Args)]
struct UpArgs {
    /// How many hosts: node-1, node-2, …
    #[arg(long, default_value_t = 3)]
    hosts: u8,
    /// Put the hosts behind this many routed subnets
    #[arg(long, default_value_t = 1)]
    subnets: u8,
    /// The pool that pods get their addresses from
    #[arg(long, default_value = "10.65.0.0/16", value_name = "CIDR")]
    pool: String,
    /// A further environment variable for every node, such as FELIX_LOGSEVERITYSCREEN=Debug (repeatable)
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    settings: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
enum PodVerb {
    /// Make a pod with the real CNI plugin
    Add(PodArgs),
    /// Remove a pod (CNI DEL)
    Remove {
        /// NAME or NAMESPACE/NAME
        name: String,
    },
    /// List the pods
    List,
}

#[derive(Debug, Args)]
struct PodArgs {
    /// Its name
    name: String,
    /// The host to put it on
    #[arg(long)]
    node: String,
    /// Its namespace
    #[arg(long, default_value = "default")]
    namespace: String,
    /// A label (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// An annotation (repeatable)
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = pair)]
    annotations: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct ExecArgs {
    /// A host (node-1) or a pod (pod-1, NAMESPACE/NAME)
    target: String,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
struct CtlArgs {
    /// Arguments of calicoctl
    #[arg(last = true, required = true)]
    arguments: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Runs `tortie lab`. The exit code is that of the command for `exec` and `ctl`.
///
/// # Errors
/// What went wrong, for the user.
pub fn run(args: LabArgs) -> Result<ExitCode> {
    let lab = LabDir::new(std::path::absolute(&args.dir)?);
    match args.verb {
        Verb::Demo => demo::run(demo_directory(lab, &args.dir)).map(|()| ExitCode::SUCCESS),
        Verb::Up(up) => make(&lab, up).map(|()| ExitCode::SUCCESS),
        Verb::Status => status(&lab).map(|()| ExitCode::SUCCESS),
        Verb::Pod(verb) => pod(&lab, verb).map(|()| ExitCode::SUCCESS),
        Verb::Exec(exec) => execute(&lab, &exec),
        Verb::Ctl(ctl) => calicoctl(&lab, &ctl),
        Verb::Down => {
            lifecycle::require_root().and_then(|()| lifecycle::down(&lab)).map(|()| ExitCode::SUCCESS)
        }
    }
}

/// The demo does not disturb a lab that is up: unless a folder is given, it has one of its own.
fn demo_directory(lab: LabDir, given: &std::path::Path) -> LabDir {
    match given == std::path::Path::new(DEFAULT_DIRECTORY) {
        true => LabDir::new(format!("{DEFAULT_DIRECTORY}-demo-{}", std::process::id())),
        false => lab,
    }
}

fn make(lab: &LabDir, args: UpArgs) -> Result<()> {
    let topology = Topology::new(args.hosts, args.subnets).map_err(anyhow::Error::msg)?;
    let mut settings = vec![("CALICO_IPV4POOL_CIDR".to_owned(), args.pool)];
    settings.extend(args.settings);
    println!("making {} hosts in {}", args.hosts, lab.path().display());
    lifecycle::up(lab, &Plan { topology, settings })?;
    let mut state = lab.load()?;
    for (number, host) in state.topology.hosts.clone().iter().enumerate() {
        let pod = new_pod(&format!("pod-{}", number + 1), "default", &host.name);
        let pod = lifecycle::add_pod(lab, &mut state, pod)?;
        println!("{} {} on {} {}", pod.full_name(), addresses(&pod), host.name, host.address);
    }
    println!("ready; look around with: tortie lab status");
    Ok(())
}

fn new_pod(name: &str, namespace: &str, node: &str) -> Pod {
    // Unique over the life of a lab, as a runtime's sandbox ids are.
    let serial = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |age| age.as_nanos());
    Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        node: node.to_owned(),
        container_id: format!("{serial:032x}"),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        addresses: Vec::new(),
    }
}

fn addresses(pod: &Pod) -> String {
    pod.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn status(lab: &LabDir) -> Result<()> {
    let state = lab.load()?;
    println!("{:<10} {:<15} NODE", "HOST", "ADDRESS");
    for host in &state.topology.hosts {
        println!("{:<10} {:<15} {}", host.name, host.address.to_string(), node_summary(lab, host));
    }
    println!();
    list_pods(&state);
    Ok(())
}

fn node_summary(lab: &LabDir, host: &Host) -> String {
    let status = match process::status(lab, &host.name) {
        Ok(status) => status,
        Err(error) => return format!("down: {error}"),
    };
    let up = status.peers.iter().filter(|peer| peer.state == "up").count();
    let ready = match status.not_ready.is_empty() {
        true => "ready".to_owned(),
        false => format!("not ready: {}", status.not_ready.join("; ")),
    };
    format!("{ready}, {up} of {} BGP sessions Established, pid {}", status.peers.len(), status.pid)
}

fn list_pods(state: &LabState) {
    println!("{:<24} {:<10} {:<24} LABELS", "POD", "HOST", "ADDRESSES");
    for pod in &state.pods {
        let labels: Vec<_> = pod.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        println!("{:<24} {:<10} {:<24} {}", pod.full_name(), pod.node, addresses(pod), labels.join(","));
    }
}

fn pod(lab: &LabDir, verb: PodVerb) -> Result<()> {
    let mut state = lab.load()?;
    match verb {
        PodVerb::Add(args) => {
            let mut pod = new_pod(&args.name, &args.namespace, &args.node);
            pod.labels.extend(args.labels);
            pod.annotations.extend(args.annotations);
            let pod = lifecycle::add_pod(lab, &mut state, pod)?;
            println!("{} {} on {}", pod.full_name(), addresses(&pod), pod.node);
        }
        PodVerb::Remove { name } => lifecycle::remove_pod(lab, &mut state, &name)?,
        PodVerb::List => list_pods(&state),
    }
    Ok(())
}

fn execute(lab: &LabDir, args: &ExecArgs) -> Result<ExitCode> {
    let state = lab.load()?;
    let (namespace, host) = match (state.topology.host(&args.target), state.pod(&args.target)) {
        (Some(host), _) => (lab.host(&host.name), Some(host.name.as_str())),
        (None, Some(pod)) => (lab.pod(pod), None),
        (None, None) => bail!("there is no host or pod {}; tortie lab status lists them", args.target),
    };
    let [program, arguments @ ..] = &args.command[..] else { bail!("no command") };
    let mut command = Command::new(program);
    command.args(arguments).envs(process::environment(lab, host));
    let ended = Netns::open(namespace)?.run(move || command.status())?;
    Ok(exit_code(ended.with_context(|| format!("cannot run {program}"))?))
}

fn calicoctl(lab: &LabDir, args: &CtlArgs) -> Result<ExitCode> {
    lab.load()?;
    let mut command = Command::new(lab.bin().join("calicoctl"));
    command.args(&args.arguments).envs(process::environment(lab, Some("node-1")));
    Ok(exit_code(command.status().context("cannot run calicoctl")?))
}

fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
