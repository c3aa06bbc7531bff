//! Our process and BIRD, each in a network namespace, joined by a pair of veths; traffic to an address behind BIRD.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use testkit::{TestNamespace, eventually};

/// An address that only BIRD's route leads to.
const BEHIND: &str = "10.65.2.1";
const PORT: u16 = 7000;

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
    folder: tempfile::TempDir,
    bird: Option<Child>,
    started: usize,
}

impl Drop for World {
    fn drop(&mut self) {
        // BIRD has a part in the report.
        if std::thread::panicking() {
            println!("{}", self.report());
        }
        self.bird.iter_mut().for_each(end);
    }
}

pub(crate) fn end(child: &mut Child) {
    // One that has ended is gone already.
    let _ = child.kill();
    let _ = child.wait();
}

/// A process of ours; killed when the test is over.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn kill(&mut self) {
        end(&mut self.0);
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

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// What BIRD counts: since when the session and its path are up, and every message with routes.
#[derive(Debug, Clone)]
pub(crate) struct Counters {
    session: Vec<String>,
    path: Vec<String>,
    updates: Vec<String>,
}

impl PartialEq for Counters {
    /// The times that BIRD shows differ by some milliseconds from one look to the next.
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &[String], b: &[String]| {
            let word = |(a, b): (&String, &String)| a == b || is_same_time(a, b);
            a.len() == b.len() && a.iter().zip(b).all(word)
        };
        same(&self.session, &other.session) && same(&self.path, &other.path) && self.updates == other.updates
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
        world.bird = Some(world.spawn(&world.theirs, bird, "bird.log"));
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
        Process(self.spawn(&self.ours, command, &format!("ours-{}.log", self.started)))
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

