//! A TCP connection that carries numbered data all the time and notices any gap, error or retransmission.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kernel::netns::Netns;

use super::worker::Worker;

/// How long the stream may stand still before it counts as broken.
const STALL: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);

/// A running stream to an [`super::EchoServer`].
pub(crate) struct TcpStreamProbe {
    worker: Worker<Result<u64>>,
    /// Both ends, each of which sends.
    ends: [Netns; 2],
    retransmitted_before: u64,
}

/// What a stream did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes that went there and came back, in order.
    pub bytes: u64,
    /// TCP segments that either end's namespace had to send again meanwhile.
    pub retransmitted: u64,
}

impl TcpStreamProbe {
    /// Connects and begins to send, a small piece every 2 ms.
    ///
    /// # Errors
    /// No connection.
    pub(crate) fn start(from: &Netns, to: &Netns, target: Ipv4Addr, port: u16) -> Result<Self> {
        let ends = [from.clone(), to.clone()];
        let retransmitted_before = retransmitted(&ends)?;
        let stream = from
            .run(|| TcpStream::connect_timeout(&SocketAddr::from((target, port)), STALL))?
            .with_context(|| format!("cannot connect to {target}:{port}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(STALL))?;
        Ok(Self { worker: Worker::start(move |stop| run(stream, stop)), ends, retransmitted_before })
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// The connection broke, stalled, or brought back something else than was sent.
    pub(crate) fn finish(self) -> Result<Progress> {
        let bytes = self.worker.finish()??;
        Ok(Progress { bytes, retransmitted: retransmitted(&self.ends)? - self.retransmitted_before })
    }
}

fn run(mut stream: TcpStream, stop: &AtomicBool) -> Result<u64> {
    let mut number: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let sent = number.to_be_bytes();
        stream.write_all(&sent).context("the TCP stream cannot send")?;
        let mut back = [0; 8];
        stream.read_exact(&mut back).context("the TCP stream stalled")?;
        ensure!(back == sent, "the TCP stream brought back other data than was sent");
        std::thread::sleep(PAUSE);
    }
    Ok(number * 8)
}

fn retransmitted(ends: &[Netns]) -> Result<u64> {
    ends.iter().map(retransmitted_in).sum()
}

/// `RetransSegs` of the namespace (RFC 4022, tcpRetransSegs).
fn retransmitted_in(namespace: &Netns) -> Result<u64> {
    let text = namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
    let (Some(mut names), Some(mut values)) = (lines.next(), lines.next()) else {
        bail!("no Tcp lines in snmp")
    };
    let position = names.position(|name| name == "RetransSegs").context("no RetransSegs in snmp")?;
    values.nth(position).context("no RetransSegs in snmp")?.parse().context("RetransSegs in snmp")
}
