//! Proof 3: policy written by a user holds within a second, and its removal restores everything.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use kernel::netns::Netns;

use super::{Demo, address, plan, routing};
use crate::probe::{Transport, reaches};

/// What the issue of a policy allows until the kernel has it everywhere.
const LIMIT: Duration = Duration::from_secs(1);
/// How long a probe waits before it counts as denied; an allowed one takes under a millisecond.
const PROBE: Duration = Duration::from_millis(200);

/// A flow, and whether both policies together allow it.
struct Flow {
    from: &'static str,
    to: &'static str,
    transport: Transport,
    port: u16,
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

/// The denied flow that the restart must not let through.
pub(crate) fn a_denied_flow() -> (&'static str, &'static str, Transport, u16) {
    ("shop/cache", "shop/db", Transport::Tcp, 8080)
}

pub(crate) fn prove(demo: &mut Demo) -> Result<()> {
    await_verdicts(demo, |_| true)?;
    demo.report.done("3. tried every flow before any policy", &format!("all {} go through", FLOWS.len()));
    let took = apply_policies(demo)?;
    let denied = FLOWS.iter().filter(|flow| !flow.allowed).count();
    demo.report.done(
        "3. applied a Kubernetes NetworkPolicy and a Calico GlobalNetworkPolicy",
        &format!(
            "within {} ms the {denied} denied flows (TCP and UDP, ingress and egress, by selector, namespace, port and \
             CIDR) stopped, and the {} allowed ones go on",
            took.as_millis(),
            FLOWS.len() - denied
        ),
    );
    let took = delete_policies(demo)?;
    demo.report.done(
        "3. deleted both policies",
        &format!("within {} ms all {} flows go through again", took.as_millis(), FLOWS.len()),
    );
    Ok(())
}

/// Writes the policies to files and applies them, as a user does; the time from then until all verdicts are right.
pub(crate) fn apply_policies(demo: &Demo) -> Result<Duration> {
    write_files(demo)?;
    for file in FILES {
        routing::calicoctl(demo, None, &["apply", "-f", &path(demo, file)])?;
    }
    await_verdicts(demo, |flow| flow.allowed)
}

/// The reverse.
pub(crate) fn delete_policies(demo: &Demo) -> Result<Duration> {
    for file in FILES {
        routing::calicoctl(demo, None, &["delete", "-f", &path(demo, file)])?;
    }
    await_verdicts(demo, |_| true)
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

/// Tries all flows at once, again and again, until each verdict is as expected; the time that it took.
fn await_verdicts(demo: &Demo, expected: impl Fn(&Flow) -> bool) -> Result<Duration> {
    let probes = FLOWS
        .iter()
        .map(|flow| Ok((flow, demo.namespace(demo.pod(flow.from)?)?, address(demo.pod(flow.to)?))))
        .collect::<Result<Vec<(&Flow, Netns, Ipv4Addr)>>>()?;
    let start = Instant::now();
    loop {
        let begun = start.elapsed();
        let wrong = wrong_verdicts(&probes, &expected);
        if wrong.is_empty() {
            return Ok(begun);
        }
        if begun > LIMIT {
            bail!("after {} ms still: {}", begun.as_millis(), wrong.join("; "));
        }
    }
}

fn wrong_verdicts(probes: &[(&Flow, Netns, Ipv4Addr)], expected: impl Fn(&Flow) -> bool) -> Vec<String> {
    let reached: Vec<bool> = std::thread::scope(|scope| {
        let threads: Vec<_> = probes
            .iter()
            .map(|(flow, from, to)| scope.spawn(move || reaches(from, flow.transport, *to, flow.port, PROBE)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(false)).collect()
    });
    let wrong = probes.iter().zip(reached).filter(|((flow, ..), reached)| expected(flow) != *reached);
    wrong
        .map(|((flow, ..), reached)| {
            let verdict = if reached { "goes through" } else { "does not go through" };
            format!("{} to {} {} {} {verdict}", flow.from, flow.to, flow.transport, flow.port)
        })
        .collect()
}
