//! A host: a network namespace with a `tortie node` on a datastore of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use api::wire::{Answer, Request};
use api::{
    ClusterInformation, ClusterInformationSpec, IPPool, IPPoolSpec, Key, Kind, Metadata, Resource, Row,
    WorkloadEndpoint,
};
use client::Patience;
use datastore::{Scope, Sqlite, Store, StoreError, objects};
use ipam::{Assignment, Ipam};
use serde_json::Value;
use testkit::TestNamespace;

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(20);
/// As a plugin waits for an answer.
const PATIENCE: Patience = Patience { connect: Duration::ZERO, answer: Duration::from_secs(90) };

/// A host with its node. Everything is gone when it is dropped, also by a panic.
pub(crate) struct World {
    /// The host's namespace.
    pub(crate) host: TestNamespace,
    /// Its folder: datastore, sockets, binaries, pods' namespaces.
    folder: tempfile::TempDir,
    /// The datastore, as another process sees it.
    pub(crate) store: Sqlite,
    /// NODENAME; none: the node takes the host's name.
    node_name: Option<String>,
    node: Option<Child>,
}

impl World {
    /// A host whose node is ready. It has no pools.
    pub(crate) fn new(node_name: Option<&str>) -> Self {
        let host = TestNamespace::new();
        host.command("ip link set lo up");
        host.command("ip link add uplink type veth peer name fabric");
        host.command("ip address add 172.30.0.1/24 dev uplink");
        host.command("ip link set uplink up");
        host.command("ip link set fabric up");
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["bin", "run", "lib"] {
            fs::create_dir(folder.path().join(name)).expect("a new folder");
        }
        for name in ["calico", "calico-ipam"] {
            link(env!("CARGO_BIN_EXE_tortie"), &folder.path().join("bin").join(name));
        }
        let store = Sqlite::open(folder.path().join("tortie.db")).expect("a new datastore");
        let mut world = Self { host, folder, store, node_name: node_name.map(str::to_owned), node: None };
        world.start_node();
        world
    }

    /// A path in the host's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// CNI_PATH.
    pub(crate) fn bin(&self) -> PathBuf {
        self.path("bin")
    }

    /// Makes another plugin available in CNI_PATH.
    pub(crate) fn install(&self, plugin: &str) {
        let source = Path::new("/usr/lib/cni").join(plugin);
        assert!(source.exists(), "{} is missing: install containernetworking-plugins", source.display());
        link(source, &self.bin().join(plugin));
    }

