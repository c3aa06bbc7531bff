//! Pods that speak BGP with their node: a real BIRD in each, and the address that all of them dial.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use testkit::Process;

use crate::host::{Attempts, Server, reaches};
use crate::lab::{Lab, SOON, eventually, succeeded, when};

const DIALLED: [&str; 2] = ["169.254.0.179", "fdc9:9723:9bc::1"];

const PEERS: &str = "\
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {localWorkloadPeeringIPV4: 169.254.0.179, localWorkloadPeeringIPV6: 'fdc9:9723:9bc::1'}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: routers}
spec: {localWorkloadSelector: role == 'router', asNumber: 65401}
";

const TO_HOST: &str = "\
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {defaultEndpointToHostAction: Accept}
";

/// BIRD in a pod.
struct Bird {
    folder: PathBuf,
    _process: Process,
}

impl Bird {
    /// In a pod of the lab; it tells prefixes that lie behind it, one of them inside the pool.
    fn start(lab: &Lab, pod: &str) -> Self {
        let folder = lab.folder().join(format!("bird-{pod}"));
        std::fs::create_dir_all(&folder).expect("the folder is ours");
        let file = |name: &str| folder.join(name);
        std::fs::write(file("bird.conf"), configuration(lab.address(pod))).expect("the folder is ours");
        let mut bird = Command::new("bird");
        bird.arg("-f").arg("-c").arg(file("bird.conf")).arg("-s").arg(file("bird.ctl"));
        bird.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let spawn = || bird.spawn().expect("BIRD 2 is installed (Debian package bird2)");
        let process = lab.pod(pod).run(spawn).expect("the pod is there");
        Self { folder, _process: process.into() }
    }

    fn ask(&self, line: &str) -> String {
        let mut birdc = Command::new("birdc");
        birdc.arg("-s").arg(self.folder.join("bird.ctl")).args(line.split(' '));
        let output = birdc.output().expect("birdc comes with BIRD");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Both sessions are up.
    #[track_caller]
    fn await_up(&self) {
        eventually(SOON, || {
            let seen = self.ask("show protocols");
            when(seen.matches("Established").count() == 2, &seen)
        });
    }

    #[track_caller]
    fn await_down(&self) {
        eventually(SOON, || {
            let seen = self.ask("show protocols");
            when(seen.contains("host4") && !seen.contains("Established"), &seen)
        });
    }
}

fn configuration(router_id: std::net::IpAddr) -> String {
    let [v4, v6] = DIALLED;
    let common =
        "multihop; connect delay time 1; connect retry time 1; error wait time 1, 1; graceful restart on;";
    format!(
        "router id {router_id};
        protocol device {{}}
        protocol static {{ ipv4; route 10.123.0.0/26 blackhole; route 10.65.200.0/24 blackhole; }}
        protocol static {{ ipv6; route fd7b::/64 blackhole; }}
        protocol bgp host4 {{
            local as 65401; neighbor {v4} as 64512; {common}
            ipv4 {{ import all; export where source = RTS_STATIC; }};
        }}
        protocol bgp host6 {{
            local as 65401; neighbor {v6} as 64512; {common}
            ipv6 {{ import all; export where source = RTS_STATIC; }};
        }}"
    )
}

/// Two hosts of both families, a pod on the first that routes for what lies behind it, and workloads that may reach hosts.
fn lab() -> Lab {
    let lab = Lab::up(2, &["--pool6", "fd65::/48"]);
    let add = ["pod", "add", "router", "--node", "node-1", "--label", "role=router"];
    succeeded(&lab.lab(&add));
    for address in ["10.123.0.1/32", "10.65.200.1/32", "fd7b::1/128"] {
        lab.exec("router", &format!("ip address add {address} dev lo"));
    }
    lab.exec("router", "ip link set lo up");
    lab
}

/// The host's interface of a pod.
fn interface(lab: &Lab, pod: &str) -> String {
    let text = lab.ctl("get workloadendpoints -o json");
    let list: Value = serde_json::from_str(&text).expect("JSON");
    let all = list["items"].as_array().expect("a list");
    let of = all.iter().find(|endpoint| endpoint["spec"]["pod"] == pod);
    of.and_then(|endpoint| endpoint["spec"]["interfaceName"].as_str()).expect("the pod's").to_owned()
}

/// Which of the addresses that workloads dial are on which interfaces of a host.
fn dialled(lab: &Lab, host: &str) -> Vec<(String, String)> {
    let shown = lab.exec(host, "ip -oneline address show");
    let pair = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (interface, address) = (words.next()?, words.nth(1)?.split('/').next()?);
        DIALLED.contains(&address).then(|| (address.to_owned(), interface.to_owned()))
    };
    let mut pairs: Vec<_> = shown.lines().filter_map(pair).collect();
    pairs.sort();
    pairs
}

