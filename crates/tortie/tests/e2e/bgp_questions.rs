//! `calicoctl bgp` on hosts of a lab: what is shown is what the kernel and the other hosts have.

use serde_json::Value;

use crate::host::routes;
use crate::lab::{Lab, SOON, eventually, text, when};

/// A BGPPeer of node-1 that nothing listens on, and a filter for it.
const ROUTER: &str = r"
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: tor}
spec: {node: node-1, peerIP: 172.30.0.254, asNumber: 64600}
";

/// Asks node-1 for everything, every second.
const STATUS: &str = r"
apiVersion: projectcalico.org/v3
kind: CalicoNodeStatus
metadata: {name: one}
spec: {node: node-1, classes: [Agent, BGP, Routes], updatePeriodSeconds: 1}
";

const FILTER: &str = r"
apiVersion: projectcalico.org/v3
kind: BGPFilter
metadata: {name: nothing-from-others}
spec: {importV4: [{action: Reject, matchOperator: In, cidr: 10.65.0.0/16}]}
---
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false}
";

fn bgp(lab: &Lab, host: &str, words: &str) -> Value {
    let text = lab.exec(host, &format!("calicoctl bgp {words} -o json"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

/// The prefix that a host has by way of another.
fn block_of_other(lab: &Lab, host: &str, other: &str) -> String {
    let learned = routes(lab, host, |line| line.contains(&format!("via {other} ")));
    learned[0].split(' ').next().expect("a destination").to_owned()
}

#[test]
fn what_is_shown_is_what_the_hosts_have() {
    let lab = Lab::up(2, &[]);
    let theirs = block_of_other(&lab, "node-1", "172.30.0.2");
    let ours = block_of_other(&lab, "node-2", "172.30.0.1");

    let peers = bgp(&lab, "node-1", "peers");
    let [peer] = &list(&peers)[..] else { panic!("{peers}") };
    assert_eq!((&peer["address"], &peer["state"]), (&"172.30.0.2".into(), &"Established".into()));
    let counts = &peer["prefixes"]["ipv4/unicast"];
    assert_eq!(
        (&counts["received"], &counts["best"], &counts["advertised"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!(peer["session"]["holdSeconds"], 90);
    let offered = list(&peer["capabilities"]).iter().find(|pair| pair["name"] == "graceful restart");
    assert!(offered.is_some_and(|pair| pair["ours"].is_string() && pair["theirs"].is_string()), "{peer}");

    let routes_of = |words: &str| -> Vec<String> {
        let routes = bgp(&lab, "node-1", &format!("routes {words}"));
        list(&routes).iter().map(|route| route["prefix"].as_str().expect("a prefix").to_owned()).collect()
    };
    assert_eq!(routes_of("--received 172.30.0.2"), std::slice::from_ref(&theirs));
    assert_eq!(routes_of("--advertised 172.30.0.2"), std::slice::from_ref(&ours));
    let shown = routes_of("--prefix 10.65.0.0/16 --longer");
    assert!([&ours, &theirs].into_iter().all(|block| shown.contains(block)), "{shown:?}");
    assert!(routes_of("--prefix 10.65.0.0/16").is_empty(), "nobody announces the pool itself");

    let why = bgp(&lab, "node-1", &format!("why {theirs}"));
    assert_eq!(why["paths"][0]["route"]["best"], true, "{why}");
    let kernel = why["kernel"]["exact"][0].as_str().expect("a route of the kernel");
    assert!(kernel.contains("via 172.30.0.2 dev eth0 proto bird"), "{kernel}");
    let text = lab.exec("node-1", &format!("calicoctl bgp why {ours}"));
    assert!(text.contains("our own") && text.contains("172.30.0.2: yes via 172.30.0.1"), "{text}");
}

#[test]
fn a_peer_that_is_down_says_why_and_what_to_do() {
    let lab = Lab::up(1, &[]);
    lab.apply(ROUTER);
    eventually(SOON, || {
        let text = lab.exec("node-1", "calicoctl bgp peers 172.30.0.254");
        let said =
            text.contains("connection refused") && text.contains("nothing listens on 172.30.0.254 port 179");
        when(said, &text)
    });
    let row = lab.exec("node-1", "calicoctl bgp peers");
    assert!(row.contains("172.30.0.254") && row.contains("connect: connection refused"), "{row}");
}

#[test]
fn what_a_file_would_do_is_what_it_does() {
    let lab = Lab::up(2, &[]);
    let file = lab.folder().join("change.yaml");
    std::fs::write(&file, FILTER).unwrap();
    let theirs = block_of_other(&lab, "node-1", "172.30.0.2");
    let down = bgp(&lab, "node-1", "what-if --down 172.30.0.2");
    let change = &list(&down["changes"])[0];
    assert_eq!((&change["prefix"], &change["after"]), (&theirs.as_str().into(), &serde_json::json!([])));
    let foretold = bgp(&lab, "node-1", &format!("what-if --file {}", file.display()));
    assert_eq!(foretold["sessions"][0]["change"], "removed", "{foretold}");
    let lost = list(&foretold["changes"]).iter().find(|change| change["prefix"] == theirs.as_str());
    assert_eq!(lost.map(|change| list(&change["after"]).len()), Some(0), "{foretold}");
    assert!(routes(&lab, "node-1", |line| line.contains(&theirs)).len() == 1, "nothing was changed");
    lab.ctl(&format!("apply -f {}", file.display()));
    eventually(SOON, || {
        let words = ["exec", "node-1", "--", "calicoctl", "bgp", "routes", "--received", "172.30.0.2"];
        let said = text(&lab.lab(&words).stderr);
        when(said.contains("there is no peer"), &said)
    });
    assert!(routes(&lab, "node-1", |line| line.contains(&theirs)).is_empty());
}

#[test]
fn a_node_fills_in_its_status_and_only_its_own() {
    let lab = Lab::up(2, &[]);
    let theirs = block_of_other(&lab, "node-1", "172.30.0.2");
    lab.apply(STATUS);
    lab.apply(&STATUS.replace("name: one", "name: other").replace("node-1", "node-9"));
    let status = |name: &str| -> Value {
        let text = lab.ctl(&format!("get caliconodestatus {name} -o json"));
        serde_json::from_str::<Value>(&text).expect("JSON")["status"].take()
    };
    eventually(SOON, || when(status("one")["lastUpdated"].is_string(), "there is no status"));
    let first = status("one");
    assert_eq!(first["agent"]["birdV4"]["state"], "Ready", "{first}");
    assert_eq!(first["agent"]["birdV4"]["routerID"], "172.30.0.1");
    assert_eq!(
        (&first["bgp"]["numberEstablishedV4"], &first["bgp"]["peersV4"][0]["type"]),
        (&1.into(), &"NodeMesh".into())
    );
    let route =
        list(&first["routes"]["routesV4"]).iter().find(|route| route["destination"] == theirs.as_str());
    let route = route.unwrap_or_else(|| panic!("{theirs} is not in {first}"));
    assert_eq!((&route["type"], &route["interface"]), (&"FIB".into(), &"eth0".into()), "{route}");
    assert_eq!(route["learnedFrom"]["peerIP"], "172.30.0.2");
    eventually(SOON, || {
        let mut now = status("one");
        let is_later = now["lastUpdated"] != first["lastUpdated"];
        now["lastUpdated"] = first["lastUpdated"].clone();
        when(is_later && now == first, &format!("{now}\n{first}"))
    });
    assert!(status("other").is_null(), "it is for a node that is not there");
}
