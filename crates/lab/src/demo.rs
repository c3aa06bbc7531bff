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

use std::time::Duration;

use anyhow::{Context, Result};
use kernel::netns::Netns;

use crate::lifecycle::{self, Plan};
use crate::probe::EchoServer;
use crate::process;
use crate::state::{LabDir, LabState, Pod};
use crate::topology::Topology;

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

/// Runs all steps in a lab of the demo's own, and leaves nothing behind, whatever happens.
///
/// # Errors
/// The step that failed, with what was seen instead.
pub(crate) fn run(lab: LabDir) -> Result<()> {
    lifecycle::require_root()?;
    let before = cleanup::Snapshot::take()?;
    let mut report = Report::start();
    let interrupted = cleanup::on_interrupt(&lab)?;
    let outcome = steps(lab.clone(), &mut report);
    if outcome.is_err() {
        report.logs(&lab);
    }
    drop(interrupted);
    let removed = lifecycle::down(&lab).context("taking the lab down").and_then(|()| before.verify(&lab));
    outcome?;
    removed?;
    report.done("took everything down", "no namespace, link, process, mount or file of the demo is left");
    report.summary();
    Ok(())
}

fn steps(lab: LabDir, report: &mut Report) -> Result<()> {
    let mut demo = Demo::prepare(lab, std::mem::replace(report, Report::start()))?;
    let outcome = demo.prove();
    *report = demo.report;
    outcome
}

impl Demo {
    fn prepare(lab: LabDir, mut report: Report) -> Result<Self> {
        let topology = Topology::new(3, 1).map_err(anyhow::Error::msg)?;
        let settings = vec![("CALICO_IPV4POOL_CIDR".to_owned(), plan::POOL.to_owned())];
        lifecycle::up(&lab, &Plan { topology, settings })?;
        let state = lab.load()?;
        let hosts: Vec<_> =
            state.topology.hosts.iter().map(|host| format!("{} {}", host.name, host.address)).collect();
        report.done(
            "made three hosts on a fabric, with `tortie node` on one embedded datastore",
            &format!("ready: {}", hosts.join(", ")),
        );
        Ok(Self { lab, state, report, servers: Vec::new() })
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
        let deadline = std::time::Instant::now() + MESH_LIMIT;
        let peers = self.state.topology.hosts.len() - 1;
        for host in &self.state.topology.hosts {
            process::wait_until(deadline, || {
                let status = process::status(&self.lab, &host.name)?;
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
            lifecycle::add_pod(&self.lab, &mut self.state, pod)?;
        }
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
