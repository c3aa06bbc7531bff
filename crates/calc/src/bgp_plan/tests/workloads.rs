use api::selector::Selector;

use super::*;

fn workload(labels: &Value, profiles: &[&str], nets: &[&str], interface: &str) -> Value {
    json!({
        "metadata": {"name": interface, "namespace": "ns", "labels": labels},
        "spec": {"node": "n1", "interfaceName": interface, "ipNetworks": nets, "profiles": profiles},
    })
}

fn red() -> Value {
    workload(&json!({"color": "red"}), &[], &["192.168.0.5/32", "fd00:10::5/128"], "cali-red")
}

fn bgp_peer(planner: &mut BgpPlanner, name: &str, spec: &Value) {
    set(planner, &Key::cluster(Kind::BGPPeer, name), Some(resource(name, spec)));
}

fn configure(planner: &mut BgpPlanner, name: &str, spec: &Value) {
    set(planner, &Key::cluster(Kind::BGPConfiguration, name), Some(resource(name, spec)));
}

/// A node with both families.
fn dual_stack() -> BgpPlanner {
    let mut planner = planner();
    let spec = json!({"bgp": {"ipv4Address": "10.0.0.1/24", "ipv6Address": "fd00::1/64"}});
    set(&mut planner, &node("n1"), Some(resource("n1", &spec)));
    planner
}

/// The sessions with workloads: address, AS, and the peer that asks for it.
fn sessions<'a>(plan: &'a BgpPlan) -> Vec<(String, u32, &'a str)> {
    let session = |peer: &'a Peer| match &peer.source {
        PeerSource::LocalWorkload { name } => Some((peer.address.to_string(), peer.remote_as, name.as_str())),
        _ => None,
    };
    plan.peers.iter().filter_map(session).collect()
}

/// What is on interfaces: `cali-red 169.254.0.179`.
fn addresses(plan: &BgpPlan) -> Vec<String> {
    let of = |(name, all): (&Arc<str>, &std::collections::BTreeSet<std::net::IpAddr>)| {
        let name = name.clone();
        all.clone().into_iter().map(move |address| format!("{name} {address}"))
    };
    plan.peering_addresses.iter().flat_map(of).collect()
}

const BOTH: &str = r#"{"localWorkloadPeeringIPV4": "169.254.0.179", "localWorkloadPeeringIPV6": "fdc9::1"}"#;

fn both() -> Value {
    serde_json::from_str(BOTH).unwrap()
}

#[test]
fn pods_that_peer_are_sessions_as_soon_as_they_are_there() {
    let mut planner = planner();
    bgp_peer(&mut planner, "pods", &json!({"localWorkloadSelector": "all()", "asNumber": 65010}));
    planner.flush();
    set(&mut planner, &pod("p"), Some(pod_document("n1", "192.168.0.5")));
    let plan = planner.flush().unwrap();
    let peer = plan.peers.iter().find(|peer| peer.remote_as == 65010).unwrap();
    assert_eq!((peer.address.to_string().as_str(), peer.passive), ("192.168.0.5", true));
    assert_eq!((peer.source_address, peer.ttl_security), (None, None));
    assert!(
        !peer.is_missed() && plan.peers.iter().any(Peer::is_missed),
        "a node is ready without its pods' BGP"
    );
    assert_eq!(plan.peering_addresses.len(), 0, "no address is configured for them to dial");
}

#[test]
fn exactly_the_selected_workloads_have_an_address_to_dial_of_each_family_that_they_have() {
    let mut planner = dual_stack();
    configure(&mut planner, "default", &both());
    bgp_peer(&mut planner, "red", &json!({"localWorkloadSelector": "color == 'red'", "asNumber": 65401}));
    set(&mut planner, &pod("red"), Some(red()));
    set(
        &mut planner,
        &pod("v4"),
        Some(workload(&json!({"color": "red"}), &[], &["192.168.0.6/32"], "cali-v4")),
    );
    set(
        &mut planner,
        &pod("blue"),
        Some(workload(&json!({"color": "blue"}), &[], &["192.168.0.7/32"], "cali-blue")),
    );
    let plan = planner.flush().unwrap();
    assert_eq!(addresses(&plan), ["cali-red 169.254.0.179", "cali-red fdc9::1", "cali-v4 169.254.0.179"]);
    let session = |address: &str| (address.to_owned(), 65401, "red");
    assert_eq!(sessions(&plan), [session("192.168.0.5"), session("192.168.0.6"), session("fd00:10::5")]);
    let ours = |address: &str| {
        let peer = plan.peers.iter().find(|peer| peer.address.to_string() == address);
        peer.and_then(|peer| peer.source_address).map(|address| address.to_string())
    };
    assert_eq!(ours("192.168.0.5").as_deref(), Some("169.254.0.179"));
    assert_eq!(ours("fd00:10::5").as_deref(), Some("fdc9::1"));
    let behind = |address: &str| plan.interfaces.get(&address.parse::<IpNet>().unwrap()).cloned();
    assert_eq!(behind("192.168.0.5/32").as_deref(), Some("cali-red"));
    assert_eq!(behind("192.168.0.7/32"), None);
    // Neither is announced, nor is it an address of the node.
    assert!(
        plan.originate
            .keys()
            .all(|prefix| prefix.addr() != "169.254.0.179".parse::<std::net::IpAddr>().unwrap())
    );
    assert_eq!(plan.addresses.len(), 2);
    assert_eq!(plan.problems.len(), 0);
}

