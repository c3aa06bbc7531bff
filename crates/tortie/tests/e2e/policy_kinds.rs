//! Kinds of policy from the file to the packet: ClusterNetworkPolicies of both tiers, services in rules, automatic host
//! endpoints, and what a newer version wrote.

use std::net::IpAddr;
use std::time::Duration;

use datastore::{Sqlite, Store};
use kernel::netns::Netns;

use crate::host::{Server, reaches};
use crate::lab::{Lab, SOON, eventually, when};

/// How long something that will not come is waited for.
const SILENCE: Duration = Duration::from_millis(300);

/// Waits until exactly these ports of an address are reached.
#[track_caller]
fn open(from: &Netns, to: IpAddr, ports: &[u16]) {
    eventually(SOON, || {
        let reached: Vec<u16> =
            [80, 81].into_iter().filter(|port| reaches(from, to, *port, SILENCE)).collect();
        if reached == ports { Ok(()) } else { Err(format!("{reached:?} are open instead of {ports:?}")) }
    });
}

fn cluster_policy(tier: &str, rule: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {}}}\nspec:\n  \
         tier: {tier}\n  priority: 1\n  subject: {{namespaces: {{}}}}\n  ingress:\n  - {rule}\n",
        tier.to_lowercase()
    )
}

#[test]
fn every_kind_of_policy_reaches_the_packet() {
    let lab = Lab::up(1, &[]);
    for pod in ["a", "b"] {
        assert!(lab.lab(&["pod", "add", pod, "--node", "node-1"]).status.success());
    }
    let (from, to) = (lab.pod("a"), lab.address("b"));
    let _servers = [80, 81].map(|port| Server::start(&lab.pod("b"), port));
    open(&from, to, &[80, 81]);

    let port = |number: u16| format!("protocols: [{{tcp: {{destinationPort: {{number: {number}}}}}}}]");
    let baseline = cluster_policy("Baseline", "{action: Deny, from: [{namespaces: {}}]}");
    lab.apply(&baseline);
    open(&from, to, &[]);
    let admin =
        cluster_policy("Admin", &format!("{{action: Accept, from: [{{namespaces: {{}}}}], {}}}", port(81)));
    lab.apply(&admin);
    open(&from, to, &[81]);
    // A NetworkPolicy stands between the two.
    let own = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: own}\nspec:\n  podSelector: {}\n  \
               ingress: [{ports: [{port: 80}]}]\n";
    lab.apply(own);
    open(&from, to, &[80, 81]);
    lab.ctl("delete gnp kcnp.admin kcnp.baseline");
    open(&from, to, &[80]);
    lab.ctl("delete np knp.default.own");
    open(&from, to, &[80, 81]);

    // A service in a rule stands for its slices.
    let egress = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: egress}\nspec:\n  types: [Egress]\n  \
                  egress: [{action: Allow, destination: {services: {name: web}}}]\n";
    lab.apply(egress);
    open(&from, to, &[]);
    let slice = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-1, labels: \
         {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\nendpoints: [{{addresses: [{to}]}}]\nports: [{{port: 81}}]\n"
    );
    lab.apply(&slice);
    open(&from, to, &[81]);
    lab.ctl("delete endpointslice web-1");
    open(&from, to, &[]);
    lab.ctl("delete np egress");
    open(&from, to, &[80, 81]);

    // An automatic host endpoint changes nothing by itself.
    lab.apply(
        "apiVersion: projectcalico.org/v3\nkind: KubeControllersConfiguration\nmetadata: {name: default}\nspec: {controllers: \
         {node: {hostEndpoint: {autoCreate: Enabled}}}}\n",
    );
    eventually(SOON, || {
        let endpoints = lab.ctl("get hostendpoints -o name");
        when(endpoints == "hostendpoint/node-1-auto-hep\n", &endpoints)
    });
    open(&from, to, &[80, 81]);
    lab.ctl("delete kubecontrollersconfiguration default");
    eventually(SOON, || {
        let endpoints = lab.ctl("get hostendpoints -o name");
        when(endpoints.is_empty(), &endpoints)
    });

    // A rule that only a newer version knows denies in its place.
    let key = api::Key::cluster(api::Kind::GlobalNetworkPolicy, "newer");
    let rules = r#"[{"action":"Allow","protocol":"TCP","destination":{"ports":[80]}},{"action":"Audit"},{"action":"Allow"}]"#;
    let text =
        format!(r#"{{"metadata":{{"name":"newer"}},"spec":{{"types":["Ingress"],"ingress":{rules}}}}}"#);
    Sqlite::open(lab.datastore()).expect("the lab's").create(&key, &text).expect("a new row");
    open(&from, to, &[80]);
    let log = lab.log("node-1");
    assert!(log.contains("part of this row cannot be read") && log.contains("Audit"), "{log}");
}
