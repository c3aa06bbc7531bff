//! BFD in network namespaces: two shells of ours, and ours beside BIRD's. BGP's hold time is 90 s throughout, so whatever is
//! noticed sooner is BFD's doing.

use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bgp::config::{Bfd, ConnectMode, Origination};
use bgp::session::{Reason, SessionState};
use bgp::{Asn, PeerConfig, PeerId, RouterId, Shutdown, SpeakerConfig, Start};
use node::speaker::SpeakerHandle;
use testkit::{Process, TestNamespace, eventually};

fn fast(multihop: bool, strict: bool) -> Bfd {
    Bfd { multihop, interval: Duration::from_millis(50), multiplier: 3, strict }
}

/// Two hosts with a link.
struct Pair {
    hosts: [TestNamespace; 2],
}

impl Pair {
    fn new() -> Self {
        let hosts = [TestNamespace::new(), TestNamespace::new()];
        let other = hosts[1].path();
        hosts[0].command(&format!("ip link add fabric type veth peer name fabric netns {}", other.display()));
        for (host, last) in hosts.iter().zip(1..) {
            host.command("ip link set lo up");
            host.command(&format!("ip address add 10.0.0.{last}/24 dev fabric"));
            host.command(&format!("ip -6 address add 2001:db8::{last}/64 dev fabric nodad"));
            host.command("ip link set fabric up");
        }
        Self { hosts }
    }

    fn speaker(&self, host: usize, v6: bool, bfd: Option<Bfd>) -> SpeakerHandle {
        let address = |last: usize| -> IpAddr {
            let text = if v6 { format!("2001:db8::{last}") } else { format!("10.0.0.{last}") };
            text.parse().expect("an address")
        };
        let (own, other) = (address(host + 1), address(2 - host));
        let mut config = SpeakerConfig::new(Asn(64512), RouterId([10, 0, 0, host as u8 + 1].into()));
        config.listen = [(own, 179).into()].into();
        let mut peer = PeerConfig::new(other, Asn(64512));
        peer.connect = if host == 0 { ConnectMode::Active } else { ConnectMode::Passive };
        peer.source = Some(own);
        peer.bfd = bfd;
        config.peers.insert(PeerId::from("peer"), peer);
        let prefix = format!("10.65.{host}.0/26").parse().expect("a prefix");
        config.originated.insert(prefix, Origination::default());
        let handle = self.hosts[host].run(|| SpeakerHandle::spawn(Start::Fresh, |_| {}).expect("a thread"));
        handle.configure(config);
        handle
    }

    /// Packets towards the second host are lost; the link stays up.
    fn cut(&self) {
        self.hosts[0].command("nft add table inet cut");
        self.hosts[0]
            .command("nft add chain inet cut output { type filter hook output priority 0 ; policy drop ; }");
    }

    fn mend(&self) {
        self.hosts[0].command("nft delete table inet cut");
    }
}

fn is_up(speaker: &SpeakerHandle) -> bool {
    speaker.status().iter().all(|peer| peer.state == SessionState::Established)
        && !speaker.status().is_empty()
}

fn reason(speaker: &SpeakerHandle) -> Option<Reason> {
    speaker.status().into_iter().next().and_then(|peer| peer.reason)
}

/// Cuts, and gives how long it took until both ends knew.
fn time_to_notice(pair: &Pair, speakers: &[&SpeakerHandle]) -> Duration {
    pair.cut();
    let cut = Instant::now();
    eventually("both ends see the cut", || speakers.iter().all(|speaker| !is_up(speaker)));
    cut.elapsed()
}

fn two_shells(v6: bool, multihop: bool) {
    let pair = Pair::new();
    let bfd = Some(fast(multihop, true));
    let (first, second) = (pair.speaker(0, v6, bfd), pair.speaker(1, v6, bfd));
    eventually("the session is up", || is_up(&first) && is_up(&second));
    let noticed = time_to_notice(&pair, &[&first, &second]);
    println!("noticed after {noticed:?}");
    assert!(noticed < Duration::from_secs(5), "{noticed:?}: the hold timer would take 90 s");
    let by_bfd = |speaker| {
        matches!(reason(speaker), Some(Reason::PathDown(_) | Reason::WaitsForPath | Reason::Received(_)))
    };
    assert!(by_bfd(&second), "{:?}", reason(&second));
    pair.mend();
    eventually("the session is up again", || is_up(&first) && is_up(&second));
    first.stop(Shutdown::Restarting);
    second.stop(Shutdown::Restarting);
}

