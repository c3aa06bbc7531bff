//! Speakers on one link, each in a network namespace of its own. The link is a bridge, so that a host can be cut off
//! without its losing the carrier.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Process, TestNamespace};

use crate::daemon::Daemon;
use crate::exabgp;
use crate::ours;
use crate::side::{Ip, Side, address, block, inside};

/// Time for sessions to come up and routes to go across, on a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct World {
    switch: TestNamespace,
    hosts: Vec<Host>,
    folder: tempfile::TempDir,
}

/// Who speaks on a host.
#[derive(Clone, Copy)]
pub(crate) enum Who {
    Us,
    Daemon(&'static dyn Daemon),
    /// It only sends, and is asked nothing.
    ExaBgp,
}

pub(crate) struct Host {
    who: Who,
    side: Side,
    namespace: TestNamespace,
    folder: PathBuf,
    processes: Vec<Running>,
    /// How many have been started, to tell their logs apart.
    started: usize,
}

struct Running {
    _process: Process,
    stays: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        testkit::require_root();
        let switch = TestNamespace::new();
        switch.command("ip link add lan type bridge");
        switch.command("ip link set lan up");
        let folder = tempfile::tempdir().expect("a folder");
        // Daemons that do not run as root have to find their own folders in it.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        fs::set_permissions(folder.path(), mode).expect("the folder is ours");
        Self { switch, hosts: Vec::new(), folder }
    }

    /// A host with its configuration; nothing runs yet.
    pub(crate) fn add(&mut self, who: Who, side: Side) {
        let program = match who {
            Who::Us => None,
            Who::Daemon(daemon) => Some(daemon.program()),
            Who::ExaBgp => Some(exabgp::PROGRAM),
        };
        if let Some((program, package)) = program {
            let is_there = std::path::Path::new(program).exists();
            assert!(is_there, "{program} is missing; install it with: apt-get install {package}");
        }
        let folder = self.folder.path().join(side.host.to_string());
        fs::create_dir_all(folder.join("secrets/bgp")).expect("the folder is ours");
        let host = Host { who, namespace: self.plug(&side), folder, side, processes: Vec::new(), started: 0 };
        let configuration = match who {
            Who::Us => ours::resources(&host.side, &[]),
            Who::Daemon(daemon) => daemon.configuration(&host.side, &host.folder),
            Who::ExaBgp => String::new(),
        };
        host.configure(&configuration);
        host.side.neighbours.iter().filter_map(|of| of.password).for_each(|word| host.write_password(word));
        self.hosts.push(host);
    }

    fn plug(&self, side: &Side) -> TestNamespace {
        let (namespace, number) = (TestNamespace::new(), side.host);
        let switch = self.switch.path();
        // Link-local addresses that are usable at once: FRR does without IPv6 next hops meanwhile.
        namespace
            .run(|| fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0"))
            .expect("root may write it");
        namespace.command(&format!(
            "ip link add wire type veth peer name port-{number} netns {}",
            switch.display()
        ));
        self.switch.command(&format!("ip link set port-{number} master lan up"));
        namespace.command("ip link set lo up");
        for (ip, length, options) in [(Ip::V4, 24, ""), (Ip::V6, 64, "nodad")] {
            namespace.command(&format!("ip address add {}/{length} dev wire {options}", side.address(ip)));
            if side.announced.contains(&block(number, ip)) {
                namespace.command(&format!("ip address add {} dev lo {options}", inside(number, ip)));
            }
        }
        namespace.command("ip link set wire up");
        namespace
    }

    pub(crate) fn host(&self, number: u8) -> &Host {
        self.hosts.iter().find(|host| host.side.host == number).expect("a host of this test")
    }

    fn host_mut(&mut self, number: u8) -> &mut Host {
        self.hosts.iter_mut().find(|host| host.side.host == number).expect("a host of this test")
    }

    pub(crate) fn start_all(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.start(false));
    }

    /// Kills the speaker of a host, and nothing that it has done to the kernel.
    pub(crate) fn kill(&mut self, number: u8) {
        self.host_mut(number).processes.retain(|process| process.stays);
    }

    /// Starts the speaker of a host again, after it has been killed.
    pub(crate) fn start_again(&mut self, number: u8) {
        self.host_mut(number).start(true);
    }

    /// Another speaker takes over on a host.
    pub(crate) fn replace(&mut self, number: u8, who: Who, configuration: &str) {
        let host = self.host_mut(number);
        host.who = who;
        host.configure(configuration);
        host.start(false);
    }

    /// Has the report of a failure say which routes of a host changed, and when.
    pub(crate) fn watch_routes(&mut self, number: u8) {
        let mut monitor = Command::new("ip");
        monitor.args(["-tshort", "monitor", "route"]);
        self.host_mut(number).spawn(monitor, true);
    }

    /// Takes a host off the link. Neither end sees the carrier go.
    pub(crate) fn cut(&self, number: u8) {
        self.switch.command(&format!("ip link set port-{number} nomaster"));
    }

