//! Our process and BIRD, each in a network namespace, joined by a pair of veths, with a session for each family; traffic to
//! an address behind BIRD.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use testkit::{TestNamespace, eventually};

use crate::traffic::{BEHIND, Traffic};

/// What runs on our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Node,
    Reflector,
}

pub(crate) struct World {
    kind: Kind,
    has_bfd: bool,
    ours: Arc<TestNamespace>,
    theirs: Arc<TestNamespace>,
    bird: Option<testkit::Process>,
    folder: tempfile::TempDir,
    started: usize,
}

impl Drop for World {
    fn drop(&mut self) {
        // BIRD has a part in the report.
        if std::thread::panicking() {
            println!("{}", self.report());
        }
    }
}

/// A process of ours.
pub(crate) struct Process(testkit::Process);

impl Process {
    pub(crate) fn kill(&mut self) {
        self.0.end();
    }

    #[track_caller]
    pub(crate) fn await_end(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", || {
            status = self.0.try_wait().expect("it is our child");
            status.is_some()
        });
        status.expect("just seen")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("it is our child").is_none()
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

/// What BIRD counts: since when sessions and the path are up, and every message with routes.
#[derive(Debug, Clone)]
pub(crate) struct Counters {
    sessions: Vec<String>,
    path: Vec<String>,
    updates: Vec<String>,
}

impl Counters {
    /// Without what changes with every message.
    pub(crate) fn session(self) -> Self {
        Self { updates: Vec::new(), ..self }
    }
}

impl PartialEq for Counters {
    /// The times that BIRD shows differ by some milliseconds from one look to the next.
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &[String], b: &[String]| {
            let word = |(a, b): (&String, &String)| a == b || is_same_time(a, b);
            a.len() == b.len() && a.iter().zip(b).all(word)
        };
        same(&self.sessions, &other.sessions)
            && same(&self.path, &other.path)
            && self.updates == other.updates
    }
}

/// Times of day as BIRD shows them, in seconds.
fn is_same_time(a: &str, b: &str) -> bool {
    let seconds = |text: &str| {
        let parts = text.split(':').map(|part| part.parse::<f64>().ok());
        let parts: Option<Vec<f64>> = parts.collect();
        parts.filter(|parts| parts.len() == 3).map(|parts| parts[0] * 3600.0 + parts[1] * 60.0 + parts[2])
    };
    seconds(a).zip(seconds(b)).is_some_and(|(a, b)| (a - b).abs() < 0.2)
}

