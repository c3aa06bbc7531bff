//! The speaker against BIRD 2, configured as Calico configures its BIRD: an internal mesh peer with graceful restart.
//! Each runs in a network namespace of its own, joined by a pair of veths.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use bgp::config::{ConnectMode, Origination};
use bgp::session::SessionState;
use bgp::{Asn, Family, PeerConfig, PeerId, RouterId, Shutdown, SpeakerConfig, Start};
use ipnet::IpNet;
use node::speaker::{RouteEvent, SpeakerHandle};
use testkit::{TestNamespace, WAIT_LIMIT, eventually};

/// What the kernel of our host would have been told.
#[derive(Default)]
struct Kernel {
    routes: BTreeMap<IpNet, Vec<IpAddr>>,
    withdrawn: Vec<IpNet>,
    complete: Vec<Family>,
}

struct Pair {
    ours: TestNamespace,
    theirs: TestNamespace,
    folder: tempfile::TempDir,
    bird: Option<Child>,
    kernel: Arc<Mutex<Kernel>>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.kill_bird();
    }
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

impl Pair {
    /// `passive`: which side waits for the other to dial.
    fn new(bird_is_passive: bool) -> Self {
        let (ours, theirs) = (TestNamespace::new(), TestNamespace::new());
        let folder = tempfile::tempdir().expect("a folder");
        let peer = theirs.path();
        ours.command("ip link set lo up");
        theirs.command("ip link set lo up");
        ours.command(&format!("ip link add fabric type veth peer name fabric netns {}", peer.display()));
        for (namespace, last) in [(&ours, 1), (&theirs, 2)] {
            namespace.command(&format!("ip address add 10.0.0.{last}/24 dev fabric"));
            namespace.command(&format!("ip -6 address add 2001:db8::{last}/64 dev fabric nodad"));
            namespace.command("ip link set fabric up");
        }
        let passive = if bird_is_passive { "passive on;" } else { "" };
        std::fs::write(folder.path().join("bird.conf"), bird_conf(passive)).expect("the folder is ours");
        Self { ours, theirs, folder, bird: None, kernel: Arc::default() }
    }

    /// `recovering`: as after a restart, with graceful restart recovery.
    fn start_bird(&mut self, recovering: bool) {
        let file = |name: &str| self.folder.path().join(name);
        let child = self.theirs.run(|| {
            let mut command = Command::new("bird");
            command.arg("-f").arg("-c").arg(file("bird.conf")).arg("-s").arg(file("bird.ctl"));
            if recovering {
                command.arg("-R");
            }
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("BIRD 2 is installed (Debian package bird2)")
        });
        self.bird = Some(child);
    }

    fn kill_bird(&mut self) {
        if let Some(mut child) = self.bird.take() {
            child.kill().expect("it is our child");
            child.wait().expect("it is our child");
        }
    }