#[test]
fn addresses_and_sessions_go_with_the_label_the_peer_or_the_field() {
    let peer = json!({"localWorkloadSelector": "color == 'red'", "asNumber": 65401});
    let with_all = || {
        let mut planner = dual_stack();
        configure(&mut planner, "default", &both());
        bgp_peer(&mut planner, "red", &peer);
        set(&mut planner, &pod("red"), Some(red()));
        let plan = planner.flush().unwrap();
        assert_eq!((addresses(&plan).len(), sessions(&plan).len()), (2, 2));
        (planner, plan)
    };
    let (mut planner, before) = with_all();
    let pale = workload(&json!({}), &[], &["192.168.0.5/32", "fd00:10::5/128"], "cali-red");
    set(&mut planner, &pod("red"), Some(pale));
    let plan = planner.flush().unwrap();
    assert_eq!((addresses(&plan).len(), sessions(&plan).len()), (0, 0));
    let changes = PlanChanges::between(&before, &plan);
    let gone = |address: &str| AddressChange {
        interface: "cali-red".into(),
        address: address.parse().unwrap(),
        added: false,
    };
    assert_eq!(changes.addresses, [gone("169.254.0.179"), gone("fdc9::1")]);

    let (mut planner, _) = with_all();
    set(&mut planner, &Key::cluster(Kind::BGPPeer, "red"), None);
    let plan = planner.flush().unwrap();
    assert_eq!((addresses(&plan).len(), sessions(&plan).len()), (0, 0));

    let (mut planner, _) = with_all();
    configure(&mut planner, "default", &json!({"localWorkloadPeeringIPV6": "fdc9::2"}));
    let plan = planner.flush().unwrap();
    assert_eq!((addresses(&plan), sessions(&plan).len()), (vec!["cali-red fdc9::2".to_owned()], 2));
    let changes = PlanChanges::between(&before, &plan);
    let reset = SessionEffect::Reset(vec!["the source address"]);
    let effects: Vec<_> =
        changes.sessions.iter().map(|change| (change.object.as_str(), &change.effect)).collect();
    assert_eq!(
        effects,
        [("BGPPeer red", &reset), ("BGPPeer red", &reset)],
        "nobody speaks from an address that is gone"
    );
    set(&mut planner, &pod("red"), None);
    assert_eq!(addresses(&planner.flush().unwrap()).len(), 0);
}

#[test]
fn labels_are_those_that_policies_see() {
    let mut planner = planner();
    configure(&mut planner, "default", &both());
    let select = |planner: &mut BgpPlanner, selector: &str| {
        bgp_peer(planner, "pods", &json!({"localWorkloadSelector": selector, "asNumber": 65401}));
    };
    let profile = Key::cluster(Kind::Profile, "kns.ns");
    set(
        &mut planner,
        &pod("p"),
        Some(workload(&json!({"own": "1"}), &["kns.ns", "other"], &["192.168.0.5/32"], "cali1")),
    );
    select(&mut planner, "projectcalico.org/namespace == 'ns'");
    assert_eq!(sessions(&planner.flush().unwrap()).len(), 1);
    select(&mut planner, "pcns.team == 'a' && own == '1'");
    assert_eq!(sessions(&planner.flush().unwrap()).len(), 0);
    let lend = |labels: Value| Some(resource("kns.ns", &json!({"labelsToApply": labels})));
    set(&mut planner, &profile, lend(json!({"pcns.team": "a", "own": "2"})));
    let plan = planner.flush().unwrap();
    assert_eq!((sessions(&plan).len(), addresses(&plan).len()), (1, 1));
    set(&mut planner, &profile, lend(json!({"pcns.team": "b"})));
    assert_eq!(sessions(&planner.flush().unwrap()).len(), 0);
}

#[test]
fn profiles_are_of_no_interest_where_no_workload_peers() {
    let mut planner = planner();
    planner.flush();
    let profile = resource("kns.ns", &json!({"labelsToApply": {"pcns.team": "a"}}));
    set(&mut planner, &Key::cluster(Kind::Profile, "kns.ns"), Some(profile));
    assert_eq!(planner.flush(), None);
}

#[test]
fn of_several_peers_the_first_by_name_has_the_workload_and_peers_of_other_nodes_have_none() {
    let mut planner = planner();
    set(&mut planner, &pod("red"), Some(red()));
    let peer = |as_number: u32, node: &str| json!({"localWorkloadSelector": "all()", "asNumber": as_number, "node": node});
    bgp_peer(&mut planner, "c", &peer(65003, "n1"));
    bgp_peer(&mut planner, "b", &peer(65002, ""));
    bgp_peer(&mut planner, "a", &peer(65001, "n2"));
    assert_eq!(sessions(&planner.plan()), [("192.168.0.5".to_owned(), 65002, "b")]);
}

