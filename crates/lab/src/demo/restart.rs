//! Proof 4: forwarding and policy do not depend on the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::{Demo, address, policy};
use crate::lifecycle::READY_LIMIT;
use crate::probe::{PingStream, TcpStreamProbe, reaches};
use crate::process;

const PING_INTERVAL: Duration = Duration::from_millis(10);
/// How long the host is left without a node.
const ABSENCE: Duration = Duration::from_millis(500);
/// How long the streams go on after the node is ready again: longer than the next sweep of stale routes.
const AFTERWARDS: Duration = Duration::from_secs(2);

pub(crate) fn prove(demo: &mut Demo) -> Result<()> {
    policy::apply_policies(demo)?;
    // The host of the sender, and that of the receiver.
    for host in ["node-1", "node-2"] {
        restart(demo, host).with_context(|| host.to_owned())?;
    }
    policy::delete_policies(demo)?;
    Ok(())
}

fn restart(demo: &mut Demo, name: &str) -> Result<()> {
    let (from, to) = (demo.pod("shop/web")?.clone(), demo.pod("shop/db")?.clone());
    let namespace = demo.namespace(&from)?;
    // Replies of a ping come through conntrack only, since the policy lets nothing but TCP 8080 in; so ping the other way.
    let pinging = PingStream::start(&demo.namespace(&to)?, address(&from), PING_INTERVAL)?;
    let stream = TcpStreamProbe::start(&namespace, address(&to), 8080)?;
    let denied = Denied::start(demo)?;
    let started = kill_and_start(demo, name)?;
    std::thread::sleep(AFTERWARDS);
    let (sent, lost) = pinging.finish()?;
    let progress = stream.finish()?;
    let (tried, passed) = denied.finish();
    ensure!(lost == 0, "{lost} of {sent} pings were lost");
    ensure!(progress.retransmitted == 0, "{} TCP segments had to be sent again", progress.retransmitted);
    ensure!(passed == 0, "{passed} of {tried} attempts of a denied flow went through");
    demo.report.done(
        &format!("4. killed {name}'s node with SIGKILL and started it again under traffic"),
        &format!(
            "ready after {} ms; {sent} pings at 100/s, 0 lost; TCP stream of {} round trips, 0 segments sent again; \
             a denied flow tried {tried} times, 0 through",
            started.as_millis(),
            progress.bytes / 8
        ),
    );
    Ok(())
}

/// The time from the start until the node is ready.
fn kill_and_start(demo: &Demo, name: &str) -> Result<Duration> {
    let nodes: Vec<_> = process::running(&demo.lab)
        .into_iter()
        .filter(|process| process.host.as_deref() == Some(name))
        .collect();
    ensure!(nodes.len() == 1, "{} node processes run on {name}, not one", nodes.len());
    process::end(&nodes, Signal::KILL)?;
    std::thread::sleep(ABSENCE);
    let host = demo.state.topology.host(name).context("no such host")?.clone();
    let start = Instant::now();
    process::start(&demo.lab, &host, &[])?;
    process::wait_ready(&demo.lab, &[host], READY_LIMIT)?;
    Ok(start.elapsed())
}

/// Tries a denied flow all the time.
struct Denied {
    stop: Arc<AtomicBool>,
    tried: Arc<AtomicUsize>,
    passed: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Denied {
    fn start(demo: &Demo) -> Result<Self> {
        let (from, to, transport, port) = policy::a_denied_flow();
        let target = address(demo.pod(to)?);
        let (stop, tried, passed) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let attempt = |namespace: kernel::netns::Netns| {
            let (stop, tried, passed) = (stop.clone(), tried.clone(), passed.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    tried.fetch_add(1, Ordering::Relaxed);
                    let through = reaches(&namespace, transport, target, port, Duration::from_millis(40));
                    passed.fetch_add(usize::from(through), Ordering::Relaxed);
                }
            })
        };
        // Several at once, so that hardly a millisecond passes without a packet that must not go through.
        let namespaces = (0..8).map(|_| demo.namespace(demo.pod(from)?)).collect::<Result<Vec<_>>>()?;
        let threads = namespaces.into_iter().map(attempt).collect();
        Ok(Self { stop, tried, passed, threads })
    }

    fn finish(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            // A probe cannot panic; if it did, its attempts still count.
            let _ = thread.join();
        }
        (self.tried.load(Ordering::Relaxed), self.passed.load(Ordering::Relaxed))
    }
}