    pub(crate) fn mend(&self, number: u8) {
        self.switch.command(&format!("ip link set port-{number} master lan"));
    }

    pub(crate) fn await_that(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        self.await_within(LIMIT, what, holds);
    }

    pub(crate) fn await_within(&self, limit: Duration, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + limit;
        while !holds(self) {
            assert!(Instant::now() < deadline, "after {} s not: {what}\n{}", limit.as_secs(), self.report());
            std::thread::sleep(PAUSE);
        }
    }

    /// All sessions that one of ours is configured with.
    pub(crate) fn await_sessions(&self, ours: u8) {
        let host = self.host(ours);
        for neighbour in &host.side.neighbours {
            self.await_that(&format!("host {ours}: the session with {} up", neighbour.address()), |_| {
                host.peer(&neighbour.address())["state"] == "Established"
            });
        }
    }

    /// A host has learned the blocks of another, of both families.
    pub(crate) fn await_blocks(&self, at: u8, of: u8) {
        for ip in Ip::BOTH {
            let prefix = block(of, ip);
            self.await_that(&format!("{prefix} at host {at}"), |world| world.host(at).has_route(&prefix));
        }
    }

    /// The kernel of a host has routes to the blocks of another, of both families.
    pub(crate) fn await_in_kernel(&self, at: u8, of: u8) {
        for ip in Ip::BOTH {
            let (prefix, next_hop) = (block(of, ip), address(of, ip));
            self.await_that(&format!("{prefix} in the kernel of host {at}"), |world| {
                world.host(at).kernel_route(&prefix).contains(&format!("via {next_hop}"))
            });
        }
    }

    /// Fails with the state of everything, unless it holds now.
    pub(crate) fn check(&self, what: &str, holds: bool) {
        assert!(holds, "not: {what}\n{}", self.report());
    }

    /// Configurations, logs and what all say.
    fn report(&self) -> String {
        self.hosts.iter().map(Host::report).collect()
    }
}

/// Whether a peer, as `calicoctl bgp peers` shows it, has sent an End-of-RIB.
pub(crate) fn has_told_all(peer: &Value) -> bool {
    peer["session"]["endOfRib"].as_array().is_some_and(|families| !families.is_empty())
}

impl Host {
    pub(crate) fn configure(&self, text: &str) {
        let path = self.folder.join("configuration");
        fs::write(&path, text).expect("the folder is ours");
        // OpenBGPD refuses a configuration with passwords that others can read.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(path, mode).expect("the file is ours");
    }

    /// The password of one of ours.
    pub(crate) fn write_password(&self, password: &str) {
        fs::write(self.folder.join("secrets/bgp/password"), password).expect("the folder is ours");
    }

    /// What one of ours turns away.
    pub(crate) fn reject(&self, prefixes: &[String]) {
        self.configure(&ours::resources(&self.side, prefixes));
    }

    fn start(&mut self, recovering: bool) {
        let daemon = match self.who {
            Who::Us => return self.spawn(ours::process(&self.side, &self.folder), false),
            Who::ExaBgp => return self.spawn(exabgp::process(&self.folder), false),
            Who::Daemon(daemon) => daemon,
        };
        let afterwards = daemon.afterwards(&self.side, &self.folder);
        // What is configured by commands has to be there before the first session is.
        let is_closed = !afterwards.is_empty();
        if is_closed {
            self.namespace.command("nft add table inet closed");
            self.namespace.command("nft add chain inet closed input { type filter hook input priority 0 ; }");
            self.namespace.command("nft add rule inet closed input iif wire tcp dport 179 drop");
            self.namespace.command("nft add rule inet closed input iif wire tcp sport 179 drop");
        }
        for process in daemon.processes(&self.side, &self.folder, recovering) {
            self.spawn(process.command, process.before_the_speaker.is_some());
            if let Some(file) = process.before_the_speaker {
                testkit::eventually("what the speaker needs is ready", || file.exists());
            }
        }
        afterwards.into_iter().for_each(|command| self.insist(command));
        if is_closed {
            self.namespace.command("nft delete table inet closed");
        }
    }