fn on(interface: &str) -> Vec<(String, String)> {
    DIALLED.map(|address| (address.to_owned(), interface.to_owned())).into()
}

#[test]
fn a_pod_with_a_bird_peers_with_its_node_and_what_is_behind_it_is_reached() {
    let lab = lab();
    lab.apply(PEERS);
    let cali = interface(&lab, "router");
    eventually(SOON, || when(dialled(&lab, "node-1") == on(&cali), "the addresses are not there"));
    assert_eq!(dialled(&lab, "node-2"), [], "nobody is selected there");
    let bird = Bird::start(&lab, "router");
    let peers = |host: &str| -> Value {
        serde_json::from_str(&lab.exec(host, "calicoctl bgp peers -o json")).expect("JSON")
    };
    // The host's own word comes after the pod's policy: by default workloads do not reach hosts.
    let waits = peers("node-1");
    let of_pod = waits.as_array().expect("a list").iter().filter(|peer| peer["type"] == "local workload");
    assert_eq!(of_pod.filter(|peer| peer["state"] == "Active").count(), 2, "{waits}");
    lab.await_ready("node-1");
    lab.apply(TO_HOST);
    bird.await_up();

    let [v4, v6] = lab.addresses("router")[..] else { panic!("two addresses") };
    eventually(SOON, || {
        let routes = [lab.exec("node-1", "ip route"), lab.exec("node-1", "ip -6 route")].concat();
        let learned = [
            format!("10.123.0.0/26 via {v4} dev {cali} proto bird"),
            format!("10.65.200.0/24 via {v4} dev {cali} proto bird"),
            format!("fd7b::/64 via {v6} dev {cali} proto bird"),
        ];
        when(learned.iter().all(|route| routes.contains(route)), &routes)
    });
    let up = peers("node-1");
    let session = up.as_array().expect("a list").iter().find(|peer| peer["address"] == v4.to_string());
    let session = session.unwrap_or_else(|| panic!("{up}"));
    assert_eq!(session["session"]["localAddress"], DIALLED[0], "{session}");
    let why = lab.exec("node-1", "calicoctl bgp why 10.123.0.0/26");
    assert!(why.contains(&format!("via {v4} dev {cali} proto bird")), "{why}");

    // The pod is told the nodes' blocks, to be reached by the address that it dials.
    eventually(SOON, || {
        let told = bird.ask("show route protocol host4 all");
        let blocks = told.lines().filter(|line| line.starts_with("10.65.") && line.contains("/26")).count();
        let by = told.matches(&format!("BGP.next_hop: {}", DIALLED[0])).count();
        when(blocks == 2 && by == 2, &told)
    });

    // What lies in a pool goes to the other nodes, by way of this one; what does not, stays.
    eventually(SOON, || {
        let routes = lab.exec("node-2", "ip route");
        when(routes.contains("10.65.200.0/24 via 172.30.0.1 dev eth0 proto bird"), &routes)
    });
    assert!(!lab.exec("node-2", "ip route").contains("10.123.0.0"));
    let _server = Server::start(&lab.pod("router"), 80);
    for (pod, address) in [("pod-1", "10.123.0.1"), ("pod-1", "fd7b::1"), ("pod-2", "10.65.200.1")] {
        let address = address.parse().expect("an address");
        assert!(reaches(&lab.pod(pod), address, 80, SOON), "{pod} does not reach {address}");
    }
}

