//! `tortie lab`: its verbs and their help.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::faults::Fault;
use crate::{commands, demo};

/// Hosts on one machine, each in a network namespace, with real nodes, BGP, pods and policy.
///
/// A lab is a fabric and hosts node-1, node-2, … on it, each with a `tortie node`, on one embedded datastore. Pods are
/// NAMESPACE/NAME; in commands NAME alone means default/NAME. Everything of a lab is in its folder and in namespaces that
/// `down` removes, so several labs in different folders do not meet.
///
/// Root has its lab in /run/tortie-lab. Without root a lab is made in a user namespace of your own, where the system
/// lets you have one, in $XDG_RUNTIME_DIR/tortie-lab (else /tmp/tortie-lab-UID).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tortie lab demo                                    prove the main job end to end, then clean up
  tortie lab up --hosts 3                            make a lab to play with, one pod per host
  tortie lab status                                  hosts, sessions and pods
  tortie lab exec pod-1 -- ping -c1 10.65.0.2        run a command inside a pod or a host
  tortie lab exec node-1 -- ip route                 the host's routes
  tortie lab ctl -- get ippools -o wide              calicoctl against the lab's datastore
  tortie lab ctl -- apply -f policy.yaml
  tortie lab pod add web --node node-2 --label app=web
  tortie lab down                                    leave nothing behind")]
pub struct LabArgs {
    /// Folder of the lab [default: /run/tortie-lab for root]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make three hosts and six pods, prove BGP, policy, restart and removal, and take everything down
    ///
    /// Each line says what was done and what was seen. Ends with 0 if everything was as it should be, with 1 at the first
    /// thing that was not. A lab that is up is not disturbed. Ctrl-C takes the demo down too.
    Demo,
    /// Make a lab: hosts, fabric, nodes, and one pod per host
    ///
    /// Ends when every node is ready and the pods default/pod-1, default/pod-2, … are there; the lab stays until `down`.
    #[command(after_help = "\
Examples:
  tortie lab up                                      three hosts on one subnet
  tortie lab up --hosts 4 --subnets 2                node-1 and node-3 behind one router port,
                                                     node-2 and node-4 behind another
  tortie lab up --set FELIX_LOGSEVERITYSCREEN=Debug  any variable of `tortie node`
  tortie lab up --dir /tmp/other                     a second lab beside the first

The routers between subnets know the hosts and nothing of the pods, so that pools without
encapsulation carry pods' traffic within a subnet only, as in a data centre whose routers do not
speak BGP with the hosts.")]
    Up(UpArgs),
    /// Show hosts, BGP sessions and pods
    Status,
    /// Add, remove or list pods
    #[command(subcommand)]
    Pod(PodVerb),
    /// Run a command inside a host (node-1) or a pod (pod-1, NAMESPACE/NAME)
    ///
    /// The command has the lab's calicoctl in its PATH and the host's variables, so that `tortie lab exec node-1 --
    /// calicoctl node status` shows that host's sessions. The exit code is the command's; 127 when there is no such command.
    #[command(after_help = "\
Examples:
  tortie lab exec node-1 -- ip route
  tortie lab exec node-1 -- calicoctl node status
  tortie lab exec pod-1 -- ip neigh
  tortie lab exec default/pod-2 -- sh")]
    Exec(ExecArgs),
    /// Run calicoctl against the lab's datastore (and node-1, for node status)
    ///
    /// The exit code is calicoctl's.
    #[command(after_help = "\
Examples:
  tortie lab ctl -- get workloadendpoints --all-namespaces
  tortie lab ctl -- apply -f policy.yaml
  tortie lab ctl -- ipam show --show-blocks
  tortie lab ctl -- node status")]
    Ctl(CtlArgs),
    /// Let something go wrong with a host, or put it right
    #[command(after_help = "\
Examples:
  tortie lab fault kill node-1                       SIGKILL to its node: pods go on, policy holds
  tortie lab fault start node-1
  tortie lab fault freeze node-1                     SIGSTOP: a node that hangs, until `thaw`
  tortie lab fault cut node-2                        no link to the fabric until mended
  tortie lab fault mend node-2")]
    Fault {
        /// What to do
        #[arg(value_enum)]
        fault: Fault,
        /// The host: node-1, node-2, …
        host: String,
    },
    /// Take the lab down; leaves no namespace, link, process, mount or file, also after a crash
    ///
    /// Ends every process in the lab's namespaces. A folder that is not a lab's is not touched.
    Down,
    /// Keep the namespaces of a lab (started by `up`)
    #[command(hide = true)]
    Hold,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// How many hosts: node-1, node-2, …
    #[arg(long, default_value_t = 3)]
    pub(crate) hosts: u8,
    /// Deal the hosts to this many subnets with a router between them
    #[arg(long, default_value_t = 1)]
    pub(crate) subnets: u8,
    /// The pool that pods get their addresses from
    #[arg(long, default_value = "10.65.0.0/16", value_name = "CIDR")]
    pub(crate) pool: Ipv4Net,
    /// Give pods IPv6 addresses too, from this pool (hosts get them on the fabric)
    #[arg(long, value_name = "CIDR")]
    pub(crate) pool6: Option<Ipv6Net>,
    /// A further environment variable for every node, such as FELIX_LOGSEVERITYSCREEN=Debug (repeatable)
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) settings: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PodVerb {
    /// Make a pod with the real CNI plugin, as a container runtime does (CNI ADD)
    #[command(after_help = "\
Examples:
  tortie lab pod add web --node node-2 --namespace shop --label app=web
  tortie lab pod add db --node node-1 --annotation 'cni.projectcalico.org/ipAddrs=[\"10.65.0.77\"]'")]
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
pub(crate) struct PodArgs {
    /// Its name
    pub(crate) name: String,
    /// The host to put it on
    #[arg(long)]
    pub(crate) node: String,
    /// Its namespace
    #[arg(long, default_value = "default")]
    pub(crate) namespace: String,
    /// A label (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) labels: Vec<(String, String)>,
    /// An annotation (repeatable)
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) annotations: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// A host (node-1) or a pod (pod-1, NAMESPACE/NAME)
    pub(crate) target: String,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CtlArgs {
    /// Arguments of calicoctl
    #[arg(last = true, required = true)]
    pub(crate) arguments: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

/// Runs `tortie lab`. The exit code is that of the command for `exec` and `ctl`. To be called while the process has one
/// thread.
///
/// # Errors
/// What went wrong, for the user.
pub fn run(args: LabArgs) -> Result<ExitCode> {
    match args.verb {
        Verb::Demo => demo::run(args.dir),
        verb => commands::run(&commands::lab(args.dir)?, verb),
    }
}