    fn spawn(&mut self, mut command: Command, stays: bool) {
        let log =
            File::create(self.folder.join(format!("{}.log", self.started))).expect("the folder is ours");
        self.started += 1;
        let copy = log.try_clone().expect("a file can be opened twice");
        command.stdin(Stdio::null()).stdout(copy).stderr(log);
        let child = self
            .namespace
            .run(move || command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        self.processes.push(Running { _process: child.into(), stays });
    }

    /// Runs a command until it succeeds.
    fn insist(&self, mut command: Command) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let output = self.namespace.run(|| command.output().expect("it is installed with the daemon"));
            if output.status.success() {
                return;
            }
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(Instant::now() < deadline, "{command:?}: {said}\n{}", self.report());
            std::thread::sleep(PAUSE);
        }
    }

    /// Runs a command of the daemon's that has to succeed.
    pub(crate) fn tell(&self, command: impl Fn(&dyn Daemon, &std::path::Path) -> Command) {
        self.insist(command(self.daemon(), &self.folder));
    }

    fn daemon(&self) -> &'static dyn Daemon {
        let Who::Daemon(daemon) = self.who else { panic!("host {} cannot be asked this", self.side.host) };
        daemon
    }

    pub(crate) fn inside(&self, command: &str) -> String {
        self.namespace.command(command)
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    pub(crate) fn side(&self) -> &Side {
        &self.side
    }

    /// `calicoctl bgp …` on one of ours.
    pub(crate) fn ask(&self, words: &[&str]) -> Value {
        ours::ask(&self.folder, words)
    }

    /// What one of ours says of a peer; null when it says nothing.
    pub(crate) fn peer(&self, address: &str) -> Value {
        let peers = self.ask(&["peers", address]);
        peers.get(0).cloned().unwrap_or_default()
    }

    /// Our routes for a prefix, from whoever.
    pub(crate) fn routes_for(&self, prefix: &str) -> Vec<Value> {
        self.ask(&["routes", "--prefix", prefix]).as_array().cloned().unwrap_or_default()
    }

    /// Everything that the speaker says of a prefix, as text.
    pub(crate) fn route(&self, prefix: &str) -> String {
        match self.who {
            Who::Us => format!("{:?}", self.routes_for(prefix)),
            _ => self.text(self.daemon().route(&self.folder, prefix)),
        }
    }

    /// How many IPv4 prefixes a daemon has from a neighbour.
    pub(crate) fn count_from(&self, neighbour: u8) -> Option<usize> {
        let daemon = self.daemon();
        daemon.counted(&self.text(daemon.count(&self.folder, neighbour)), neighbour)
    }

    pub(crate) fn has_route(&self, prefix: &str) -> bool {
        match self.who {
            Who::Us => self.routes_for(prefix).iter().any(|route| route["best"] == true),
            _ => self.text(self.daemon().routes(&self.folder, Ip::of(prefix))).contains(prefix),
        }
    }

    /// What the kernel does with a prefix.
    pub(crate) fn kernel_route(&self, prefix: &str) -> String {
        let version = if Ip::of(prefix) == Ip::V4 { "-4" } else { "-6" };
        self.inside(&format!("ip {version} route show {prefix}"))
    }

    /// Routes that BGP does not make, to the blocks of another host, and better than those that it makes.
    pub(crate) fn route_by_hand(&self, to: u8) {
        for ip in Ip::BOTH {
            let version = if ip == Ip::V4 { "-4" } else { "-6" };
            self.inside(&format!(
                "ip {version} route add {} via {} metric 1",
                block(to, ip),
                address(to, ip)
            ));
        }
    }

    /// Segments that the kernel dropped for their MD5 signature: `TCPMD5NotFound`, `TCPMD5Unexpected`, `TCPMD5Failure`.
    pub(crate) fn refused_signatures(&self) -> u64 {
        let read = || fs::read_to_string("/proc/thread-self/net/netstat").expect("/proc is mounted");
        let counters = self.namespace.run(read);
        let lines: Vec<Vec<&str>> = counters
            .lines()
            .filter(|line| line.starts_with("TcpExt:"))
            .map(|line| line.split(' ').collect())
            .collect();
        let [names, values] = &lines[..] else { panic!("netstat has another form: {counters}") };
        let pairs = names.iter().zip(values).filter(|(name, _)| name.starts_with("TCPMD5"));
        pairs.map(|(_, value)| value.parse::<u64>().expect("a counter is a number")).sum()
    }

    /// A process in the host's namespace.
    pub(crate) fn child(&self, mut command: Command) -> Child {
        self.namespace.run(move || command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    fn text(&self, mut command: Command) -> String {
        let output =
            self.namespace.run(|| command.output().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn report(&self) -> String {
        let file = |name: String| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        let configuration: String = file("configuration".to_owned()).chars().take(4000).collect();
        let mut text = format!("== host {}\n{configuration}\n", self.side.host);
        for index in 0..self.started {
            let log = file(format!("{index}.log"));
            let start = log.char_indices().rev().nth(6000).map_or(0, |(index, _)| index);
            text += &format!("== log {index} of host {}\n{}\n", self.side.host, &log[start..]);
        }
        text += &match self.who {
            Who::ExaBgp => String::new(),
            Who::Us => format!("== our peers\n{:#}\n", self.ask(&["peers"])),
            Who::Daemon(daemon) => {
                let routes: String =
                    Ip::BOTH.iter().map(|ip| self.text(daemon.routes(&self.folder, *ip))).collect();
                let shown: String = routes.chars().take(4000).collect();
                format!("== routes of host {}\n{shown}\n", self.side.host)
            }
        };
        let kernel = ["ip -4 route", "ip -6 route"].map(|command| self.inside(command)).concat();
        text + "== kernel\n" + &kernel
    }
}
