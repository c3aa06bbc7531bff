//! What a host looks like to Debian's `ip` and `nft`, and traffic between pods.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use kernel::netns::Netns;

use crate::lab::{Lab, text};

/// The lines of `ip route` on a host that satisfy a condition, without the mark of a link that has no carrier.
#[track_caller]
pub(crate) fn routes(lab: &Lab, host: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = lab.exec(host, "ip route");
    let plain = lines.lines().map(|line| line.trim().trim_end_matches(" linkdown"));
    plain.filter(|line| wanted(line)).map(str::to_owned).collect()
}

/// Our IPv4 chains and sets on a host, without counters, in the order of their names; nothing without our table.
pub(crate) fn rules(lab: &Lab, host: &str) -> String {
    let list = ["exec", host, "--", "nft", "--stateless", "list", "table", "ip", "calico"];
    let text = text(&lab.lab(&list).stdout);
    let table = text.trim_start_matches("table ip calico {\n").trim_end_matches("\n}\n");
    let mut blocks: Vec<_> = table.split("\n\n").collect();
    blocks.sort_unstable();
    blocks.join("\n\n")
}

/// A TCP server in a namespace that says hello, until dropped.
pub(crate) struct Server {
    address: SocketAddr,
    namespace: Netns,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    #[track_caller]
    pub(crate) fn start(namespace: &Netns, port: u16) -> Self {
        let listen = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
        let listener = namespace.run(listen).expect("the pod is there").expect("the port is free");
        let stop = Arc::<AtomicBool>::default();
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                while let Ok((mut stream, _)) = listener.accept() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // A client that has gone away has its verdict already.
                    let _ = stream.write_all(b"hello");
                }
            }
        });
        Self {
            address: (Ipv6Addr::LOCALHOST, port).into(),
            namespace: namespace.clone(),
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The connection that wakes it up; when that fails the listener is gone already.
        let woken = self.namespace.run(|| TcpStream::connect_timeout(&self.address, Duration::from_secs(5)));
        if matches!(woken, Ok(Ok(_))) {
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }
}

/// Whether a server in a pod is reached from another within a time limit.
pub(crate) fn reaches(from: &Netns, target: IpAddr, port: u16, limit: Duration) -> bool {
    let hello = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&(target, port).into(), limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.read_exact(&mut [0; 5])
    };
    matches!(from.run(hello), Ok(Ok(())))
}

/// Connections that are tried one after the other, all the time.
pub(crate) struct Attempts {
    stop: Arc<AtomicBool>,
    reached: Arc<AtomicUsize>,
    missed: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Attempts {
    pub(crate) fn start(from: Netns, target: IpAddr, port: u16, limit: Duration) -> Self {
        let (stop, reached, missed) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let thread = std::thread::spawn({
            let (stop, reached, missed) = (stop.clone(), reached.clone(), missed.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let counter = if reaches(&from, target, port, limit) { &reached } else { &missed };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { stop, reached, missed, thread: Some(thread) }
    }

    /// How many have been tried so far.
    pub(crate) fn tried(&self) -> usize {
        self.reached.load(Ordering::Relaxed) + self.missed.load(Ordering::Relaxed)
    }

    /// How many reached the server, and how many did not.
    pub(crate) fn finish(mut self) -> (usize, usize) {
        self.end();
        (self.reached.load(Ordering::Relaxed), self.missed.load(Ordering::Relaxed))
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        self.end();
    }
}
