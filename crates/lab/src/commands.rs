//! What the verbs of `tortie lab` do, but for the demo.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use kernel::netns::Netns;

use crate::cli::{ExecArgs, PodArgs, PodVerb, UpArgs, Verb};
use crate::output::say;
use crate::state::{LabDir, LabState, Pod};
use crate::topology::{Host, Topology};
use crate::{faults, interrupt, lifecycle, node, privilege};

/// Exit codes of shells.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// The lab in a folder, or in the user's default one.
///
/// # Errors
/// The path cannot be resolved.
pub(crate) fn lab(folder: Option<PathBuf>) -> Result<LabDir> {
    LabDir::new(&folder.unwrap_or_else(privilege::default_directory))
}

/// Runs a verb.
///
/// # Errors
/// What went wrong, for the user.
pub(crate) fn run(lab: &LabDir, verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Demo => bail!("the demo makes a lab of its own"),
        Verb::Up(args) => return up(lab, args),
        Verb::Status => status(lab)?,
        Verb::Pod(verb) => pod(lab, verb)?,
        Verb::Exec(args) => return execute(lab, &args),
        Verb::Ctl(args) => return calicoctl(lab, &args.arguments),
        Verb::Fault { fault, host } => {
            let state = lab.load()?;
            privilege::for_the_lab(lab, &state)?;
            say!("{}", faults::inflict(lab, &state, &host, fault)?);
        }
        Verb::Down => down(lab)?,
        Verb::Hold => loop {
            std::thread::park();
        },
    }
    Ok(ExitCode::SUCCESS)
}

fn up(lab: &LabDir, args: UpArgs) -> Result<ExitCode> {
    let mut topology = Topology::new(args.hosts, args.subnets).map_err(anyhow::Error::msg)?;
    topology.check_pools(args.pool, args.pool6).map_err(anyhow::Error::msg)?;
    let mut settings = vec![("CALICO_IPV4POOL_CIDR".to_owned(), args.pool.to_string())];
    if let Some(pool) = args.pool6 {
        topology.ipv6 = true;
        let pool = pool.to_string();
        let ipv6 = [("CALICO_IPV6POOL_CIDR", pool.as_str()), ("IP6", "autodetect")];
        settings.extend(ipv6.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    settings.extend(args.settings);
    let user_namespace = privilege::for_a_new_lab()?;
    interrupt::watch()?;
    say!("making {} hosts in {}", args.hosts, lab.path().display());
    let state = LabState { topology, settings, user_namespace, pods: Vec::new() };
    match lifecycle::up(lab, &state).and_then(|()| furnish(lab, &state)) {
        Ok(()) => {
            say!("ready; look around with: tortie lab status{}", lab.option());
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => interrupt::exit_code(error),
    }
}

/// The holder, if one is needed, and the first pods; the lab is taken down if that fails.
fn furnish(lab: &LabDir, state: &LabState) -> Result<()> {
    let furnished = (|| {
        if state.user_namespace {
            privilege::hold(lab)?;
        }
        for (number, host) in state.topology.hosts.iter().enumerate() {
            interrupt::check()?;
            let pod = new_pod(&format!("pod-{}", number + 1), "default", &host.name);
            let pod = lifecycle::add_pod(lab, pod)?;
            say!("{} {} on {} {}", pod.full_name(), addresses(&pod), host.name, host.address);
        }
        Ok(())
    })();
    furnished.inspect_err(|_| {
        // What went wrong first is what matters; `lab down` can be tried again.
        let _ = lifecycle::down(lab);
    })
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
    say!("{:<10} {:<15} NODE", "HOST", "ADDRESS");
    for host in &state.topology.hosts {
        say!("{:<10} {:<15} {}", host.name, host.address.to_string(), node_summary(lab, host));
    }
    say!("");
    list_pods(&state);
    Ok(())
}

fn node_summary(lab: &LabDir, host: &Host) -> String {
    let status = match node::status(lab, &host.name) {
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
    say!("{:<24} {:<10} {:<24} LABELS", "POD", "HOST", "ADDRESSES");
    for pod in &state.pods {
        let labels: Vec<_> = pod.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        say!("{:<24} {:<10} {:<24} {}", pod.full_name(), pod.node, addresses(pod), labels.join(","));
    }
}

fn pod(lab: &LabDir, verb: PodVerb) -> Result<()> {
    let state = lab.load()?;
    match verb {
        PodVerb::Add(args) => add(lab, &state, args),
        PodVerb::Remove { name } => {
            privilege::for_the_lab(lab, &state)?;
            let pod = lifecycle::remove_pod(lab, &name)?;
            say!("{} removed from {}", pod.full_name(), pod.node);
            Ok(())
        }
        PodVerb::List => {
            list_pods(&state);
            Ok(())
        }
    }
}

fn add(lab: &LabDir, state: &LabState, args: PodArgs) -> Result<()> {
    let mut pod = new_pod(&args.name, &args.namespace, &args.node);
    pod.labels.extend(args.labels);
    pod.annotations.extend(args.annotations);
    privilege::for_the_lab(lab, state)?;
    let pod = lifecycle::add_pod(lab, pod)?;
    say!("{} {} on {}", pod.full_name(), addresses(&pod), pod.node);
    Ok(())
}

/// Becomes the command; comes back only when that cannot be.
fn execute(lab: &LabDir, args: &ExecArgs) -> Result<ExitCode> {
    let state = lab.load()?;
    let (namespace, host) = match (state.topology.host(&args.target), state.pod(&args.target)) {
        (Some(host), _) => (lab.host(&host.name), Some(host.name.as_str())),
        (None, Some(pod)) => (lab.pod(pod), None),
        (None, None) => bail!(
            "there is no host or pod {}; the lab has {} and {}",
            args.target,
            state.topology.names(),
            state.pod_names()
        ),
    };
    let [program, arguments @ ..] = &args.command[..] else { bail!("no command") };
    privilege::for_the_lab(lab, &state)?;
    let mut command = Command::new(program);
    command.args(arguments).envs(node::environment(lab, host));
    let error = Netns::open(namespace)?.run(move || command.exec())?;
    eprintln!("tortie lab: cannot run {program}: {error}");
    Ok(ExitCode::from(if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }))
}

/// Becomes calicoctl; comes back only when that cannot be.
fn calicoctl(lab: &LabDir, arguments: &[String]) -> Result<ExitCode> {
    let state = lab.load()?;
    let host = state.topology.hosts.first().map(|host| host.name.as_str());
    let mut command = Command::new(lab.bin().join("calicoctl"));
    let error = command.args(arguments).envs(node::environment(lab, host)).exec();
    Err(error).context("cannot run calicoctl")
}

fn down(lab: &LabDir) -> Result<()> {
    if !lab.path().exists() {
        eprintln!("there is no lab in {}; nothing to take down", lab.path().display());
        return Ok(());
    }
    privilege::for_taking_down(lab)?;
    lifecycle::down(lab)?;
    say!("took down the lab in {}", lab.path().display());
    Ok(())
}