#[test]
fn two_speakers_notice_a_cut_by_bfd_and_come_back() {
    testkit::require_root();
    two_shells(false, false);
}

#[test]
fn over_several_hops_and_ipv6_it_is_the_same() {
    testkit::require_root();
    two_shells(true, true);
}

#[test]
fn a_strict_session_does_not_begin_without_bfd_at_the_other_end() {
    testkit::require_root();
    let pair = Pair::new();
    let strict = pair.speaker(0, false, Some(fast(false, true)));
    let without = pair.speaker(1, false, None);
    eventually("it waits", || reason(&strict) == Some(Reason::WaitsForPath));
    assert!(!is_up(&strict) && !is_up(&without));
    without.stop(Shutdown::Restarting);
    let with = pair.speaker(1, false, Some(fast(false, false)));
    eventually("the session is up", || is_up(&strict) && is_up(&with));
}

#[test]
fn a_speaker_that_stops_for_a_restart_is_no_cut_path() {
    testkit::require_root();
    let pair = Pair::new();
    let bfd = Some(fast(false, true));
    let (first, second) = (pair.speaker(0, false, bfd), pair.speaker(1, false, bfd));
    eventually("the session is up", || is_up(&first) && is_up(&second));
    eventually("the routes are there", || second.status()[0].received.iter().any(|(_, count)| *count == 1));
    first.stop(Shutdown::Restarting);
    eventually("the connection is gone", || !is_up(&second));
    let peer = second.status().remove(0);
    assert!(!matches!(peer.reason, Some(Reason::PathDown(_))), "{:?}", peer.reason);
    let stale: usize = peer.stale.iter().map(|(_, count)| count).sum();
    assert_eq!(stale, 1, "its routes are kept for its return");
}

struct Bird {
    _process: Process,
    folder: tempfile::TempDir,
}

impl Bird {
    fn start(host: &TestNamespace, multihop: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let hops = if multihop { "multihop" } else { "direct" };
        let config = format!(
            "router id 10.0.0.2;
            protocol device {{ }}
            protocol bfd {{
                interface \"fabric\" {{ interval 50 ms; multiplier 3; }};
                multihop {{ interval 50 ms; multiplier 3; }};
            }}
            protocol bgp peer {{
                local 10.0.0.2 as 64512; neighbor 10.0.0.1 as 64512; {hops}; bfd on; passive on;
                connect delay time 1; connect retry time 2; error wait time 1, 3;
                ipv4 {{ import all; export all; }};
            }}"
        );
        std::fs::write(folder.path().join("bird.conf"), config).expect("the folder is ours");
        let child = host.run(|| {
            Command::new("bird")
                .arg("-f")
                .arg("-c")
                .arg(folder.path().join("bird.conf"))
                .arg("-s")
                .arg(folder.path().join("bird.ctl"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("BIRD 2 is installed (Debian package bird2)")
        });
        Self { _process: child.into(), folder }
    }

    fn ask(&self, command: &str) -> String {
        let output = Command::new("birdc")
            .arg("-s")
            .arg(self.folder.path().join("bird.ctl"))
            .args(command.split(' '))
            .output()
            .expect("birdc comes with BIRD");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn beside_bird(multihop: bool) {
    let pair = Pair::new();
    let bird = Bird::start(&pair.hosts[1], multihop);
    let ours = pair.speaker(0, false, Some(fast(multihop, false)));
    eventually("BIRD says that BFD is up", || {
        let sessions = bird.ask("show bfd sessions");
        sessions
            .lines()
            .any(|line| line.contains("10.0.0.1") && line.contains("Up") && line.contains("0.150"))
    });
    eventually("the session is up", || is_up(&ours));
    pair.cut();
    let cut = Instant::now();
    eventually("we see the cut", || !is_up(&ours));
    let noticed = cut.elapsed();
    println!("noticed after {noticed:?}");
    assert!(noticed < Duration::from_secs(5), "{noticed:?}: the hold timer would take 90 s");
    assert!(matches!(reason(&ours), Some(Reason::PathDown(_) | Reason::Received(_))), "{:?}", reason(&ours));
    eventually("BIRD sees the cut", || !bird.ask("show protocols peer").contains("Established"));
    pair.mend();
    eventually("the session is up again", || is_up(&ours));
    assert_eq!(ours.status()[0].flaps(), 1, "lost once: at the cut, and not before");
}

#[test]
fn bird_and_we_notice_a_cut_on_a_link() {
    testkit::require_root();
    beside_bird(false);
}

#[test]
fn bird_and_we_notice_a_cut_over_several_hops() {
    testkit::require_root();
    beside_bird(true);
}
