//! Our speaker and a daemon, each in a network namespace, joined by a pair of veths.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::TestNamespace;

use crate::daemon::Daemon;
use crate::scenario::{OUR_ADDRESSES, Scenario, THEIR_ADDRESSES};

/// Time for a session to come up and routes to go across, on a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Wire<'a> {
    daemon: &'a dyn Daemon,
    ours: TestNamespace,
    theirs: TestNamespace,
    folder: tempfile::TempDir,
    our_process: Option<Child>,
    their_processes: Vec<Child>,
}

impl Drop for Wire<'_> {
    fn drop(&mut self) {
        self.our_process.iter_mut().for_each(end);
        self.stop_theirs();
    }
}

fn end(child: &mut Child) {
    // One that has ended is gone already.
    let _ = child.kill();
    let _ = child.wait();
}

impl<'a> Wire<'a> {
    pub(crate) fn new(daemon: &'a dyn Daemon, scenario: &Scenario) -> Self {
        let (program, package) = daemon.program();
        assert!(
            Path::new(program).exists(),
            "{program} is missing; install it with: apt-get install {package}"
        );
        let (ours, theirs) = (TestNamespace::new(), TestNamespace::new());
        let peer = theirs.path();
        ours.command(&format!("ip link add wire type veth peer name wire netns {}", peer.display()));
        for (namespace, [v4, v6]) in [(&ours, OUR_ADDRESSES), (&theirs, THEIR_ADDRESSES)] {
            namespace.command("ip link set lo up");
            namespace.command(&format!("ip address add {v4}/24 dev wire"));
            namespace.command(&format!("ip address add {v6}/64 dev wire nodad"));
            namespace.command("ip link set wire up");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let wire = Self { daemon, ours, theirs, folder, our_process: None, their_processes: Vec::new() };
        fs::write(wire.file("ours.yaml"), scenario.resources()).expect("the folder is ours");
        let configuration = daemon.configuration(scenario, wire.folder.path());
        fs::write(wire.file("theirs.conf"), configuration).expect("the folder is ours");
        // OpenBGPD refuses a configuration with passwords that others can read.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(wire.file("theirs.conf"), mode).expect("the file is ours");
        fs::create_dir_all(wire.file("secrets/bgp")).expect("the folder is ours");
        scenario.password.into_iter().for_each(|password| wire.write_password(password));
        wire
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The password of our side.
    pub(crate) fn write_password(&self, password: &str) {
        fs::write(self.file("secrets/bgp/password"), password).expect("the folder is ours");
    }

    pub(crate) fn start_ours(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
        command.args(["reflector", "--node", "ours", "--kernel", "--file"]).arg(self.file("ours.yaml"));
        command.arg("--socket").arg(self.file("ours.sock")).arg("--secrets").arg(self.file("secrets"));
        self.our_process = Some(self.spawn(&self.ours, command, "ours.log"));
    }

    pub(crate) fn start_theirs(&mut self) {
        let commands = self.daemon.processes(&self.file("theirs.conf"), self.folder.path());
        for (index, command) in commands.into_iter().enumerate() {
            let child = self.spawn(&self.theirs, command, &format!("theirs-{index}.log"));
            self.their_processes.push(child);
        }
        for mut command in self.daemon.afterwards(self.folder.path()) {
            let deadline = Instant::now() + LIMIT;
            loop {
                let output = self.theirs.run(|| command.output().expect("it is installed with the daemon"));
                if output.status.success() {
                    break;
                }
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(Instant::now() < deadline, "{command:?}: {said}\n{}", self.report());
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    pub(crate) fn stop_theirs(&mut self) {
        self.their_processes.iter_mut().for_each(end);
        self.their_processes.clear();
    }

    fn spawn(&self, namespace: &TestNamespace, mut command: Command, log: &str) -> Child {
        let log = File::create(self.file(log)).expect("the folder is ours");
        let copy = log.try_clone().expect("a file can be opened twice");
        command.stdin(Stdio::null()).stdout(copy).stderr(log);
        namespace.run(move || command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// What `calicoctl node status` says.
    pub(crate) fn our_status(&self) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
        command.args(["ctl", "node", "status"]).env("TORTIE_NODE_SOCKET", self.file("ours.sock"));
        text(&mut command)
    }

    /// The addresses of the peers with which it has a session.
    pub(crate) fn sessions_up(&self) -> Vec<String> {
        let status = self.our_status();
        // | PEER ADDRESS | PEER TYPE | STATE | SINCE | INFO |
        let rows = status.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
        let up = rows.filter(|cells| cells.get(3) == Some(&"up") && cells.get(5) == Some(&"Established"));
        up.map(|cells| cells[1].to_owned()).collect()
    }

    /// The routes that BGP put into our kernel.
    pub(crate) fn our_routes(&self) -> String {
        self.ours.command("ip -4 route show proto bird") + &self.ours.command("ip -6 route show proto bird")
    }

    /// What the daemon's own tool says of its routes.
    pub(crate) fn their_routes(&self) -> String {
        let commands = self.daemon.routes(self.folder.path());
        self.theirs.run(|| commands.into_iter().map(|mut command| text(&mut command)).collect())
    }

    /// Segments that either kernel dropped for their MD5 signature.
    pub(crate) fn refused_signatures(&self) -> u64 {
        [&self.ours, &self.theirs].into_iter().map(refused_signatures).sum()
    }

    pub(crate) fn await_that(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds(self) {
            assert!(Instant::now() < deadline, "after {} s not: {what}\n{}", LIMIT.as_secs(), self.report());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Configurations, logs and what both ends say.
    fn report(&self) -> String {
        let mut files: Vec<_> = fs::read_dir(self.folder.path())
            .expect("the folder is ours")
            .map(|entry| entry.expect("the folder is ours").path())
            .filter(|path| {
                path.extension().is_some_and(|end| ["yaml", "conf", "log"].iter().any(|e| end == *e))
            })
            .collect();
        files.sort();
        let show = |path: &PathBuf| {
            format!("== {}\n{}\n", path.display(), fs::read_to_string(path).unwrap_or_default())
        };
        let files: String = files.iter().map(show).collect();
        let (status, routes) = (self.our_status(), self.our_routes());
        format!(
            "{files}== our status\n{status}\n== our routes\n{routes}\n== their routes\n{}",
            self.their_routes()
        )
    }
}

fn text(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `TCPMD5NotFound`, `TCPMD5Unexpected` and `TCPMD5Failure` of a namespace.
fn refused_signatures(namespace: &TestNamespace) -> u64 {
    let counters =
        namespace.run(|| fs::read_to_string("/proc/thread-self/net/netstat").expect("/proc is mounted"));
    let lines: Vec<Vec<&str>> = counters
        .lines()
        .filter(|line| line.starts_with("TcpExt:"))
        .map(|line| line.split(' ').collect())
        .collect();
    let [names, values] = &lines[..] else { panic!("netstat has another form: {counters}") };
    let pairs = names.iter().zip(values).filter(|(name, _)| name.starts_with("TCPMD5"));
    pairs.map(|(_, value)| value.parse::<u64>().expect("a counter is a number")).sum()
}
