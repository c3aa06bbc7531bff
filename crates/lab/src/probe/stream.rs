//! A TCP connection that carries numbered data all the time and notices any gap, error or retransmission.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kernel::netns::Netns;

/// A running stream to an [`super::EchoServer`].
pub(crate) struct TcpStreamProbe {
    stop: Arc<AtomicBool>,
    worker: JoinHandle<Result<Progress>>,
    namespace: Netns,
    retransmitted_before: u64,
}

/// What a stream did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes that went there and came back, in order.
    pub bytes: u64,
    /// Longest time between sending a piece and having it back.
    pub longest: Duration,
    /// TCP segments that the sender's namespace had to send again meanwhile.
    pub retransmitted: u64,
}

impl TcpStreamProbe {
    /// Connects and begins to send, a small piece every 2 ms.
    ///
    /// # Errors
    /// No connection.
    pub(crate) fn start(from: &Netns, target: Ipv4Addr, port: u16) -> Result<Self> {
        let retransmitted_before = retransmitted(from)?;
        let stream = from
            .run(|| TcpStream::connect_timeout(&SocketAddr::from((target, port)), Duration::from_secs(2)))?
            .with_context(|| format!("cannot connect to {target}:{port}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let worker = std::thread::spawn({
            let stop = stop.clone();
            move || run(stream, &stop)
        });
        let namespace = from.run(Netns::current)??;
        Ok(Self { stop, worker, namespace, retransmitted_before })
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// The connection broke, stalled for 5 s, or brought back something else than was sent.
    pub(crate) fn finish(self) -> Result<Progress> {
        self.stop.store(true, Ordering::Relaxed);
        let Ok(outcome) = self.worker.join() else { bail!("the stream's thread panicked") };
        let retransmitted = retransmitted(&self.namespace)? - self.retransmitted_before;
        Ok(Progress { retransmitted, ..outcome? })
    }
}

fn run(mut stream: TcpStream, stop: &AtomicBool) -> Result<Progress> {
    let mut progress = Progress { bytes: 0, longest: Duration::ZERO, retransmitted: 0 };
    let mut number: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let sent = number.to_be_bytes();
        let start = Instant::now();
        stream.write_all(&sent).context("the stream cannot send")?;
        let mut back = [0; 8];
        stream.read_exact(&mut back).context("the stream stalled")?;
        ensure!(back == sent, "the stream brought back other data than was sent");
        progress.bytes += 8;
        progress.longest = progress.longest.max(start.elapsed());
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(progress)
}

/// `RetransSegs` of the namespace (RFC 4022, tcpRetransSegs).
fn retransmitted(namespace: &Netns) -> Result<u64> {
    let text = namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
    let (Some(names), Some(mut values)) = (lines.next(), lines.next()) else { bail!("no Tcp lines in snmp") };
    let position =
        names.into_iter().position(|name| name == "RetransSegs").context("no RetransSegs in snmp")?;
    values.nth(position).context("no RetransSegs in snmp")?.parse().context("RetransSegs in snmp")
}