#[test]
fn a_node_that_listens_on_its_addresses_listens_on_those_that_are_dialled_too() {
    let mut planner = dual_stack();
    configure(
        &mut planner,
        "default",
        &json!({
            "bindMode": "NodeIP", "localWorkloadPeeringIPV4": "169.254.0.179", "localWorkloadPeeringIPV6": "fdc9::1",
        }),
    );
    let listen = |planner: &BgpPlanner| {
        let addresses = planner.plan().listen.addresses;
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(listen(&planner), ["10.0.0.1", "fd00::1"]);
    bgp_peer(&mut planner, "red", &json!({"localWorkloadSelector": "all()", "asNumber": 65401}));
    set(&mut planner, &pod("red"), Some(red()));
    assert_eq!(listen(&planner), ["10.0.0.1", "fd00::1", "169.254.0.179", "fdc9::1"]);
}

#[test]
fn an_address_that_cannot_be_dialled_is_a_problem_and_on_no_interface() {
    for (address, why) in [
        ("10.0.0.1", "this node's own"),
        ("224.0.0.5", "single host"),
        ("255.255.255.255", "single host"),
        ("127.0.0.1", "others can dial"),
        ("fe80::1", "link-local"),
        ("::", "others can dial"),
    ] {
        let mut planner = dual_stack();
        let family = if address.contains(':') { "IPV6" } else { "IPV4" };
        configure(&mut planner, "default", &json!({format!("localWorkloadPeering{family}"): address}));
        bgp_peer(&mut planner, "red", &json!({"localWorkloadSelector": "all()", "asNumber": 65401}));
        set(&mut planner, &pod("red"), Some(red()));
        let plan = planner.plan();
        assert_eq!((addresses(&plan).len(), sessions(&plan).len()), (0, 2), "{address}");
        let problems: Vec<String> = plan.problems.iter().map(ToString::to_string).collect();
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        let field = format!("BGPConfiguration default: spec.localWorkloadPeering{family}: {address} ");
        assert!(problem.starts_with(&field) && problem.contains(why), "{problem}");
    }
}

#[test]
fn an_address_in_a_pool_is_used_and_said() {
    let mut planner = planner();
    configure(&mut planner, "default", &json!({"localWorkloadPeeringIPV4": "192.168.9.9"}));
    bgp_peer(&mut planner, "red", &json!({"localWorkloadSelector": "all()", "asNumber": 65401}));
    set(&mut planner, &pod("red"), Some(red()));
    let plan = planner.plan();
    assert_eq!(addresses(&plan), ["cali-red 192.168.9.9"]);
    assert!(plan.problems.iter().any(|problem| problem.reason.contains("lies in IPPool pool")));
}

#[test]
fn the_plan_is_the_same_in_whatever_order_the_rows_came() {
    let peer = |name: &str, selector: &str, as_number: u32| {
        let spec = json!({"localWorkloadSelector": selector, "asNumber": as_number});
        (Key::cluster(Kind::BGPPeer, name), resource(name, &spec))
    };
    let blue = workload(&json!({"color": "blue"}), &["kns.ns"], &["192.168.0.6/32"], "cali-blue");
    let rows = [
        (Key::cluster(Kind::BGPConfiguration, "default"), resource("default", &both())),
        peer("red", "color == 'red'", 65001),
        peer("team", "pcns.team == 'a'", 65002),
        (pod("red"), red()),
        (pod("blue"), blue),
        (
            Key::cluster(Kind::Profile, "kns.ns"),
            resource("kns.ns", &json!({"labelsToApply": {"pcns.team": "a"}})),
        ),
    ];
    let in_order = |order: &[usize], flushes: &mut fastrand::Rng| {
        let mut planner = dual_stack();
        for index in order {
            let (key, document) = &rows[*index];
            // What came before is forgotten again.
            set(&mut planner, key, Some(document.clone()));
            set(&mut planner, key, None);
            flushes.bool().then(|| planner.flush());
            set(&mut planner, key, Some(document.clone()));
        }
        planner.flush();
        planner.plan()
    };
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let expected = in_order(&order, &mut fastrand::Rng::with_seed(0));
    assert_eq!((addresses(&expected).len(), sessions(&expected).len()), (3, 3));
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        random.shuffle(&mut order);
        assert_eq!(in_order(&order, &mut random), expected, "seed {seed}");
    }
}

#[test]
fn a_selector_that_cannot_be_read_selects_nothing() {
    assert!(Selector::parse("color ==").is_err());
    let mut planner = planner();
    bgp_peer(&mut planner, "red", &json!({"localWorkloadSelector": "color ==", "asNumber": 65401}));
    set(&mut planner, &pod("red"), Some(red()));
    assert_eq!(sessions(&planner.plan()).len(), 0);
}