#[test]
fn the_address_and_the_session_last_as_long_as_their_cause_whoever_restarts() {
    let lab = lab();
    lab.apply(TO_HOST);
    lab.apply(PEERS);
    let cali = interface(&lab, "router");
    let bird = Bird::start(&lab, "router");
    bird.await_up();
    let is_there = |expected: &[(String, String)]| {
        let there = dialled(&lab, "node-1");
        when(there == expected, &format!("{there:?}"))
    };

    // The field changes and comes back.
    lab.apply(&PEERS.replace("localWorkloadPeeringIPV4: 169.254.0.179, ", ""));
    eventually(SOON, || is_there(&on(&cali)[1..]));
    let _server = Server::start(&lab.pod("router"), 80);
    assert!(reaches(&lab.pod("pod-1"), lab.address("router"), 80, SOON), "its route has stayed");
    lab.apply(PEERS);
    eventually(SOON, || is_there(&on(&cali)));

    // A node that listens on its own addresses only listens on that one, too.
    lab.apply(
        &PEERS
            .replace("spec: {localWorkloadPeeringIPV4", "spec: {bindMode: NodeIP, localWorkloadPeeringIPV4"),
    );
    eventually(SOON, || {
        let listening = lab.exec("node-1", "ss --listening --tcp --numeric --no-header");
        let on = |address: &str| listening.contains(&format!("{address}:179"));
        when(on(DIALLED[0]) && on("172.30.0.1") && !on("0.0.0.0") && !on("*"), &listening)
    });
    drop(bird);
    let bird = Bird::start(&lab, "router");
    bird.await_up();

    // Another process finds the address in the kernel; the session comes again, and packets go on meanwhile.
    let behind = "10.123.0.1".parse().expect("an address");
    eventually(SOON, || {
        when(reaches(&lab.pod("pod-1"), behind, 80, SOON), "what is behind the pod is not reached")
    });
    let attempts = Attempts::start(lab.pod("pod-1"), behind, 80, SOON);
    lab.fault("kill", "node-1");
    assert_eq!(dialled(&lab, "node-1"), on(&cali));
    lab.fault("start", "node-1");
    lab.await_ready("node-1");
    bird.await_up();
    assert_eq!(dialled(&lab, "node-1"), on(&cali));
    let (reached, missed) = attempts.finish();
    assert!(reached > 0 && missed == 0, "{reached} reached, {missed} missed");

    // Nobody is selected any more while no process runs.
    lab.fault("kill", "node-1");
    lab.ctl("delete bgppeers routers");
    lab.fault("start", "node-1");
    lab.await_ready("node-1");
    eventually(SOON, || is_there(&[]));
    bird.await_down();
    eventually(SOON, || {
        let routes = lab.exec("node-1", "ip route");
        when(!routes.contains("10.123.0.0"), &routes)
    });
    // While one runs, the pod hears why.
    lab.apply(PEERS);
    bird.await_up();
    lab.ctl("delete bgppeers routers");
    eventually(SOON, || {
        let seen = bird.ask("show protocols");
        when(seen.matches("Received: Peer de-configured").count() == 2, &seen)
    });
    eventually(SOON, || is_there(&[]));
    assert!(
        lab.ctl("get nodes -o yaml").contains("ipv4Address: 172.30.0.1/24"),
        "it is no address of the node"
    );
}

/// Its session is waited for only where something may be lost behind it; for the others there are 30 s.
#[test]
fn a_pod_that_does_not_dial_holds_up_no_restart() {
    let lab = lab();
    lab.apply(PEERS);
    let cali = interface(&lab, "router");
    eventually(SOON, || {
        let there = dialled(&lab, "node-1");
        when(there == on(&cali), &format!("{there:?}"))
    });
    lab.fault("kill", "node-1");
    lab.exec("node-1", "ip route add 10.99.0.0/24 via 172.30.0.2 proto bird");
    lab.fault("start", "node-1");
    lab.await_ready("node-1");
    eventually(SOON, || {
        let routes = lab.exec("node-1", "ip route");
        when(!routes.contains("10.99.0.0"), &routes)
    });
}

#[test]
fn a_policy_of_the_pod_decides_whether_it_may_dial() {
    let lab = lab();
    lab.apply(TO_HOST);
    lab.apply(PEERS);
    let policy = |rules: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{name: router, namespace: default}}\n\
             spec:\n  selector: role == 'router'\n  types: [Egress]\n  egress: [{rules}]\n"
        )
    };
    lab.apply(&policy(""));
    let bird = Bird::start(&lab, "router");
    eventually(SOON, || {
        // It dials again, for both families, because nobody has answered.
        let counted = lab.exec("router", "nstat --zeros --noupdate TcpActiveOpens");
        let dials = counted.lines().find(|line| line.starts_with("TcpActiveOpens"));
        let dials = dials.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        when(dials > Some(4), &counted)
    });
    assert!(!bird.ask("show protocols").contains("Established"));
    let to = |net: &str| {
        format!("{{action: Allow, protocol: TCP, destination: {{nets: ['{net}'], ports: [179]}}}}")
    };
    lab.apply(&policy(&DIALLED.map(to).join(", ")));
    bird.await_up();
    // Nothing else of the pod goes anywhere.
    let _server = Server::start(&lab.pod("pod-1"), 80);
    assert!(!reaches(&lab.pod("router"), lab.address("pod-1"), 80, std::time::Duration::from_millis(200)));
}