impl World {
    /// With MD5, TTL security, graceful restart, and BFD at 50 ms if `has_bfd` (a process that dies takes its BFD along, and then
    /// there is no graceful restart); BIRD's route leads to an address that answers.
    pub(crate) fn new(kind: Kind, has_bfd: bool) -> Self {
        let (ours, theirs) = (Arc::new(TestNamespace::new()), Arc::new(TestNamespace::new()));
        let peer = theirs.path();
        ours.command(&format!("ip link add wire type veth peer name wire netns {}", peer.display()));
        for (namespace, last) in [(&ours, 1), (&theirs, 2)] {
            namespace.command("ip link set lo up");
            namespace.command(&format!("ip address add 10.0.0.{last}/24 dev wire"));
            namespace.command(&format!("ip address add 2001:db8::{last}/64 dev wire nodad"));
            namespace.command("ip link set wire up");
        }
        theirs.command(&format!("ip address add {BEHIND}/32 dev lo"));
        let folder = tempfile::tempdir().expect("a folder");
        let mut world = Self { kind, has_bfd, ours, theirs, folder, bird: None, started: 0 };
        fs::create_dir_all(world.file("secrets/bgp")).expect("the folder is ours");
        fs::write(world.file("secrets/bgp/password"), "rosebud").expect("the folder is ours");
        let (mut bird, mut resources) = (BIRD.to_owned(), RESOURCES.to_owned());
        if !has_bfd {
            bird = bird.replace("bfd on;", "");
            resources = resources.replace("  bfd: {interval: 50ms}\n", "");
        }
        fs::write(world.file("bird.conf"), bird).expect("the folder is ours");
        fs::write(world.file("resources.yaml"), resources).expect("the folder is ours");
        let mut bird = Command::new("bird");
        bird.arg("-f").arg("-c").arg(world.file("bird.conf")).arg("-s").arg(world.file("bird.ctl"));
        world.bird = Some(world.spawn(&world.theirs, bird, "bird.log").into());
        world
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn spawn(&self, namespace: &TestNamespace, mut command: Command, log: &str) -> Child {
        let log = File::create(self.file(log)).expect("the folder is ours");
        let copy = log.try_clone().expect("a file can be opened twice");
        command.stdin(Stdio::null()).stdout(copy).stderr(log);
        namespace.run(move || command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let file = |name: &str| self.file(name).to_string_lossy().into_owned();
        let words: Vec<String> = match self.kind {
            Kind::Node => vec!["node".to_owned()],
            Kind::Reflector => ["reflector", "--kernel", "--health", "127.0.0.1:9099", "--node", "ours"]
                .map(str::to_owned)
                .into_iter()
                .chain(["--file".to_owned(), file("resources.yaml")])
                .chain(["--socket".to_owned(), file("node.sock")])
                .collect(),
        };
        words.into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect()
    }

    fn set_environment(&self, command: &mut Command) {
        command
            .env("NODENAME", "ours")
            .env("IP", "10.0.0.1/24")
            .env("IP6", "2001:db8::1/64")
            .env("NO_DEFAULT_POOLS", "true")
            .env("TORTIE_DATASTORE", self.file("tortie.db"))
            .env("TORTIE_RUN_DIR", self.folder.path())
            .env("TORTIE_SECRETS_DIR", self.file("secrets"))
            .env("CALICO_NODENAME_FILE", self.file("nodename"))
            .env("FELIX_HEALTHENABLED", "true");
    }

    /// Starts a process of ours. `before`: what runs it, if anything.
    pub(crate) fn start_by(&mut self, before: &[&str], more: &[&str]) -> Process {
        let tortie = env!("CARGO_BIN_EXE_tortie");
        let mut words: Vec<&str> = before.iter().copied().chain([tortie]).collect();
        let arguments = self.arguments(more);
        words.extend(arguments.iter().map(String::as_str));
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        self.set_environment(&mut command);
        self.started += 1;
        Process(self.spawn(&self.ours, command, &format!("ours-{}.log", self.started)).into())
    }

    pub(crate) fn start(&mut self, more: &[&str]) -> Process {
        self.start_by(&[], more)
    }

    /// `calicoctl` on our side.
    pub(crate) fn ctl(&self, line: &str) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
        command.arg("ctl").args(line.split(' ')).env("TORTIE_NODE_SOCKET", self.file("node.sock"));
        self.set_environment(&mut command);
        let output = self.ours.run(|| command.output().expect("it is built"));
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "calicoctl {line}: {out}{error}");
        out.into_owned()
    }

    /// The session for IPv6 gets the shortest hold time there is, anew.
    pub(crate) fn shorten_hold_time(&self) {
        let file = self.file("bird.conf");
        let text = fs::read_to_string(&file).expect("it is there");
        let shorter = text.replace("2001:db8::1 as 64512;", "2001:db8::1 as 64512; hold time 3;");
        assert_ne!(text, shorter);
        fs::write(&file, shorter).expect("the folder is ours");
        self.birdc("configure");
        self.await_up();
        eventually("it is agreed on", || self.holds("peer6", 3));
    }

    /// Whether a session has this hold time.
    fn holds(&self, name: &str, seconds: u64) -> bool {
        let seen = self.birdc(&format!("show protocols all {name}"));
        let line = seen.lines().find(|line| line.contains("Hold timer:"));
        line.is_some_and(|line| line.trim_end().ends_with(&format!("/{seconds}")))
    }

