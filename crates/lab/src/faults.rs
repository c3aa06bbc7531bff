//! What can go wrong with a host, on purpose.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use kernel::link::LinkChange;
use kernel::netns::Netns;
use kernel::{InterfaceName, Rtnetlink};
use rustix::process::Signal;

use crate::node::READY_LIMIT;
use crate::state::{LabDir, LabState};
use crate::topology::Host;
use crate::{node, process};

/// Something to do to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fault {
    /// End its node as a crash does (SIGKILL)
    Kill,
    /// End its node as an administrator does (SIGTERM)
    Stop,
    /// Start its node again, and wait until it answers
    Start,
    /// Have its node hang (SIGSTOP)
    Freeze,
    /// Have it go on
    Thaw,
    /// Take its link to the fabric down, on the fabric's side
    Cut,
    /// Take that link up again
    Mend,
}

/// Does it; what there is to say about it.
///
/// # Errors
/// There is no such host, or it is not in a state in which that can be done.
pub(crate) fn inflict(lab: &LabDir, state: &LabState, name: &str, fault: Fault) -> Result<String> {
    let Some(host) = state.topology.host(name) else {
        bail!("there is no host {name}; the lab has {}", state.topology.names());
    };
    match fault {
        Fault::Kill => end(lab, host, Signal::KILL, "was killed"),
        Fault::Stop => end(lab, host, Signal::TERM, "has stopped"),
        Fault::Start => start(lab, state, host),
        Fault::Freeze => tell(lab, host, Signal::STOP, "hangs"),
        Fault::Thaw => tell(lab, host, Signal::CONT, "goes on"),
        Fault::Cut => set_link(lab, host, false),
        Fault::Mend => set_link(lab, host, true),
    }
}

fn end(lab: &LabDir, host: &Host, signal: Signal, what: &str) -> Result<String> {
    let process = node::process(lab, &host.name)?;
    process::end(std::slice::from_ref(&process), signal)?;
    Ok(format!("the node of {} (process {}) {what}; routes and policy stay", host.name, process.number()))
}

fn tell(lab: &LabDir, host: &Host, signal: Signal, what: &str) -> Result<String> {
    let process = node::process(lab, &host.name)?;
    process.tell(signal)?;
    Ok(format!("the node of {} (process {}) {what}", host.name, process.number()))
}

fn start(lab: &LabDir, state: &LabState, host: &Host) -> Result<String> {
    if let Ok(running) = node::process(lab, &host.name) {
        bail!("the node of {} runs already (process {})", host.name, running.number());
    }
    let mut node = node::start(lab, state, host)?;
    let status = node.wait(lab, Instant::now() + READY_LIMIT, |_| Ok(())).with_context(|| {
        format!("the node of {} does not answer (log: {})", host.name, lab.node_log(&host.name).display())
    })?;
    Ok(format!("the node of {} runs (process {})", host.name, status.pid))
}

fn set_link(lab: &LabDir, host: &Host, up: bool) -> Result<String> {
    let port = InterfaceName::new(&host.name)?;
    let change = LinkChange { up: Some(up), ..LinkChange::default() };
    Rtnetlink::open_in(&Netns::open(lab.fabric())?)?.change_link(&port, &change)?;
    Ok(format!("the link of {} to the fabric is {}", host.name, if up { "up" } else { "down" }))
}
