//! `tortie reflector`: speakers alone, from files of resources, in network namespaces of their own.

mod observe;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use testkit::{Process, TestNamespace};

const LIMIT: Duration = Duration::from_secs(30);

const POOL: &str = "\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pool}
spec: {cidr: 10.65.0.0/16}
";

fn node(name: &str, last: u8) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: {name}}}\n\
         spec: {{bgp: {{ipv4Address: 10.0.0.{last}/24}}}}\n"
    )
}

fn block(node: &str, cidr: &str) -> String {
    let name = cidr.replace(['.', '/'], "-");
    format!(
        "apiVersion: projectcalico.org/v3\nkind: BlockAffinity\nmetadata: {{name: {node}-{name}}}\n\
         spec: {{state: confirmed, node: {node}, cidr: {cidr}}}\n"
    )
}

/// Hosts a and b on one wire, with a speaker each, and one file for both.
struct Pair {
    hosts: [TestNamespace; 2],
    running: Vec<Process>,
    folder: tempfile::TempDir,
}

impl Pair {
    fn new(documents: &[String]) -> Self {
        let hosts = [TestNamespace::new(), TestNamespace::new()];
        let peer = hosts[1].path();
        hosts[0].command(&format!("ip link add wire type veth peer name wire netns {}", peer.display()));
        for (host, last) in hosts.iter().zip([1, 2]) {
            host.command("ip link set lo up");
            host.command(&format!("ip address add 10.0.0.{last}/24 dev wire"));
            host.command("ip link set wire up");
        }
        let pair = Self { hosts, folder: tempfile::tempdir().expect("a folder"), running: Vec::new() };
        pair.write(documents);
        pair
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, documents: &[String]) {
        fs::write(self.file("r.yaml"), documents.join("---\n")).expect("the folder is ours");
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
        command.args(["reflector", "--node", name, "--file"]).arg(self.file("r.yaml"));
        command.arg("--socket").arg(self.file(name).with_extension("sock"));
        command.args(["--port", "1790"]).stdin(Stdio::null());
        command
    }

    fn start(&mut self, host: usize, arguments: &[&str]) {
        let arguments = [&["--kernel"], arguments].concat();
        self.start_as(["a", "b"][host], host, &arguments);
    }

