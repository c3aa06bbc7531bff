//! The processes under test: ours, BIRD, FRR, OpenBGPD, GoBGP, and a program that only copies octets.

mod configuration;

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use testkit::TestNamespace;

use super::session::Neighbour;
use crate::harness::{cpu, host, interrupt, memory};

/// Where every speaker listens.
pub(crate) const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 255, 0, 1), 179);
/// Its AS.
pub(crate) const ASN: u32 = 64512;

/// Which speaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// `tortie reflector`
    Tortie,
    /// BIRD 2
    Bird,
    /// bgpd of FRR with its profile for data centres, and its timer that collects changes set to 0
    Frr,
    /// bgpd of FRR as it comes
    FrrDefaults,
    /// OpenBGPD
    Openbgpd,
    /// GoBGP
    Gobgp,
    /// Copies UPDATEs from each session to all others: the limit of socket work
    Copy,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tortie => "tortie",
            Self::Bird => "BIRD",
            Self::Frr => "FRR tuned",
            Self::FrrDefaults => "FRR defaults",
            Self::Openbgpd => "OpenBGPD",
            Self::Gobgp => "GoBGP",
            Self::Copy => "byte copy",
        }
    }

    fn is_frr(self) -> bool {
        matches!(self, Self::Frr | Self::FrrDefaults)
    }
}

const START_LIMIT: Duration = Duration::from_secs(20);
/// How much of a log is shown, in octets.
const LAST_WORDS: usize = 500;

/// A running speaker; ended with this.
pub(crate) struct Speaker {
    processes: Vec<Child>,
    folder: tempfile::TempDir,
}

impl Drop for Speaker {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Speaker {
    /// Starts one for these neighbours, which are clients of a reflector where they are of its AS; `installs`: its routes go
    /// into the kernel.
    pub(crate) fn start(
        kind: Kind,
        neighbours: &[Neighbour],
        namespace: &TestNamespace,
        installs: bool,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tortie-bench-bgp-").tempdir()?;
        let (file, text) = configuration::of(kind, neighbours, installs);
        fs::write(folder.path().join(file), text)?;
        let mut speaker = Self { processes: Vec::new(), folder };
        if kind.is_frr() {
            // Without it no next hop is known to be reachable.
            let zebra = speaker.zebra()?;
            speaker.spawn(zebra, namespace)?;
            speaker.wait_for("zebra")?;
        }
        let command = speaker.command(kind, file, neighbours.len(), installs)?;
        speaker.spawn(command, namespace)?;
        Ok(speaker)
    }

    /// Starts one that takes the place of this one (ours), and gives this one's process.
    pub(crate) fn succeed(&mut self, namespace: &TestNamespace) -> Result<Child> {
        let mut command = self.command(Kind::Tortie, "resources.yaml", 0, false)?;
        command.arg("--take-over");
        self.spawn(command, namespace)?;
        Ok(self.processes.remove(0))
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn command(&self, kind: Kind, file: &str, neighbours: usize, installs: bool) -> Result<Command> {
        let (config, socket) = (self.path(file), self.path("s"));
        Ok(match kind {
            Kind::Tortie => {
                let arguments =
                    ["reflector", "--fresh", "--log-level", "error", "--node", "dut", "--file", &config];
                let mut command = arguments_of(&host::binary()?.display().to_string(), &arguments);
                command.args(["--socket", &socket]).args(installs.then_some("--kernel"));
                command
            }
            Kind::Bird => arguments_of("/usr/sbin/bird", &["-f", "-c", &config, "-s", &socket]),
            Kind::Frr | Kind::FrrDefaults => {
                let profile = if kind == Kind::Frr { "datacenter" } else { "traditional" };
                let (pid, zebra) = (self.path("pid"), self.path("zebra"));
                let mut command =
                    arguments_of("/usr/lib/frr/bgpd", &["-f", &config, "-i", &pid, "-z", &zebra]);
                command.args(["--vty_socket", &self.path(""), "--skip_runas", "-A", "127.0.0.1", "-P", "0"]);
                command.args(["-F", profile]).args((!installs).then_some("-n"));
                command
            }
            Kind::Openbgpd => arguments_of("/usr/sbin/bgpd", &["-d", "-f", &config]),
            Kind::Gobgp => {
                let api = ["--api-hosts", "127.0.0.1:50051", "-l", "error"];
                arguments_of("/usr/bin/gobgpd", &[["-f", &config, "-t", "yaml"], api].concat())
            }
            Kind::Copy => {
                let program = std::env::current_exe()?.display().to_string();
                arguments_of(&program, &["bgp-copy", "--neighbours", &neighbours.to_string()])
            }
        })
    }

    fn zebra(&self) -> Result<Command> {
        let file = self.path("zebra.conf");
        fs::write(&file, "")?;
        // It runs as a user of its own.
        fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o777))?;
        let (pid, socket) = (self.path("zebra.pid"), self.path("zebra"));
        let mut zebra = arguments_of("/usr/lib/frr/zebra", &["-f", &file, "-i", &pid, "-z", &socket]);
        zebra.args(["--vty_socket", &self.path(""), "-A", "127.0.0.1", "-P", "0"]);
        Ok(zebra)
    }

    fn spawn(&mut self, mut command: Command, namespace: &TestNamespace) -> Result<()> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(self.log()?);
        let child = namespace.run(|| command.spawn());
        let program = command.get_program().display();
        self.processes.push(child.with_context(|| format!("cannot start {program}"))?);
        Ok(())
    }

    /// Where what they say of themselves goes.
    fn log(&self) -> Result<fs::File> {
        Ok(fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log"))?)
    }

    /// Waits until a process has made a file.
    fn wait_for(&self, name: &str) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while !self.folder.path().join(name).exists() {
            ensure!(Instant::now() < deadline, "{name} does not appear: {}", self.said());
            interrupt::check()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// What the processes have written to their log last.
    pub(crate) fn said(&self) -> String {
        let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(LAST_WORDS)..]).trim().to_owned()
    }

    /// Processor time so far, of all processes of the speaker.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        self.tree().into_iter().map(cpu::of_process).sum()
    }

    /// The most memory that it has had resident, in octets, of all its processes.
    pub(crate) fn peak_memory(&self) -> Result<u64> {
        let of = |process| Ok(memory::kib(process, "status", "VmHWM")? * 1024);
        self.tree().into_iter().map(of).sum()
    }

    /// The process and its children (OpenBGPD has two).
    fn tree(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.processes.iter().map(Child::id).collect();
        let mut at = 0;
        while let Some(process) = all.get(at).copied() {
            let path = format!("/proc/{process}/task/{process}/children");
            let children = fs::read_to_string(path).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
            at += 1;
        }
        all
    }
}

fn arguments_of(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