    /// The node's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/node.sock")
    }

    /// Files that a host has in `/var/lib/calico`.
    pub(crate) fn host_file(&self, name: &str) -> PathBuf {
        self.path("lib").join(name)
    }

    /// Starts the node and waits until it is ready.
    pub(crate) fn start_node(&mut self) {
        self.launch_node();
        self.wait_for("the node to be ready", || match self.ask(&Request::NodeStatus) {
            Ok(Answer::NodeStatus(status)) if status.not_ready.is_empty() => Ok(()),
            other => Err(format!("{other:?}; {}", self.log())),
        });
    }

    /// Starts the node.
    pub(crate) fn launch_node(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).expect("a log file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
        command
            .arg("node")
            .env_clear()
            .env("TORTIE_DATASTORE", self.path("tortie.db"))
            .env("TORTIE_RUN_DIR", self.path("run"))
            .env("CALICO_NODENAME_FILE", self.host_file("nodename"))
            .env("CALICO_NETWORKING_BACKEND", "none")
            .env("NO_DEFAULT_POOLS", "true")
            .env("IP", "172.30.0.1/24")
            .env("FELIX_HEALTHENABLED", "true")
            .envs(self.node_name.iter().map(|name| ("NODENAME", name)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.node = Some(self.host.run(|| command.spawn()).expect("the node starts"));
    }

    /// Kills the node as a crash would.
    pub(crate) fn kill_node(&mut self) {
        let Some(mut node) = self.node.take() else { return };
        node.kill().expect("our own child");
        node.wait().expect("our own child");
    }

    /// Asks the node.
    pub(crate) fn ask(&self, request: &Request) -> Result<Answer, String> {
        client::ask(&self.socket(), request, PATIENCE).map_err(|error| error.to_string())
    }

    /// What the node has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until something holds.
    pub(crate) fn wait_for(&self, what: &str, mut holds: impl FnMut() -> Result<(), String>) {
        let deadline = Instant::now() + LIMIT;
        while let Err(reason) = holds() {
            assert!(Instant::now() < deadline, "waited for {what}: {reason}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Creates or replaces a resource.
    pub(crate) fn put(&self, resource: Resource) {
        let row = Row::Resource(resource);
        let (key, text) = (row.key(), row.encode());
        match self.store.create(&key, &text) {
            Err(StoreError::AlreadyExists(_)) => self.store.update(&key, &text, None),
            written => written,
        }
        .unwrap_or_else(|error| panic!("{key}: {error}"));
    }

    /// Makes a pool.
    pub(crate) fn add_pool(&self, name: &str, cidr: &str) {
        let spec = IPPoolSpec::new(cidr.parse().expect("a CIDR"));
        self.put(IPPool::new(Metadata::named(name), spec).into());
    }

    /// Makes a resource from the JSON of its spec.
    pub(crate) fn add_resource(&self, kind: Kind, metadata: &Value, spec: &Value) {
        let key = Key::cluster(kind, metadata["name"].as_str().expect("a name"));
        let text = serde_json::json!({
            "apiVersion": "projectcalico.org/v3", "kind": kind.name(), "metadata": metadata, "spec": spec,
        });
        let row = Row::decode(&key, &text.to_string()).unwrap_or_else(|error| panic!("{text}: {error}"));
        let Row::Resource(resource) = row else { panic!("{text} is no resource") };
        self.put(resource);
    }

    /// All workload endpoints.
    pub(crate) fn endpoints(&self) -> Vec<WorkloadEndpoint> {
        let entries = self.store.list(&Scope::all(Kind::WorkloadEndpoint)).expect("a list").entries;
        let endpoint = |entry: &datastore::Entry| match entry.row() {
            Ok(Row::Resource(Resource::WorkloadEndpoint(endpoint))) => *endpoint,
            other => panic!("{other:?}"),
        };
        entries.iter().map(endpoint).collect()
    }

    /// The endpoint of a container.
    pub(crate) fn endpoint_of(&self, container: &str) -> Option<WorkloadEndpoint> {
        self.endpoints().into_iter().find(|endpoint| endpoint.spec.container_id == container)
    }

    /// All assigned addresses.
    pub(crate) fn assignments(&self) -> Vec<Assignment> {
        self.ipam().assignments().expect("a list of blocks")
    }

    /// Addresses of a container.
    pub(crate) fn held_by(&self, handle: &str) -> Vec<std::net::IpAddr> {
        self.ipam().ips_by_handle(handle).unwrap_or_default()
    }

    /// IPAM, as another process.
    pub(crate) fn ipam(&self) -> Ipam {
        Ipam::new(std::sync::Arc::new(self.store.clone()))
    }

    /// The name that the node has given itself.
    pub(crate) fn node(&self) -> String {
        fs::read_to_string(self.host_file("nodename")).expect("the node has written its name")
    }

    /// Workload links of the host, and routes to workloads.
    pub(crate) fn links_and_routes(&self) -> Vec<String> {
        let links = self.host.command("ip -oneline link show");
        let routes = [self.host.command("ip -4 route show"), self.host.command("ip -6 route show")].concat();
        let lines = links.lines().chain(routes.lines());
        lines.filter(|line| line.contains("cali")).map(str::to_owned).collect()
    }

    /// What is there of sandboxes: nothing after all of them are deleted.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let endpoints = self.endpoints().into_iter().map(|endpoint| format!("endpoint {endpoint:?}"));
        let assigned = self.assignments().into_iter().map(|assignment| format!("address {assignment:?}"));
        endpoints.chain(assigned).chain(self.links_and_routes()).collect()
    }

    /// Waits until there is nothing of any sandbox (links are deleted in the background).
    pub(crate) fn assert_clean(&self) {
        self.wait_for("everything to be gone", || match &self.leftovers()[..] {
            [] => Ok(()),
            left => Err(left.join("\n")),
        });
    }

    /// Says whether the datastore is ready; none: there is no ClusterInformation.
    pub(crate) fn set_ready(&self, ready: Option<bool>) {
        let key = Key::cluster(Kind::ClusterInformation, "default");
        match ready {
            Some(_) => {
                let spec = ClusterInformationSpec { datastore_ready: ready, ..Default::default() };
                self.put(ClusterInformation::new(Metadata::named("default"), spec).into());
            }
            None => self.delete(&key),
        }
    }

    /// Deletes a row, if it is there.
    pub(crate) fn delete(&self, key: &Key) {
        match self.store.delete(key, None) {
            Ok(_) | Err(StoreError::NotFound(_)) => {}
            Err(error) => panic!("{key}: {error}"),
        }
    }

    /// Makes the datastore as a fresh node finds it: what pods and pools have left goes.
    pub(crate) fn reset_store(&self) {
        let scopes = [
            Scope::all(Kind::IPPool),
            Scope::all(Kind::Profile),
            Scope::all(Kind::WorkloadEndpoint),
            Scope::Blocks,
            Scope::BlockAffinities { host: None },
            Scope::Handles,
            Scope::IpamConfig,
        ];
        for entry in self.store.list_scopes(&scopes).expect("a list").entries {
            if entry.key != Key::cluster(Kind::Profile, "projectcalico-default-allow") {
                self.delete(&entry.key);
            }
        }
        self.set_ready(Some(true));
        self.set_pod_cidrs(&[]);
    }

    /// What Kubernetes would write into the Node's status.
    pub(crate) fn set_pod_cidrs(&self, cidrs: &[&str]) {
        let initial = api::Node::new(Metadata::named(self.node()), api::NodeSpec::default());
        objects::modify(&self.store, initial, |node: &mut api::Node| {
            let status = node.status.get_or_insert_default();
            status.pod_cidrs = cidrs.iter().map(|cidr| (*cidr).to_owned()).collect();
            Ok::<_, StoreError>(())
        })
        .expect("the node's own row");
    }

    /// Takes the datastore's file away while the guard lives: every operation of every process fails.
    pub(crate) fn take_datastore_away(&self) -> Away {
        let (file, away) = (self.path("tortie.db"), self.path("away.db"));
        fs::rename(&file, &away).expect("our own file");
        Away { file, away }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(node) = &mut self.node {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// The datastore's file is elsewhere until this is dropped.
pub(crate) struct Away {
    file: PathBuf,
    away: PathBuf,
}

impl Drop for Away {
    fn drop(&mut self) {
        let _ = fs::rename(&self.away, &self.file);
    }
}

fn link(source: impl AsRef<Path>, target: &Path) {
    match std::os::unix::fs::symlink(source, target) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => panic!("{}: {error}", target.display()),
        _ => {}
    }
}