    /// Everything is up on both sides.
    #[track_caller]
    pub(crate) fn await_up(&self) {
        if self.kind == Kind::Node {
            eventually("the datastore is there", || self.file("node.sock").exists());
            self.ctl(&format!("apply -f {}", self.file("resources.yaml").display()));
        }
        eventually("the session and its path are up, and routes went both ways", || {
            let seen = self.birdc("show protocols");
            let (told, routes) = (self.birdc("show route"), self.our_routes());
            seen.matches("Established").count() == 2
                && (!self.has_bfd || self.birdc("show bfd sessions").contains("Up"))
                && ["10.96.0.0/16", "fd96::/108"].iter().all(|prefix| told.contains(prefix))
                && ["10.65.2.0/24 via 10.0.0.2", "fd65:2::/64 via"].iter().all(|route| routes.contains(route))
                && self.is_ready()
        });
    }

    pub(crate) fn birdc(&self, line: &str) -> String {
        let mut command = Command::new("birdc");
        command.arg("-s").arg(self.file("bird.ctl")).args(line.split(' '));
        let output = command.output().expect("birdc comes with BIRD");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters_of("peer*")
    }

    /// Those of one protocol, or of all with names like this.
    pub(crate) fn counters_of(&self, name: &str) -> Counters {
        let seen = self.birdc(&format!("show protocols all \"{name}\""));
        let updates = seen.lines().filter(|line| line.contains("updates:") || line.contains("withdraws:"));
        let sessions = seen.lines().filter(|line| line.starts_with("peer"));
        let path = self.birdc("show bfd sessions");
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        Counters {
            sessions: sessions.flat_map(words).collect(),
            path: words(path.lines().last().unwrap_or_default()),
            updates: updates.map(str::to_owned).collect(),
        }
    }

    /// The sessions as our process sees them, by the peers' addresses: state, since when, and how often they were lost.
    pub(crate) fn sessions(&self) -> BTreeMap<String, (String, i64, u64)> {
        let answer = self.ctl("bgp peers -o json");
        let value: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        let peers = value.as_array().or_else(|| value["peers"].as_array());
        let peers = peers.unwrap_or_else(|| panic!("no peers: {answer}")).iter().map(|peer| {
            let text = |field: &str| peer[field].as_str().unwrap_or_default().to_owned();
            let since = peer["since"].as_i64().unwrap_or_default();
            (text("address"), (text("state"), since, peer["flaps"].as_u64().unwrap_or_default()))
        });
        peers.collect()
    }

    /// Whether our process says that both are up.
    pub(crate) fn is_up(&self) -> bool {
        let sessions = self.sessions();
        sessions.len() == 2 && sessions.values().all(|(state, ..)| state == "Established")
    }

    /// The path identifiers under which our process has got routes for a prefix.
    pub(crate) fn path_ids(&self, prefix: &str) -> Vec<u64> {
        let answer = self.ctl(&format!("bgp routes --prefix {prefix} -o json"));
        let value: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        let routes = value.as_array().unwrap_or_else(|| panic!("no routes: {answer}"));
        routes.iter().filter_map(|route| route["pathId"].as_u64()).collect()
    }

    /// A neighbour that takes a connection and never says a word, for as long as what is given lives.
    pub(crate) fn silent_peer(&self) -> TcpListener {
        self.theirs.command("ip address add 10.0.0.3/24 dev wire");
        let listener =
            self.theirs.run(|| TcpListener::bind("10.0.0.3:1790").expect("nobody else has the address"));
        self.configure(&format!("{RESOURCES}{SILENT}"), &[]);
        eventually("it is dialled", || {
            let sessions = self.sessions();
            sessions.get("10.0.0.3").is_some_and(|(state, ..)| state == "OpenSent")
        });
        listener
    }

