//! The speakers under test: ours, BIRD, FRR, OpenBGPD, GoBGP, and a program that only copies octets.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use testkit::TestNamespace;

use super::fleet::Neighbour;
use crate::harness::{cpu, host};

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
    /// bgpd of FRR, with its timer that collects changes set to 0
    Frr,
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
            Self::Frr => "FRR, tuned",
            Self::Openbgpd => "OpenBGPD",
            Self::Gobgp => "GoBGP",
            Self::Copy => "byte copy",
        }
    }
}

const START_LIMIT: Duration = Duration::from_secs(20);

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
    /// Starts one for these neighbours, which are clients of a reflector where they are of its AS.
    pub(crate) fn start(kind: Kind, neighbours: &[Neighbour], namespace: &TestNamespace) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tortie-bench-bgp-").tempdir()?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (file, text) = match kind {
            Kind::Tortie => ("resources.yaml", resources(neighbours)),
            Kind::Bird => ("bird.conf", bird(neighbours)),
            Kind::Frr => ("bgpd.conf", frr(neighbours)),
            Kind::Openbgpd => ("bgpd.conf", openbgpd(neighbours)),
            Kind::Gobgp => ("gobgpd.yaml", gobgp(neighbours)),
            Kind::Copy => ("unused", String::new()),
        };
        let config = path(file);
        fs::write(&config, text)?;
        let command = match kind {
            Kind::Tortie => {
                let mut command = Command::new(host::binary()?);
                command.args(["reflector", "--fresh", "--log-level", "error", "--node", "dut"]);
                command.args(["--file", &config, "--socket", &path("s")]);
                command
            }
            Kind::Bird => arguments("/usr/sbin/bird", &["-f", "-c", &config, "-s", &path("s")]),
            Kind::Frr => arguments(
                "/usr/lib/frr/bgpd",
                &[
                    ["-f", &config, "-i", &path("pid"), "--vty_socket", &path("")].as_slice(),
                    &["-z", &path("zebra"), "-n", "--skip_runas", "-A", "127.0.0.1", "-P", "0"],
                ]
                .concat(),
            ),
            Kind::Openbgpd => arguments("/usr/sbin/bgpd", &["-d", "-f", &config]),
            Kind::Gobgp => arguments(
                "/usr/bin/gobgpd",
                &["-f", &config, "-t", "yaml", "--api-hosts", "127.0.0.1:50051", "-l", "error"],
            ),
            Kind::Copy => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["bgp-copy", "--neighbours", &neighbours.len().to_string()]);
                command
            }
        };
        let mut commands = vec![command];
        if kind == Kind::Frr {
            // Without it no next hop is known to be reachable. It is told of no route.
            fs::write(path("zebra.conf"), "")?;
            let (file, pid) = (path("zebra.conf"), path("zebra.pid"));
            let mut zebra = arguments("/usr/lib/frr/zebra", &["-f", &file, "-i", &pid]);
            zebra.args(["-z", &path("zebra"), "--vty_socket", &path("")]);
            zebra.args(["-A", "127.0.0.1", "-P", "0"]);
            // It runs as a user of its own.
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
            commands.insert(0, zebra);
        }
        let mut speaker = Self { processes: Vec::new(), folder };
        for mut command in commands {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(speaker.log()?);
            let child = namespace.run(|| command.spawn());
            speaker.processes.push(child.with_context(|| format!("cannot start {}", kind.name()))?);
            if kind == Kind::Frr {
                speaker.wait_for("zebra")?;
            }
        }
        Ok(speaker)
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
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// What the processes have written to their log.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Processor time so far, of all processes of the speaker.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        self.tree().into_iter().map(cpu::of_process).sum()
    }

    /// The most memory that it has had resident, in octets, of all its processes.
    pub(crate) fn peak_memory(&self) -> Result<u64> {
        let of = |process: u32| {
            let status = fs::read_to_string(format!("/proc/{process}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
            Ok(kib.context("no VmHWM")? * 1024)
        };
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

fn arguments(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Calico's resources. Filters let everything through: by itself a node only passes on what is of its cluster.
fn resources(neighbours: &[Neighbour]) -> String {
    let mut text = format!(
        "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: dut}}\n\
         spec: {{bgp: {{ipv4Address: {}/32, routeReflectorClusterID: 10.255.0.1}}}}\n---\n\
         apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {{name: default}}\n\
         spec: {{nodeToNodeMeshEnabled: false, asNumber: {ASN}}}\n---\n\
         apiVersion: projectcalico.org/v3\nkind: BGPFilter\nmetadata: {{name: all}}\n\
         spec:\n  importV4: [{{action: Accept}}]\n  exportV4: [{{action: Accept}}]\n",
        ADDRESS.ip()
    );
    for (number, Neighbour { address, asn }) in neighbours.iter().enumerate() {
        let _ = write!(
            text,
            "---\napiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {{name: p{number}}}\n\
             spec: {{peerIP: {address}, asNumber: {asn}, filters: [all]}}\n"
        );
    }
    text
}

fn bird(neighbours: &[Neighbour]) -> String {
    let mut text = format!("router id {};\nprotocol device {{}}\n", ADDRESS.ip());
    for (number, Neighbour { address, asn }) in neighbours.iter().enumerate() {
        let client = if *asn == ASN { "rr client;" } else { "" };
        let _ = writeln!(
            text,
            "protocol bgp p{number} {{ local {} as {ASN}; neighbor {address} as {asn}; {client} passive; multihop; \
             ipv4 {{ import all; export all; }}; }}",
            ADDRESS.ip()
        );
    }
    text
}

fn frr(neighbours: &[Neighbour]) -> String {
    let mut text = format!(
        "router bgp {ASN}\n bgp router-id {}\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
         no bgp default ipv4-unicast\n coalesce-time 0\n bgp listen limit 5000\n",
        ADDRESS.ip()
    );
    for Neighbour { address, asn } in neighbours {
        let _ = writeln!(
            text,
            " neighbor {address} remote-as {asn}\n neighbor {address} passive\n neighbor {address} timers connect 5\n \
             neighbor {address} advertisement-interval 0\n neighbor {address} disable-connected-check"
        );
    }
    text.push_str(" address-family ipv4 unicast\n");
    for Neighbour { address, asn } in neighbours {
        let _ = writeln!(text, "  neighbor {address} activate");
        if *asn == ASN {
            let _ = writeln!(text, "  neighbor {address} route-reflector-client");
        }
    }
    text.push_str(" exit-address-family\n");
    text
}

fn openbgpd(neighbours: &[Neighbour]) -> String {
    let mut text = format!(
        "AS {ASN}\nrouter-id {0}\nlisten on {0}\nfib-update no\nnexthop qualify via default\n",
        ADDRESS.ip()
    );
    for Neighbour { address, asn } in neighbours {
        let client = if *asn == ASN { "route-reflector\n" } else { "" };
        let _ = writeln!(text, "neighbor {address} {{ remote-as {asn}\n passive\n multihop 2\n {client} }}");
    }
    text.push_str("allow from any\nallow to any\n");
    text
}

fn gobgp(neighbours: &[Neighbour]) -> String {
    let mut text = format!(
        "global:\n  config:\n    as: {ASN}\n    router-id: {0}\n    local-address-list: [{0}]\nneighbors:\n",
        ADDRESS.ip()
    );
    for Neighbour { address, asn } in neighbours {
        let _ = writeln!(
            text,
            "  - config: {{neighbor-address: {address}, peer-as: {asn}}}\n    transport: {{config: {{passive-mode: true}}}}"
        );
        if *asn == ASN {
            text.push_str(
                "    route-reflector: {config: {route-reflector-client: true, route-reflector-cluster-id: 10.255.0.1}}\n",
            );
        } else {
            text.push_str("    ebgp-multihop: {config: {enabled: true, multihop-ttl: 2}}\n");
        }
    }
    text
}
