//! What is deleted or changed by hand comes back; what is others' is left alone.

use std::time::Duration;

use crate::host::{routes, rules};
use crate::lab::{Lab, eventually, when};

/// What the node promises.
const LIMIT: Duration = Duration::from_secs(10);

const POLICY: &str = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: web-only}
spec:
  selector: all()
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, destination: {ports: [80]}, source: {selector: all()}}
";

fn ours(line: &str) -> bool {
    line.contains("proto bird") || (line.contains("dev cali") && !line.contains("proto"))
}

#[test]
fn routes_that_are_deleted_or_changed_by_hand_come_back() {
    let lab = Lab::up(2, &[]);
    let before = routes(&lab, "node-1", ours);
    let learned = before.iter().find(|line| line.contains("via 172.30.0.2 ")).expect("a route by BGP");
    let block = learned.split(' ').next().unwrap();
    let (pod, device) = (lab.address("pod-1"), device(&before));
    for change in [
        format!("ip route del {block}"),
        format!("ip route del {pod}/32"),
        format!("ip route replace {block} via 172.30.0.254 proto bird"),
        format!("ip route change {pod}/32 dev {device} scope link src 172.30.0.1"),
        format!("ip route replace blackhole {pod}/32"),
        format!("ip route replace {block} via 172.30.0.2 proto 77"),
        "ip route flush proto bird".to_owned(),
    ] {
        lab.exec("node-1", &change);
        eventually(LIMIT, || {
            let now = routes(&lab, "node-1", ours);
            when(now == before, &format!("after {change}: {now:#?}, not {before:#?}"))
        });
    }
}

/// The link of the only pod.
fn device(routes: &[String]) -> String {
    let mut words = routes.iter().flat_map(|line| line.split(' '));
    words.find(|word| word.starts_with("cali")).expect("a pod's route").to_owned()
}

#[test]
fn rules_that_are_deleted_or_changed_by_hand_come_back() {
    let lab = Lab::up(1, &[]);
    lab.apply(POLICY);
    let before = eventually(LIMIT, || {
        let now = rules(&lab, "node-1");
        when(now.contains("web-only"), &now)
    });
    let interface =
        before.split_whitespace().find(|word| word.starts_with("cali-tw-")).expect("a pod's chain");
    for change in [
        "nft delete table ip calico".to_owned(),
        "nft flush table ip calico".to_owned(),
        format!("nft flush chain ip calico {interface}"),
        format!("nft insert rule ip calico {interface} accept"),
        "nft add chain ip calico cali-intruder".to_owned(),
    ] {
        lab.exec("node-1", &change);
        eventually(LIMIT, || {
            let now = rules(&lab, "node-1");
            when(now == before, &format!("after {change}: {now}\nnot {before}"))
        });
    }
}

#[test]
fn foreign_tables_and_routes_are_untouched_across_stop_start_and_crash() {
    let lab = Lab::up(2, &[]);
    for line in [
        "nft add table ip others",
        "nft add chain ip others forward { type filter hook forward priority 10 ; }",
        "nft add rule ip others forward counter ip daddr 192.0.2.1 drop",
        "nft add table inet cali-other",
        "ip route add 192.0.2.0/24 via 172.30.0.254 proto static",
        "ip route add blackhole 198.51.100.0/24 proto 99",
        "ip route add 203.0.113.0/24 dev eth0",
        "ip link add others type veth peer name others-peer",
    ] {
        lab.exec("node-1", line);
    }
    let seen = || {
        let foreign = routes(&lab, "node-1", |line| !ours(line));
        let tables = ["nft --stateless list table ip others", "nft --stateless list table inet cali-other"];
        let tables = tables.map(|line| lab.exec("node-1", line));
        (foreign, tables, lab.exec("node-1", "ip -brief link show dev others"))
    };
    let before = seen();
    for fault in ["stop", "kill"] {
        lab.fault(fault, "node-1");
        assert_eq!(seen(), before, "after {fault}");
        lab.fault("start", "node-1");
        lab.await_ready("node-1");
        assert_eq!(seen(), before, "after {fault} and start");
    }
}