    /// Everything is up on both sides.
    #[track_caller]
    pub(crate) fn await_up(&self) {
        if self.kind == Kind::Node {
            eventually("the datastore is there", || self.file("node.sock").exists());
            self.ctl(&format!("apply -f {}", self.file("resources.yaml").display()));
        }
        eventually("the session and its path are up, and routes went both ways", || {
            let seen = self.birdc("show protocols all peer");
            let routes = self.ours.command("ip route show proto bird");
            seen.contains("Established")
                && (!self.has_bfd || self.birdc("show bfd sessions").contains("Up"))
                && self.birdc("show route").contains("10.96.0.0/16")
                && routes.contains("10.65.2.0/24 via 10.0.0.2")
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
        let seen = self.birdc("show protocols all peer");
        let updates = seen.lines().filter(|line| line.contains("updates:") || line.contains("withdraws:"));
        let first = seen.lines().find(|line| line.starts_with("peer")).unwrap_or_default();
        let path = self.birdc("show bfd sessions");
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        Counters {
            session: words(first),
            path: words(path.lines().last().unwrap_or_default()),
            updates: updates.map(str::to_owned).collect(),
        }
    }

    /// The session as our process sees it: its state, since when, and how often it was lost.
    pub(crate) fn session(&self) -> (String, i64, u64) {
        let answer = self.ctl("bgp peers -o json");
        let value: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        let peers = value.as_array().or_else(|| value["peers"].as_array());
        let peer = peers.and_then(|peers| peers.first()).unwrap_or_else(|| panic!("no peer: {answer}"));
        let state = peer["state"].as_str().unwrap_or_default().to_owned();
        (state, peer["since"].as_i64().unwrap_or_default(), peer["flaps"].as_u64().unwrap_or_default())
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
        self.ours.command("ip route show proto bird")
    }

    pub(crate) fn log(&self, number: usize) -> String {
        fs::read_to_string(self.file(&format!("ours-{number}.log"))).unwrap_or_default()
    }

    fn report(&self) -> String {
        let logs = (1..=self.started).map(|number| format!("--- process {number}\n{}", self.log(number)));
        let bird = fs::read_to_string(self.file("bird.log")).unwrap_or_default();
        format!("{}\n--- BIRD\n{bird}\n{}", logs.collect::<String>(), self.birdc("show protocols all peer"))
    }

    /// A packet every 10 ms to the address behind BIRD, and a stream of octets, all the time.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic::start(self.ours.clone(), &self.theirs)
    }
}

/// Traffic that is answered.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Traffic {
    fn start(ours: Arc<TestNamespace>, theirs: &TestNamespace) -> Self {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let packets = theirs.run(|| UdpSocket::bind((BEHIND, PORT)).expect("the address is there"));
        let stream = theirs.run(|| TcpListener::bind((BEHIND, PORT)).expect("the address is there"));
        packets.set_read_timeout(Some(Duration::from_millis(200))).expect("a limit");
        let done = stop.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !done.load(Ordering::Relaxed) {
                if let Ok((length, from)) = packets.recv_from(&mut buffer) {
                    let _ = packets.send_to(&buffer[..length], from);
                }
            }
        });
        std::thread::spawn(move || {
            let Ok((mut stream, _)) = stream.accept() else { return };
            let mut buffer = [0; 64];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
        });
        let (first, counted, namespace) = (stop.clone(), sent.clone(), ours.clone());
        let ping = std::thread::spawn(move || namespace.run(|| ping(&first, &counted)));
        let second = stop.clone();
        let talk = std::thread::spawn(move || ours.run(|| talk(&second)));
        Self { stop, sent, threads: vec![ping, talk] }
    }

    /// Stops, and says how many packets there were and what went wrong.
    pub(crate) fn finish(mut self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let wrong = self.threads.drain(..).flat_map(|thread| thread.join().expect("no panic")).collect();
        (self.sent.load(Ordering::Relaxed), wrong)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Each packet has to come back before the next second is over.
fn ping(stop: &AtomicBool, sent: &AtomicUsize) -> Vec<String> {
    let socket = UdpSocket::bind("10.0.0.1:0").expect("our address");
    socket.connect((BEHIND, PORT)).expect("a route");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a limit");
    let mut lost = Vec::new();
    let mut next = Instant::now();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut word = [0; 8];
        let answered = socket.send(&number.to_be_bytes()).and_then(|_| socket.recv(&mut word));
        sent.fetch_add(1, Ordering::Relaxed);
        match answered {
            Ok(_) if u64::from_be_bytes(word) == number => {}
            Ok(_) => lost.push(format!("packet {number}: an answer to another one")),
            Err(error) => lost.push(format!("packet {number}: {error}")),
        }
        next += Duration::from_millis(10);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    lost
}

fn talk(stop: &AtomicBool) -> Vec<String> {
    let mut stream = TcpStream::connect((BEHIND, PORT)).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a limit");
    let mut wrong = Vec::new();
    while !stop.load(Ordering::Relaxed) && wrong.len() < 10 {
        let echoed = stream.write_all(b"there?").and_then(|()| stream.read_exact(&mut [0; 6]));
        match echoed {
            Ok(()) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => wrong.push(format!("stream: {error}")),
        }
    }
    wrong
}

const BIRD: &str = r#"
router id 10.0.0.2;
protocol device {}
protocol bfd { interface "wire" { interval 50 ms; multiplier 3; }; }
protocol static behind { ipv4; route 10.65.2.0/24 blackhole; route 10.65.3.0/24 blackhole; }
protocol bgp peer {
  local 10.0.0.2 as 64512; neighbor 10.0.0.1 as 64512; direct;
  connect delay time 1; connect retry time 2; error wait time 1, 2;
  ttl security on; password "rosebud"; bfd on; graceful restart on;
  ipv4 { import all; export where source = RTS_STATIC; next hop self; };
}
"#;

const RESOURCES: &str = "\
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: ours}
spec: {bgp: {ipv4Address: 10.0.0.1/24}}
---
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false, asNumber: 64512, serviceClusterIPs: [{cidr: 10.96.0.0/16}]}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pods}
spec: {cidr: 10.65.0.0/16}
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
";
