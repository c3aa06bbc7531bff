//! A host: a network namespace with an address, a datastore file, and `tortie node` in it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::wire::{Answer, Request};
use client::Patience;
use datastore::Sqlite;
use kernel::InterfaceName;
use kernel::Rtnetlink;
use kernel::address::AddressOptions;
use kernel::link::{LinkChange, NewVeth, VethEnd};
use rustix::process::{Pid, Signal, kill_process};
use testkit::TestNamespace;

use super::cluster::{self, NODE};
use super::memory;

const READY_LIMIT: Duration = Duration::from_secs(60);
/// How often a starting node is asked; adds at most this to a start-up time.
const ASK_EVERY: Duration = Duration::from_millis(2);

/// A host. Its processes, files and namespace go with it.
pub(crate) struct Host {
    // Dropped in this order: the process before what it uses.
    node: Option<Node>,
    pub(crate) namespace: TestNamespace,
    folder: tempfile::TempDir,
}

/// A node process; ended with this.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Host {
    /// A host without a node, with 172.31.0.1/24 on its uplink.
    pub(crate) fn new() -> Result<Self> {
        let host = Self {
            node: None,
            namespace: TestNamespace::new(),
            folder: tempfile::Builder::new().prefix("tortie-bench-").tempdir()?,
        };
        for name in ["tortie", "calico"] {
            symlink(binary()?, host.path(name))?;
        }
        host.namespace.run(uplink)?;
        Ok(host)
    }

    /// A path in the host's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/node.sock")
    }

    /// The host's datastore, opened as another process would.
    pub(crate) fn store(&self) -> Result<Sqlite> {
        Ok(Sqlite::open(self.datastore())?)
    }

    pub(crate) fn datastore(&self) -> PathBuf {
        self.path("tortie.db")
    }

    /// Makes the host's ends of local pods' links.
    pub(crate) fn make_interfaces(&self, pods: usize) -> Result<()> {
        self.namespace.run(|| {
            let mut links = Rtnetlink::open()?;
            (0..pods)
                .try_for_each(|number| veth(&mut links, &cluster::interface(number), &format!("far{number}")))
        })
    }

    /// Starts the node; does not wait.
    pub(crate) fn start_node(&mut self) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(self.path("node.log"))?;
        let mut command = Command::new(self.path("tortie"));
        command
            .arg("node")
            .env("DATASTORE_TYPE", "embedded")
            .env("TORTIE_DATASTORE", self.datastore())
            .env("TORTIE_RUN_DIR", self.path("run"))
            .env("CALICO_NODENAME_FILE", self.path("nodename"))
            .env("CALICO_IPV4POOL_CIDR", "10.64.0.0/16")
            .env("NODENAME", NODE)
            .env("IP", "autodetect")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.node = Some(Node(self.namespace.run(|| command.spawn())?));
        Ok(())
    }

    /// Waits until the node says that it is ready.
    pub(crate) fn wait_ready(&self) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let reason = match client::ask(&self.socket(), &Request::NodeStatus, Patience::TERMINAL) {
                Ok(Answer::NodeStatus(status)) if status.not_ready.is_empty() => return Ok(()),
                Ok(Answer::NodeStatus(status)) => status.not_ready.join("; "),
                Ok(other) => format!("{other:?}"),
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline {
                bail!("the node is not ready: {reason}; its log ends with:\n{}", self.end_of_log());
            }
            std::thread::sleep(ASK_EVERY);
        }
    }

    /// Stops the node as an administrator does, and waits for its end.
    pub(crate) fn stop_node(&mut self) -> Result<()> {
        let Some(mut node) = self.node.take() else { return Ok(()) };
        kill_process(Pid::from_child(&node.0), Signal::TERM)?;
        node.0.wait()?;
        Ok(())
    }

    /// The node's process id, when it runs.
    pub(crate) fn node_id(&self) -> Option<u32> {
        self.node.as_ref().map(|node| node.0.id())
    }

    /// A figure of the node's `/proc/PID/FILE`, in KiB.
    pub(crate) fn memory_kib(&self, file: &str, field: &str) -> Result<u64> {
        let node = self.node.as_ref().context("no node runs")?;
        memory::kib(node.0.id(), file, field)
    }

    /// What `nft` finds in the host's kernel.
    pub(crate) fn nft(&self, arguments: &str) -> String {
        self.namespace.command(&format!("nft {arguments}"))
    }

    fn end_of_log(&self) -> String {
        let log = fs::read_to_string(self.path("node.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

/// The `tortie` beside this program.
pub(crate) fn binary() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let tortie = this.parent().unwrap_or(Path::new("/")).join("tortie");
    if !tortie.exists() {
        bail!("{} does not exist; build it, or run scripts/bench", tortie.display());
    }
    Ok(tortie)
}

fn uplink() -> Result<()> {
    let mut links = Rtnetlink::open()?;
    links.change_link(&InterfaceName::new("lo")?, &LinkChange::up())?;
    veth(&mut links, "eth0", "fabric")?;
    let index = links.link(&InterfaceName::new("eth0")?)?.context("the link has vanished")?.index;
    links.add_address(index, "172.31.0.1/24".parse()?, AddressOptions::default())?;
    Ok(())
}

/// A pair of links, both up.
fn veth(links: &mut Rtnetlink, near: &str, far: &str) -> Result<()> {
    let (near, far) = (InterfaceName::new(near)?, InterfaceName::new(far)?);
    let end = |name: &InterfaceName| VethEnd { name: name.clone(), mac: None, namespace: None };
    links.create_veth(&NewVeth { near: end(&near), far: end(&far), mtu: None, queues: None })?;
    links.change_link(&far, &LinkChange::up())?;
    links.change_link(&near, &LinkChange::up())?;
    Ok(())
}
