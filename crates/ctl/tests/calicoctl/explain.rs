//! `calicoctl explain`, over a file and over a datastore.

use serde_json::Value;

use crate::world::World;

/// Two namespaces, three pods, a service, and a policy on the database.
pub(crate) const CLUSTER: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: prod, labels: {env: prod}}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: prod, labels: {app: web}}, spec: {nodeName: n1}, status: {podIP: 10.65.1.1}}
- {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: dev, labels: {app: web}}, spec: {nodeName: n1}, status: {podIP: 10.65.1.2}}
- {apiVersion: v1, kind: Pod, metadata: {name: db, namespace: prod, labels: {app: db}}, spec: {nodeName: n2}, status: {podIP: 10.65.2.1}}
- {apiVersion: v1, kind: Pod, metadata: {name: bare, namespace: dev}}
---
apiVersion: v1
kind: Service
metadata: {name: sql, namespace: prod}
spec: {clusterIP: 10.96.0.9, ports: [{port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: sql-1, namespace: prod, labels: {kubernetes.io/service-name: sql}}
endpoints: [{addresses: [10.65.2.1]}]
ports: [{port: 15432, protocol: TCP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: prod}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: prod}}}]
    ports: [{port: 15432}]
";

fn explain(arguments: &[&str]) -> crate::world::Outcome {
    let world = World::without_datastore();
    let file = world.file("cluster.yaml", CLUSTER);
    world.run(&[&["explain", "--file", &file][..], arguments].concat())
}

#[test]
fn a_file_is_enough_to_say_which_rule_decides() {
    let outcome = explain(&["--from", "dev/web", "--to", "db", "--protocol", "tcp", "--port", "15432"]);
    let expected = "\
TCP 10.65.1.2:40000 -> 10.65.2.1:15432
pod dev/web (node n1, cali5f26ee1e230) -> pod prod/db (node n2, calibc0d3acf431)
DENY: pod prod/db ingress on node n2: end of tier default: one of its policies selects the endpoint, none of their rules matched (defaultAction Deny)

1. pod dev/web egress, on node n1: allow
     by Profile kns.dev, spec.egress[0] (Allow)
     profiles
       Profile kns.dev: allow
         spec.egress[0] Allow: matched
       Profile ksa.dev.default: not reached

2. pod prod/db ingress, on node n2: deny
     by end of tier default: one of its policies selects the endpoint, none of their rules matched (defaultAction Deny)
     tier default
       Kubernetes NetworkPolicy prod/db: no match
         spec.ingress[0] Allow: no: source 10.65.1.2 is not in `(pcns.kubernetes.io/metadata.name == \"prod\" && projectcalico.org/orchestrator == \"k8s\")`
       end of tier: Deny (defaultAction)
     profiles
       Profile kns.prod: not reached
       Profile ksa.prod.default: not reached

Route on node n1: the host's own routes: no pool, block or node of the cluster has the address
";
    assert_eq!((outcome.code, outcome.output.as_str()), (0, expected));
}

#[test]
fn a_service_is_explained_at_its_backends() {
    let answer = explain(&[
        "--from",
        "prod/web",
        "--to",
        "service/sql",
        "--protocol",
        "TCP",
        "--port",
        "5432",
        "-o",
        "json",
    ]);
    let answer: Value = serde_json::from_str(&answer.output).unwrap();
    assert_eq!(answer["verdict"], "allow");
    assert_eq!(answer["answers"][0]["to"]["name"], "db");
    assert_eq!(
        answer["answers"][0]["nat"][0]["what"],
        "service prod/sql: 10.96.0.9 port 5432 becomes 10.65.2.1 port 15432"
    );
}

#[test]
fn what_a_file_leaves_open_is_assumed_aloud() {
    let outcome = explain(&["--from", "bare", "--to", "dev/web"]);
    assert!(outcome.output.starts_with("ICMP 198.18.0.1 -> 10.65.1.2 type 8 code 0\n"), "{}", outcome.output);
    assert_eq!(
        outcome.errors,
        "Pod dev/bare has no status.podIP; it is taken to have 198.18.0.1\n\
         Namespace dev is in no file; it is taken to have no labels\n"
    );
}

#[test]
fn what_is_asked_wrongly_is_refused_with_a_remedy() {
    let refused = |arguments: &[&str]| {
        let outcome = explain(arguments);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        outcome.errors.lines().last().unwrap_or_default().to_owned()
    };
    let pods = ["--from", "prod/web", "--to", "prod/db"];
    assert_eq!(
        refused(&[&pods[..], &["--port", "80"]].concat()),
        "--port 80 says nothing without a protocol: add --protocol TCP, UDP or SCTP"
    );
    assert_eq!(
        refused(&[&pods[..], &["--protocol", "udp"]].concat()),
        "--protocol UDP says nothing without a port: add --port, as in --port 443"
    );
    assert!(refused(&[&pods[..], &["--protocol", "tpc"]].concat()).contains("\"tpc\" is not a protocol"));
    assert!(
        refused(&["--from", "web", "--to", "db"])
            .contains("--from: \"web\" may be any of pod/dev/web, pod/prod/web")
    );
    assert!(refused(&["--from", "prod/wev", "--to", "db"]).contains("no pod, service or node is called so"));
    assert!(refused(&["--from", "2001:db8::1", "--to", "db"]).contains("no address of the same family"));
}

#[test]
fn a_datastore_is_asked_without_a_file() {
    let world = World::with(
        "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: n1}\nspec: {bgp: {ipv4Address: 172.30.0.1/24}}\n",
    );
    let text = world.run(&["explain", "--from", "192.0.2.1", "--to", "n1"]).succeeded();
    assert!(text.contains("ALLOW: no policy of this cluster is on the packet's way"), "{text}");
}
