//! The kernel beside the model, on tables in memory.

use api::documents;
use api::wire::packet::{StageFacts, StageHook, StagePlace, StageQuestion};
use calc::cluster::Cluster;
use dataplane::DataplaneConfig;
use kernel::nft::{Family, TableId, TableState};

use super::compare::Comparison;
use super::expected::Expected;
use super::*;

const CLUSTER: &str = "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: db}
spec:
  selector: app == 'db'
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, source: {selector: app == 'web'}, destination: {ports: [5432]}}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: node-cni-db-eth0, namespace: default, labels: {app: db}}
spec: {orchestrator: cni, node: node, containerID: db, endpoint: eth0, interfaceName: cali1, ipNetworks: [10.65.0.1/32]}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: node-cni-web-eth0, namespace: default, labels: {app: web}}
spec: {orchestrator: cni, node: node, containerID: web, endpoint: eth0, interfaceName: cali2, ipNetworks: [10.65.0.2/32]}
";

const RULE: &str = "GlobalNetworkPolicy/db ingress 0";

fn expected(text: &str) -> Expected {
    let mut cluster = Cluster::default();
    documents::load(text).unwrap().into_iter().for_each(|document| cluster.put(document.into_resource()));
    let config = DataplaneConfig { node_name: "node".to_owned(), ..DataplaneConfig::default() };
    Expected::of(&cluster, &config, [])
}

fn table(expected: &Expected) -> TableState {
    expected.table(&TableId::new(Family::Ip, ownership::NFT_TABLE))
}

/// What the kernel holds for a packet from `web` to `db`, and the first difference.
fn compared(wanted: &Expected, actual: Option<&TableState>, origin: &str) -> (StageFacts, Option<String>) {
    let stage = StageQuestion {
        at: StagePlace::Workload("cali1".to_owned()),
        ingress: true,
        origin: origin.to_owned(),
    };
    let question = PacketQuestion {
        source: "10.65.0.2".parse().unwrap(),
        destination: "10.65.0.1".parse().unwrap(),
        protocol: 6,
        source_port: 40000,
        destination_port: 5432,
        stages: vec![stage.clone()],
    };
    let table = table(wanted);
    let mut comparison = Comparison::new(&table, actual, &[], &wanted.meanings);
    comparison.base_chains();
    let facts = comparison.stage(&stage, &question);
    (facts, comparison.difference)
}

#[test]
fn a_kernel_that_holds_what_it_should_has_the_rule_and_the_member() {
    let model = expected(CLUSTER);
    let (facts, difference) = compared(&model, Some(&table(&model)), RULE);
    assert_eq!(difference, None);
    let rule = facts.rule.unwrap();
    assert_eq!((rule.chain.as_str(), rule.index), ("cali-pi-gnp/db", 0));
    let [set] = &facts.sets[..] else { panic!("{:?}", facts.sets) };
    assert_eq!((set.has_source, set.has_destination, set.members), (true, false, 1));
    assert_eq!(set.meaning, "`app == \"web\"`");
}

#[test]
fn whatever_differs_is_named() {
    let model = expected(CLUSTER);
    let differs = |change: &dyn Fn(&mut TableState), origin: &str| {
        let mut table = table(&model);
        change(&mut table);
        compared(&model, Some(&table), origin).1.unwrap()
    };
    let chain = "cali-pi-gnp/db";
    assert_eq!(compared(&model, None, RULE).1.unwrap(), "the kernel does not have the table");
    let text = differs(&|table| table.chains.get_mut(chain).unwrap().rules.clear(), RULE);
    assert_eq!(text, format!("chain {chain}, rule 0: should be \"{RULE}\", is no rule"));
    let text = differs(&|table| table.sets.values_mut().for_each(|set| set.elements.clear()), RULE);
    assert!(text.starts_with("map cali-to-wl-dispatch should lead cali1 to cali-tw-"), "{text}");
    let is_policy_set = |name: &str| name.starts_with("cali40s-");
    let text = differs(
        &|table| {
            let sets = table.sets.iter_mut().filter(|(name, _)| is_policy_set(name));
            sets.for_each(|(_, set)| set.elements.clear());
        },
        RULE,
    );
    assert!(text.ends_with("(`app == \"web\"`) of the kernel lacks 10.65.0.2"), "{text}");
    let text = differs(&|table| drop(table.chains.remove("filter-FORWARD-to")), RULE);
    assert_eq!(text, "the kernel does not have chain filter-FORWARD-to");
    let text = differs(&|table| table.dormant = true, RULE);
    assert_eq!(text, "the kernel's table is switched off (dormant)");
    let text = differs(&|_| {}, "GlobalNetworkPolicy/db ingress 1");
    assert_eq!(text, "the kernel has no rule \"GlobalNetworkPolicy/db ingress 1\" where it should decide");
}

#[test]
fn a_kernel_that_is_behind_the_rows_differs_from_them() {
    let behind = table(&expected(&CLUSTER.replace("5432", "5433")));
    let (_, difference) = compared(&expected(CLUSTER), Some(&behind), RULE);
    assert_eq!(
        difference.unwrap(),
        format!("chain cali-pi-gnp/db, rule 0 (\"{RULE}\"): its conditions or actions differ")
    );
}

const HOST: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: uplink, labels: {host: here}}
spec: {node: node, interfaceName: eth0}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: ssh}
spec:
  selector: has(host)
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, destination: {ports: [2222]}}
";

#[test]
fn a_host_endpoints_chain_is_found_at_its_hook() {
    let model = expected(HOST);
    let (wanted, actual) = (table(&model), table(&model));
    let at = |hook| StageQuestion {
        at: StagePlace::Host { name: "uplink".to_owned(), hook },
        ingress: true,
        origin: "GlobalNetworkPolicy/ssh ingress 0".to_owned(),
    };
    let question = PacketQuestion {
        source: "192.0.2.1".parse().unwrap(),
        destination: "172.30.0.1".parse().unwrap(),
        protocol: 6,
        source_port: 40000,
        destination_port: 2222,
        stages: Vec::new(),
    };
    let mut comparison = Comparison::new(&wanted, Some(&actual), &[], &model.meanings);
    let facts = comparison.stage(&at(StageHook::Normal), &question);
    assert_eq!((facts.chain.as_deref(), comparison.difference.as_deref()), (Some("cali-fh-uplink"), None));
    assert_eq!(facts.rule.unwrap().chain, "cali-pi-gnp/ssh");
    // No policy of the endpoint is on forwarded traffic, so it has no such chain.
    let facts = comparison.stage(&at(StageHook::Forward), &question);
    assert_eq!(facts.chain, None);
    assert!(comparison.difference.unwrap().contains("no chain"));
}

#[test]
fn rows_that_a_newer_version_wrote_are_taken_as_the_agent_takes_them() {
    let store = datastore::Memory::new();
    let key = |name: &str| api::Key::cluster(api::Kind::GlobalNetworkPolicy, name);
    let denying =
        r#"{"metadata": {"name": "new"}, "spec": {"selector": "all()", "ingress": [{"action": "Audit"}]}}"#;
    store.create(&key("new"), denying).unwrap();
    store.create(&key("nothing"), "{").unwrap();
    let cluster = super::cluster(&store).unwrap();
    let (row, problems) = Row::decode_closed(&key("new"), denying).unwrap();
    assert!(!problems.is_empty(), "the action is unknown");
    assert_eq!(cluster.rows().get(&key("new")).map(|found| &**found), Some(&row));
    assert!(!cluster.rows().contains_key(&key("nothing")));
}
