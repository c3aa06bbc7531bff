//! `tortie lab demo`: the main job, end to end, each step with what was done and what was seen.
//!
//! The demo believes nothing that a node says of itself when it can look: packets on the wire, routes and ARP entries
//! in the kernel, connections that succeed or do not. The first thing that is not as it should be ends it.

mod cleanup;
mod connectivity;
mod plan;
mod policy;
mod removal;
mod report;
mod restart;
mod routing;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kernel::netns::Netns;

use crate::probe::EchoServer;
use crate::state::{LabDir, LabState, Pod};
use crate::topology::Topology;
use crate::{commands, interrupt, lifecycle, node, privilege, process};

use report::Report;

/// How long the mesh may take. BGP's own timers (connect retry) allow for one collision and one lost SYN.
const MESH_LIMIT: Duration = Duration::from_secs(15);

/// The running demo: what its steps share.
pub(crate) struct Demo {
    lab: LabDir,
    state: LabState,
    report: Report,
    /// One per port and pod; they end with the demo.
    servers: Vec<EchoServer>,
}

/// Runs all steps in a lab of the demo's own, and leaves nothing behind, whatever happens. The demo does not disturb a lab
/// that is up: unless a folder is given, it has one of its own.
///
/// # Errors
/// The step that failed, with what was seen instead.
pub(crate) fn run(folder: Option<PathBuf>) -> Result<ExitCode> {
    let lab = commands::lab(Some(folder.unwrap_or_else(own_folder)))?;
    let user_namespace = privilege::for_a_new_lab()?;
    interrupt::watch()?;
    let before = cleanup::Snapshot::take()?;
    let report = Report::start();
    report.say(&format!(
        "the demo is in {}; should it be cut off, tortie lab down --dir {} removes what is left",
        lab.path().display(),
        lab.path().display()
    ));
    let outcome = Demo::prepare(&lab, user_namespace, &report).and_then(|mut demo| demo.prove());
    if outcome.as_ref().is_err_and(|error| !error.is::<interrupt::Interrupted>()) {
        report.logs(&lab);
    }
    let made = cleanup::Made::find(&lab);
    let removed =
        lifecycle::down(&lab).context("taking the lab down").and_then(|()| before.verify(&lab, &made));
    match outcome.and(removed) {
        Ok(()) => {
            report.done("took everything down", &format!("{} are gone", made.describe()));
            report.summary();
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => interrupt::exit_code(error),
    }
}

fn own_folder() -> PathBuf {
    let mut folder = privilege::default_directory().into_os_string();
    folder.push(format!("-demo-{}", std::process::id()));
    folder.into()
}

impl Demo {
    fn prepare(lab: &LabDir, user_namespace: bool, report: &Report) -> Result<Self> {
        let topology = Topology::new(3, 1).map_err(anyhow::Error::msg)?;
        let settings = vec![("CALICO_IPV4POOL_CIDR".to_owned(), plan::POOL.to_owned())];
        let state = LabState { topology, settings, user_namespace, pods: Vec::new() };
        lifecycle::up(lab, &state)?;
        let hosts: Vec<_> =
            state.topology.hosts.iter().map(|host| format!("{} {}", host.name, host.address)).collect();
        report.done(
            "made three hosts on a fabric, with `tortie node` on one embedded datastore",
            &format!("ready: {}", hosts.join(", ")),
        );
        Ok(Self { lab: lab.clone(), state, report: report.clone(), servers: Vec::new() })
    }

    fn prove(&mut self) -> Result<()> {
        self.wait_for_mesh()?;
        self.make_pods()?;
        connectivity::prove(self).context("1. pods reach each other, routed and untouched")?;
        routing::prove(self).context("2. BGP status and routes")?;
        policy::prove(self).context("3. policy")?;
        restart::prove(self).context("4. a node killed and restarted")?;
        removal::prove(self).context("5. a pod removed")
    }

    fn wait_for_mesh(&mut self) -> Result<()> {
        let deadline = Instant::now() + MESH_LIMIT;
        let peers = self.state.topology.hosts.len() - 1;
        for host in &self.state.topology.hosts {
            process::wait_until(deadline, || {
                let status = node::status(&self.lab, &host.name)?;
                let up = status.peers.iter().filter(|peer| peer.state == "up").count();
                anyhow::ensure!(up == peers, "{}: {up} of {peers} sessions are Established", host.name);
                Ok(())
            })?;
        }
        self.report.done("waited for the BGP mesh", &format!("{peers} sessions Established on each host"));
        Ok(())
    }

    fn make_pods(&mut self) -> Result<()> {
        for pod in plan::pods() {
            interrupt::check()?;
            lifecycle::add_pod(&self.lab, pod)?;
        }
        self.state = self.lab.load()?;
        for pod in &self.state.pods {
            let namespace = Netns::open(self.lab.pod(pod))?;
            for port in plan::PORTS {
                self.servers.push(EchoServer::start(&namespace, port)?);
            }
        }
        let pods: Vec<_> = self
            .state
            .pods
            .iter()
            .map(|pod| format!("{} {} on {}", pod.full_name(), address(pod), pod.node))
            .collect();
        self.report.done("made two pods per host with the CNI plugin", &pods.join(", "));
        Ok(())
    }

    fn pod(&self, name: &str) -> Result<&Pod> {
        self.state.pod(name).with_context(|| format!("the demo has no pod {name}"))
    }

    fn namespace(&self, pod: &Pod) -> Result<Netns> {
        Ok(Netns::open(self.lab.pod(pod))?)
    }

    fn host(&self, name: &str) -> Result<Netns> {
        Ok(Netns::open(self.lab.host(name))?)
    }
}

/// The pod's IPv4 address. Every pod of the demo has one, or ADD would have failed.
fn address(pod: &Pod) -> std::net::Ipv4Addr {
    let v4 = pod.addresses.iter().find_map(|address| match address {
        std::net::IpAddr::V4(address) => Some(*address),
        std::net::IpAddr::V6(_) => None,
    });
    v4.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED)
}