    /// Other resources; a peer that is not among them any more is gone.
    pub(crate) fn configure(&self, resources: &str, removed: &[&str]) {
        fs::write(self.file("resources.yaml"), resources).expect("the folder is ours");
        if self.kind == Kind::Node {
            self.ctl(&format!("apply -f {}", self.file("resources.yaml").display()));
            removed.iter().for_each(|peer| drop(self.ctl(&format!("delete bgppeer {peer}"))));
        }
    }

    /// What the process gets its resources from.
    pub(crate) fn source(&self) -> PathBuf {
        let name = if self.kind == Kind::Node { "tortie.db" } else { "resources.yaml" };
        self.file(name).canonicalize().expect("it is there")
    }

    /// Whether `/readiness` says so.
    pub(crate) fn is_ready(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", 9099))?;
            stream.write_all(b"GET /readiness HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        self.ours.run(|| ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")))
    }

    pub(crate) fn our_routes(&self) -> String {
        self.ours.command("ip route show proto bird") + &self.ours.command("ip -6 route show proto bird")
    }

    pub(crate) fn delete_route(&self, destination: &str) {
        self.ours.command(&format!("ip route delete {destination} proto bird"));
    }

    pub(crate) fn log(&self, number: usize) -> String {
        fs::read_to_string(self.file(&format!("ours-{number}.log"))).unwrap_or_default()
    }

    fn report(&self) -> String {
        let logs = (1..=self.started).map(|number| format!("--- process {number}\n{}", self.log(number)));
        let bird = fs::read_to_string(self.file("bird.log")).unwrap_or_default();
        format!(
            "{}\n--- BIRD\n{bird}\n{}",
            logs.collect::<String>(),
            self.birdc("show protocols all \"peer*\"")
        )
    }

    /// A packet every 10 ms to the address behind BIRD, and a stream of octets, all the time.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic::start(self.ours.clone(), &self.theirs)
    }
}

const BIRD: &str = r#"
router id 10.0.0.2;
protocol device {}
protocol bfd { interface "wire" { interval 50 ms; multiplier 3; }; }
protocol static behind { ipv4; route 10.65.2.0/24 blackhole; route 10.65.3.0/24 blackhole; }
protocol static again { ipv4; route 10.65.3.0/24 blackhole; }
protocol static six { ipv6; route fd65:2::/64 blackhole; route fd65:3::/64 blackhole; }
protocol bgp peer {
  local 10.0.0.2 as 64512; neighbor 10.0.0.1 as 64512; direct;
  connect delay time 1; connect retry time 2; error wait time 1, 2;
  ttl security on; password "rosebud"; bfd on; graceful restart on;
  ipv4 { import all; export where source = RTS_STATIC; next hop self; add paths on; };
}
protocol bgp peer6 {
  local 2001:db8::2 as 64512; neighbor 2001:db8::1 as 64512; direct;
  connect delay time 1; connect retry time 2; error wait time 1, 2; graceful restart on;
  ipv6 { import all; export where source = RTS_STATIC; next hop self; add paths on; };
}
"#;

pub(crate) const RESOURCES: &str = r#"apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: ours}
spec: {bgp: {ipv4Address: 10.0.0.1/24, ipv6Address: "2001:db8::1/64"}}
---
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec:
  nodeToNodeMeshEnabled: false
  asNumber: 64512
  serviceClusterIPs: [{cidr: 10.96.0.0/16}, {cidr: "fd96::/108"}]
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pods}
spec: {cidr: 10.65.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: six}
spec: {cidr: "fd65::/16"}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: bird}
spec:
  peerIP: 10.0.0.2
  asNumber: 64512
  ttlSecurity: 1
  password: {secretKeyRef: {name: bgp, key: password}}
  bfd: {interval: 50ms}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: bird6}
spec: {peerIP: "2001:db8::2", asNumber: 64512}
"#;

const SILENT: &str = "---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: silent}
spec: {peerIP: '10.0.0.3:1790', asNumber: 64512}
";