    fn start_as(&mut self, name: &str, host: usize, arguments: &[&str]) {
        let log = fs::File::create(self.file(name).with_extension("log")).expect("the folder is ours");
        let mut command = self.command(name);
        command.args(arguments).stderr(log);
        let child = self.hosts[host].run(move || command.spawn().expect("the binary runs"));
        self.running.push(child.into());
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.file(name).with_extension("log")).unwrap_or_default()
    }

    fn has_route(&self, host: usize, prefix: &str) -> bool {
        self.hosts[host].command("ip route").lines().any(|line| line.starts_with(prefix))
    }

    fn status(&self, name: &str) -> String {
        self.ctl(name, &["node", "status"])
    }

    fn ctl(&self, name: &str, words: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_tortie"))
            .arg("ctl")
            .args(words)
            .env("TORTIE_NODE_SOCKET", self.file(name).with_extension("sock"))
            .output()
            .expect("the binary runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn await_that(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds(self) {
            assert!(Instant::now() < deadline, "not {what}\na: {}\nb: {}", self.log("a"), self.log("b"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn signal(&self, number: usize, signal: Signal) {
        let pid = Pid::from_child(&self.running[number]);
        kill_process(pid, signal).expect("it is our child");
    }

    fn stop(&mut self, number: usize) -> ExitStatus {
        self.signal(number, Signal::TERM);
        self.running[number].wait().expect("it is our child")
    }
}

fn documents() -> Vec<String> {
    let ports = "apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {name: default}\n\
                 spec: {listenPort: 1790}\n";
    vec![node("a", 1), node("b", 2), POOL.to_owned(), ports.to_owned(), block("a", "10.65.1.0/26")]
}

#[test]
fn speakers_alone_exchange_what_their_file_says_and_follow_it() {
    testkit::require_root();
    let mut pair = Pair::new(&documents());
    pair.start(0, &["--health", "127.0.0.1:9099", "--metrics", "127.0.0.1:9091"]);
    pair.start(1, &[]);
    pair.await_that("a route learned", |pair| pair.has_route(1, "10.65.1.0/26 via 10.0.0.1"));
    let status = pair.status("b");
    assert!(status.contains("10.0.0.1") && status.contains("Established"), "{status}");

    let mut more = documents();
    more.push(block("a", "10.65.2.0/26"));
    pair.write(&more);
    pair.await_that("a change of the file followed", |pair| pair.has_route(1, "10.65.2.0/26 via 10.0.0.1"));

    // A file that cannot be used changes nothing, and is said to be wrong.
    let mut bad = documents();
    bad.push("kind: IPPool\n".to_owned());
    pair.write(&bad);
    pair.await_that("the bad file named", |pair| {
        pair.log("a").contains("what was read before stays in force")
    });
    assert!(pair.has_route(1, "10.65.2.0/26"), "{}", pair.log("b"));
    assert!(pair.status("a").contains("Established"));

    pair.write(&documents());
    pair.signal(0, Signal::HUP);
    pair.await_that("the block withdrawn", |pair| !pair.has_route(1, "10.65.2.0/26"));
    assert!(pair.has_route(1, "10.65.1.0/26 via 10.0.0.1"));

    // A stop is a restart for the peer, which keeps the routes; the kernel's stay in any case.
    assert!(pair.stop(0).success());
    assert!(!pair.file("a.sock").exists(), "its socket is left");
    assert!(pair.has_route(1, "10.65.1.0/26 via 10.0.0.1"));
    assert!(pair.has_route(0, "blackhole 10.65.1.0/26"));
}

#[test]
fn a_fresh_speaker_takes_its_routes_back_when_it_stops() {
    testkit::require_root();
    let mut pair = Pair::new(&documents());
    pair.start(0, &["--fresh"]);
    pair.start(1, &["--fresh"]);
    pair.await_that("a route learned", |pair| pair.has_route(1, "10.65.1.0/26 via 10.0.0.1"));
    assert!(pair.stop(0).success());
    pair.await_that("the route gone", |pair| !pair.has_route(1, "10.65.1.0/26"));
}

#[test]
fn of_a_prefix_that_two_peers_have_the_kernel_gets_both_next_hops() {
    testkit::require_root();
    let both = ["b", "c"].map(|name| block(name, "10.65.9.0/26"));
    let mut pair = Pair::new(&[documents(), vec![node("c", 3)], both.to_vec()].concat());
    pair.hosts[1].command("ip address add 10.0.0.3/24 dev wire");
    pair.start(0, &[]);
    pair.start_as("b", 1, &["--fresh", "--listen", "10.0.0.2"]);
    pair.start_as("c", 1, &["--fresh", "--listen", "10.0.0.3"]);
    let routes = |pair: &Pair| pair.hosts[0].command("ip route show 10.65.9.0/26");
    pair.await_that("both used", |pair| {
        let routes = routes(pair);
        routes.contains("nexthop via 10.0.0.2") && routes.contains("nexthop via 10.0.0.3")
    });
    assert!(pair.stop(1).success());
    pair.await_that("the other one left", |pair| routes(pair).contains("10.65.9.0/26 via 10.0.0.3"));
}

#[test]
fn what_keeps_a_speaker_from_starting_is_named() {
    testkit::require_root();
    let pair = Pair::new(&documents());
    for (arguments, expected) in [
        (vec!["--node", "nobody"], "has no Node nobody"),
        (vec!["--health", "127.0.0.1:9099", "--metrics", "127.0.0.1:9099"], "127.0.0.1:9099"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
        command.args(["reflector", "--file"]).arg(pair.file("r.yaml"));
        command.arg("--socket").arg(pair.file("x.sock"));
        if arguments[0] != "--node" {
            command.args(["--node", "a"]);
        }
        let output = pair.hosts[0].run(move || command.args(arguments).output().expect("the binary runs"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}