    fn birdc(&self, command: &str) -> String {
        let socket = self.folder.path().join("bird.ctl");
        let output = Command::new("birdc")
            .arg("-s")
            .arg(socket)
            .args(command.split(' '))
            .output()
            .expect("birdc comes with BIRD");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn start_speaker(&self, start: Start, config: SpeakerConfig) -> SpeakerHandle {
        let kernel = self.kernel.clone();
        let handle = self.ours.run(move || {
            SpeakerHandle::spawn(start, move |events| {
                let mut kernel = kernel.lock().expect("no test thread panics with it");
                events.into_iter().for_each(|event| match event {
                    RouteEvent::Changed { prefix, route: Some(route) } => {
                        kernel.routes.insert(prefix, route.next_hops.clone());
                    }
                    RouteEvent::Changed { prefix, route: None } => {
                        kernel.routes.remove(&prefix);
                        kernel.withdrawn.push(prefix);
                    }
                    RouteEvent::Complete(family) => kernel.complete.push(family),
                });
            })
            .expect("a thread")
        });
        handle.configure(config);
        handle
    }

    fn await_kernel(&self, what: &str, holds: impl Fn(&Kernel) -> bool) {
        eventually(what, || holds(&self.kernel.lock().expect("no test thread panics with it")));
    }

    fn await_established(&self, speaker: &SpeakerHandle) {
        eventually("the session with BIRD is up", || {
            speaker.status().iter().all(|peer| peer.state == SessionState::Established)
                && self.birdc("show protocols mesh4").contains("Established")
        });
    }

    /// BIRD's kernel routes, the IPv4 ones.
    fn their_kernel(&self) -> String {
        self.theirs.command("ip -4 route show proto bird")
    }
}

fn bird_conf(passive: &str) -> String {
    let timers = "connect delay time 1; connect retry time 2; error wait time 1, 3;";
    let common = format!("{timers} graceful restart; {passive}");
    format!(
        "router id 10.0.0.2;
        protocol device {{ scan time 2; }}
        protocol direct {{ ipv4; ipv6; interface \"fabric\"; }}
        protocol kernel kernel4 {{ persist; graceful restart; ipv4 {{ import none; export where source = RTS_BGP; }}; }}
        protocol kernel kernel6 {{ persist; graceful restart; ipv6 {{ import none; export where source = RTS_BGP; }}; }}
        protocol static static4 {{
            ipv4;
            route 10.65.2.0/26 blackhole;
            route 10.65.2.64/26 blackhole;
        }}
        protocol static static6 {{ ipv6; route 2001:db8:2::/64 blackhole; }}
        protocol bgp mesh4 {{
            local 10.0.0.2 as 64512; neighbor 10.0.0.1 as 64512; multihop; {common}
            ipv4 {{ import all; export where source = RTS_STATIC; next hop self; add paths on; }};
        }}
        protocol bgp mesh6 {{
            local 2001:db8::2 as 64512; neighbor 2001:db8::1 as 64512; multihop; {common}
            ipv6 {{ import all; export where source = RTS_STATIC; next hop self; add paths on; }};
        }}"
    )
}

fn our_config(connect: ConnectMode) -> SpeakerConfig {
    let mut config = SpeakerConfig::new(Asn(64512), RouterId([10, 0, 0, 1].into()));
    config.listen =
        ["10.0.0.1:179", "[2001:db8::1]:179"].map(|text| text.parse().expect("an address")).into();
    for (name, address, source) in
        [("Mesh_4", "10.0.0.2", "10.0.0.1"), ("Mesh_6", "2001:db8::2", "2001:db8::1")]
    {
        let mut peer = PeerConfig::new(address.parse().expect("an address"), Asn(64512));
        peer.connect = connect;
        peer.source = Some(source.parse().expect("an address"));
        peer.label = "node-to-node mesh".to_owned();
        config.peers.insert(PeerId::from(name), peer);
    }
    for prefix in ["10.65.1.0/26", "2001:db8:1::/64"] {
        config.originated.insert(net(prefix), Origination::default());
    }
    config
}

fn has_birds_routes(kernel: &Kernel) -> bool {
    let v4: IpAddr = [10, 0, 0, 2].into();
    let v6: IpAddr = "2001:db8::2".parse().expect("an address");
    let wanted = [("10.65.2.0/26", v4), ("10.65.2.64/26", v4), ("2001:db8:2::/64", v6)];
    kernel.routes == wanted.map(|(prefix, next_hop)| (net(prefix), vec![next_hop])).into()
}

fn has_our_routes(pair: &Pair) -> bool {
    pair.their_kernel().contains("10.65.1.0/26 via 10.0.0.1 dev fabric")
        && pair.theirs.command("ip -6 route show proto bird").contains("2001:db8:1::/64 via 2001:db8::1")
}

#[test]
fn routes_go_both_ways_over_both_families_whoever_dials() {
    for (bird_is_passive, connect) in
        [(false, ConnectMode::Passive), (true, ConnectMode::Active), (false, ConnectMode::Active)]
    {
        let mut pair = Pair::new(bird_is_passive);
        pair.start_bird(false);
        let speaker = pair.start_speaker(Start::Fresh, our_config(connect));
        pair.await_established(&speaker);
        pair.await_kernel("we have BIRD's routes", has_birds_routes);
        eventually("BIRD has our routes", || has_our_routes(&pair));
        pair.await_kernel("routes are complete", |kernel| kernel.complete.len() == Family::ALL.len());
        let status = speaker.status();
        let established = status[0].established.as_ref().expect("it is up");
        assert!(established.graceful_restart, "{established:?}");
        speaker.originate(net("10.65.1.64/26"), Some(Origination::default()));
        eventually("BIRD has the new route", || pair.their_kernel().contains("10.65.1.64/26"));
        speaker.originate(net("10.65.1.64/26"), None);
        eventually("BIRD lost it again", || !pair.their_kernel().contains("10.65.1.64/26"));
        speaker.stop(Shutdown::Stopping { message: "end of test".to_owned() });
        eventually("BIRD dropped our routes", || pair.their_kernel().is_empty());
    }
}

#[test]
fn bird_forwards_to_us_over_our_restart() {
    let mut pair = Pair::new(false);
    pair.start_bird(false);
    let speaker = pair.start_speaker(Start::Fresh, our_config(ConnectMode::Passive));
    pair.await_established(&speaker);
    eventually("BIRD has our routes", || has_our_routes(&pair));
    let log = pair.folder.path().join("monitor.log");
    let mut monitor = pair.theirs.run(|| {
        Command::new("ip")
            .args(["monitor", "route"])
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&log).expect("the folder is ours"))
            .spawn()
            .expect("ip is installed")
    });
    speaker.stop(Shutdown::Restarting);
    eventually("BIRD has seen it", || !pair.birdc("show protocols mesh4").contains("Established"));
    assert!(has_our_routes(&pair), "BIRD keeps our routes while we are away");
    pair.kernel.lock().expect("no test thread panics with it").complete.clear();
    let speaker = pair.start_speaker(Start::Restarting, our_config(ConnectMode::Passive));
    pair.await_established(&speaker);
    pair.await_kernel("routes are complete again", |kernel| kernel.complete.len() == Family::ALL.len());
    pair.await_kernel("we have BIRD's routes", has_birds_routes);
    // A route that changes after everything above is the last thing that the monitor has to have seen.
    speaker.originate(net("10.65.1.128/26"), Some(Origination::default()));
    let seen = || std::fs::read_to_string(&log).expect("it is there");
    eventually("the monitor has caught up", || seen().contains("10.65.1.128/26"));
    monitor.kill().expect("it is our child");
    monitor.wait().expect("it is our child");
    assert!(!seen().contains("Deleted"), "BIRD took routes away:\n{}", seen());
    assert!(has_our_routes(&pair));
}

#[test]
fn we_forward_to_bird_over_its_restart() {
    let mut pair = Pair::new(false);
    pair.start_bird(false);
    let speaker = pair.start_speaker(Start::Fresh, our_config(ConnectMode::Active));
    pair.await_established(&speaker);
    pair.await_kernel("we have BIRD's routes", has_birds_routes);
    let before = speaker.status()[0].established_count;
    pair.kill_bird();
    eventually("the session is down", || speaker.status()[0].state != SessionState::Established);
    assert!(has_birds_routes(&pair.kernel.lock().expect("no test thread panics with it")));
    pair.start_bird(true);
    pair.await_established(&speaker);
    eventually("the session is a new one, and its routes are fresh", || {
        let status = speaker.status();
        status.iter().all(|peer| {
            peer.established_count > before
                && peer.stale.iter().all(|(_, routes)| *routes == 0)
                && peer.established.as_ref().is_some_and(|established| !established.end_of_rib.is_empty())
        })
    });
    let kernel = pair.kernel.lock().expect("no test thread panics with it");
    assert!(has_birds_routes(&kernel));
    assert_eq!(kernel.withdrawn, [], "no route was ever taken away");
}

#[test]
fn a_stranger_is_closed_before_a_byte_is_read() {
    let pair = Pair::new(true);
    let mut config = our_config(ConnectMode::Passive);
    config.peers.clear();
    let speaker = pair.start_speaker(Start::Fresh, config);
    eventually("the connection is closed unread", || {
        pair.theirs.run(|| {
            let Ok(mut stream) = std::net::TcpStream::connect("10.0.0.1:179") else { return false };
            stream.set_read_timeout(Some(WAIT_LIMIT)).expect("a timeout");
            let mut first = [0; 1];
            let end = std::io::Read::read(&mut stream, &mut first);
            matches!(&end, Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset)
        })
    });
    assert_eq!(speaker.status(), []);
}
