//! Proof 4: forwarding and policy do not depend on the process.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::{Demo, address, policy};
use crate::node::{self, READY_LIMIT};
use crate::probe::{Attempts, PingStream, TcpStreamProbe, Watch};
use crate::{interrupt, process};

const PING_INTERVAL: Duration = Duration::from_millis(10);
/// How long the host is left without a node.
const ABSENCE: Duration = Duration::from_millis(500);
/// How long the streams go on after the node is ready again: longer than the next sweep of stale routes.
const AFTERWARDS: Duration = Duration::from_secs(2);

pub(crate) fn prove(demo: &mut Demo) -> Result<()> {
    policy::apply_policies(demo)?;
    // The host of the one end, and that of the other; the policy that denies is on the second.
    for host in ["node-1", "node-2"] {
        restart(demo, host).with_context(|| host.to_owned())?;
    }
    Ok(())
}

fn restart(demo: &mut Demo, name: &str) -> Result<()> {
    let (from, to) = (demo.pod("shop/web")?.clone(), demo.pod("shop/db")?.clone());
    // The policy lets nothing but TCP 8080 into the database, so ping from there: the replies come back by conntrack.
    let pinging = PingStream::start(&demo.namespace(&to)?, address(&from), PING_INTERVAL)?;
    let stream = TcpStreamProbe::start(&demo.namespace(&from)?, &demo.namespace(&to)?, address(&to), 8080)?;
    let denied = Denied::start(demo)?;
    let started = kill_and_start(demo, name)?;
    interrupt::pause(AFTERWARDS)?;
    let (sent, lost) = pinging.finish()?;
    let progress = stream.finish()?;
    let (tried, passed) = denied.finish()?;
    ensure!(sent > 0 && progress.bytes > 0 && tried > 0, "there was no traffic, so nothing is proven");
    ensure!(lost == 0, "{lost} of {sent} pings were lost");
    ensure!(progress.retransmitted == 0, "{} TCP segments had to be sent again", progress.retransmitted);
    ensure!(passed == 0, "{passed} packets of a denied flow arrived in {tried} attempts");
    demo.report.done(
        &format!("4. killed {name}'s node with SIGKILL and started it again under traffic"),
        &format!(
            "ready after {} ms; {sent} pings at 100/s, 0 lost; TCP stream of {} round trips, 0 segments sent again; \
             a denied flow was tried {tried} times, and not one packet of it arrived",
            started.as_millis(),
            progress.bytes / 8
        ),
    );
    Ok(())
}

/// The time from the start until the node is ready.
fn kill_and_start(demo: &Demo, name: &str) -> Result<Duration> {
    process::end(&[node::process(&demo.lab, name)?], Signal::KILL)?;
    interrupt::pause(ABSENCE)?;
    ensure!(node::status(&demo.lab, name).is_err(), "a node still answers on {name}");
    let host = demo.state.topology.host(name).context("no such host")?;
    let start = Instant::now();
    let mut node = node::start(&demo.lab, &demo.state, host)?;
    node::wait_ready(&demo.lab, std::slice::from_mut(&mut node), READY_LIMIT)?;
    Ok(start.elapsed())
}

/// A denied flow that is tried all the time, watched where it must not arrive: a packet that slipped through would be seen
/// even if its answer came too late or not at all.
struct Denied {
    arrivals: Watch,
    attempts: Vec<Attempts>,
}

impl Denied {
    /// Several at once, so that hardly a millisecond passes without a packet that must not go through.
    const THREADS: usize = 8;

    fn start(demo: &Demo) -> Result<Self> {
        let flow = policy::a_denied_flow();
        let (from, to) = (demo.pod(flow.from)?, demo.pod(flow.to)?);
        let (source, target) = (address(from), address(to));
        let arrivals = Watch::start(&demo.namespace(to)?, move |seen| seen.source == source)?;
        let attempts = (0..Self::THREADS)
            .map(|_| Ok(Attempts::start(demo.namespace(from)?, flow.transport, target, flow.port)))
            .collect::<Result<_>>()?;
        Ok(Self { arrivals, attempts })
    }

    /// How often it was tried, and how many packets of it arrived.
    fn finish(self) -> Result<(usize, usize)> {
        let tried = self.attempts.into_iter().map(Attempts::finish).sum::<Result<usize>>()?;
        Ok((tried, self.arrivals.finish()?))
    }
}
