//! Proof 3: policy written by a user holds within a second, and its removal restores everything.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kernel::netns::Netns;

use super::{Demo, address, plan, routing};
use crate::interrupt;
use crate::probe::{Transport, reaches};

/// From the moment that a user applies a policy until all hosts' kernels have it.
const LIMIT: Duration = Duration::from_secs(1);
/// How long a flow that should be denied is given to go through; one that is allowed takes under a millisecond.
const DENIED_LIMIT: Duration = Duration::from_millis(200);
/// How long a flow that should be allowed is given; it ends as soon as the answer is there.
const ALLOWED_LIMIT: Duration = Duration::from_secs(1);

/// A flow, and whether both policies together allow it.
pub(crate) struct Flow {
    pub from: &'static str,
    pub to: &'static str,
    pub transport: Transport,
    pub port: u16,
    allowed: bool,
}

const fn flow(from: &'static str, to: &'static str, transport: Transport, port: u16, allowed: bool) -> Flow {
    Flow { from, to, transport, port, allowed }
}

const FLOWS: &[Flow] = &{
    use Transport::{Tcp, Udp};
    [
        // Ingress to the database: a selector and a port, a namespace and a port.
        flow("shop/web", "shop/db", Tcp, 8080, true),
        flow("shop/web", "shop/db", Tcp, 5353, false),
        flow("shop/web", "shop/db", Udp, 8080, false),
        flow("shop/cache", "shop/db", Tcp, 8080, false),
        flow("guests/carol", "shop/db", Udp, 5353, true),
        flow("guests/carol", "shop/db", Tcp, 8080, false),
        flow("guests/bob", "shop/db", Udp, 5353, false),
        // Egress of guests: a CIDR with a range of ports, a selector with a namespace.
        flow("guests/alice", "shop/cache", Tcp, 8080, false),
        flow("guests/alice", "shop/cache", Tcp, 5353, true),
        flow("guests/alice", "shop/cache", Udp, 8080, true),
        flow("guests/bob", "shop/web", Udp, 5353, false),
        flow("guests/bob", "shop/web", Tcp, 5353, true),
        flow("guests/carol", "shop/web", Udp, 5353, true),
        // Nobody's policy.
        flow("shop/cache", "shop/web", Tcp, 8080, true),
    ]
};

/// The denied flow that the restart must not let through: into the database, from a pod that its policy does not name.
pub(crate) fn a_denied_flow() -> Flow {
    flow("shop/cache", "shop/db", Transport::Tcp, 8080, false)
}

pub(crate) fn prove(demo: &mut Demo) -> Result<()> {
    await_verdicts(demo, Instant::now(), |_| true)?;
    demo.report.done("3. tried every flow before any policy", &format!("all {} go through", FLOWS.len()));
    let took = apply_policies(demo)?;
    let denied = FLOWS.iter().filter(|flow| !flow.allowed).count();
    demo.report.done(
        "3. applied a Kubernetes NetworkPolicy and a Calico GlobalNetworkPolicy with calicoctl apply -f",
        &format!(
            "{} ms later the {denied} denied flows (TCP and UDP, ingress and egress, by selector, namespace, port and \
             CIDR) stopped, and the {} allowed ones went on all the time",
            took.as_millis(),
            FLOWS.len() - denied
        ),
    );
    let took = delete_policies(demo)?;
    demo.report.done(
        "3. deleted both policies with calicoctl delete -f",
        &format!("{} ms later all {} flows go through again", took.as_millis(), FLOWS.len()),
    );
    Ok(())
}

/// Writes the policies to files and applies them, as a user does; the time from then until all verdicts are right.
pub(crate) fn apply_policies(demo: &Demo) -> Result<Duration> {
    write_files(demo)?;
    let start = Instant::now();
    for file in FILES {
        routing::calicoctl(demo, None, &["apply", "-f", &path(demo, file)])?;
    }
    await_verdicts(demo, start, |flow| flow.allowed)
}

/// The reverse.
fn delete_policies(demo: &Demo) -> Result<Duration> {
    let start = Instant::now();
    for file in FILES {
        routing::calicoctl(demo, None, &["delete", "-f", &path(demo, file)])?;
    }
    await_verdicts(demo, start, |_| true)
}

const FILES: [&str; 2] = ["db-ingress.yaml", "guests-egress.yaml"];

fn path(demo: &Demo, file: &str) -> String {
    demo.lab.path().join(file).to_string_lossy().into_owned()
}

fn write_files(demo: &Demo) -> Result<()> {
    let cache = address(demo.pod("shop/cache")?).to_string();
    fs::write(path(demo, FILES[0]), plan::KUBERNETES_POLICY)?;
    fs::write(path(demo, FILES[1]), plan::CALICO_POLICY.replace("CACHE", &cache))?;
    Ok(())
}

/// A flow, the namespace that it comes from, and the address that it goes to.
type Probe = (&'static Flow, Netns, Ipv4Addr);

/// Tries all flows at once, again and again, until each verdict is as expected; the time from `start` to the beginning of
/// the round in which they were. A flow that is allowed throughout must not fail even once.
fn await_verdicts(demo: &Demo, start: Instant, expected: impl Fn(&Flow) -> bool) -> Result<Duration> {
    let probes = FLOWS
        .iter()
        .map(|flow| Ok((flow, demo.namespace(demo.pod(flow.from)?)?, address(demo.pod(flow.to)?))))
        .collect::<Result<Vec<Probe>>>()?;
    loop {
        interrupt::check()?;
        let begun = start.elapsed();
        let wrong = wrong_verdicts(&probes, &expected);
        if wrong.is_empty() {
            return Ok(begun);
        }
        let interrupted = wrong.iter().find(|flow| flow.allowed);
        ensure!(interrupted.is_none(), "an allowed flow was interrupted: {}", describe(&wrong, &expected));
        ensure!(begun <= LIMIT, "after {} ms still: {}", begun.as_millis(), describe(&wrong, &expected));
    }
}

fn wrong_verdicts(probes: &[Probe], expected: impl Fn(&Flow) -> bool) -> Vec<&'static Flow> {
    let reached: Vec<bool> = std::thread::scope(|scope| {
        let threads: Vec<_> = probes
            .iter()
            .map(|(flow, from, to)| {
                let limit = if expected(flow) { ALLOWED_LIMIT } else { DENIED_LIMIT };
                scope.spawn(move || reaches(from, flow.transport, *to, flow.port, limit))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(false)).collect()
    });
    let wrong = probes.iter().zip(reached).filter(|((flow, ..), reached)| expected(flow) != *reached);
    wrong.map(|((flow, ..), _)| *flow).collect()
}

fn describe(wrong: &[&Flow], expected: impl Fn(&Flow) -> bool) -> String {
    let lines: Vec<_> = wrong
        .iter()
        .map(|flow| {
            let verdict = if expected(flow) { "does not go through" } else { "goes through" };
            format!("{} to {} {} {} {verdict}", flow.from, flow.to, flow.transport, flow.port)
        })
        .collect();
    lines.join("; ")
}
