use super::*;
use crate::contract::{EncapMode, RouteType};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn node(address: &str) -> Option<NodeFact> {
    let interface: IpNet = address.parse().unwrap();
    Some(NodeFact { bgp: vec![interface], addresses: [interface.addr()].into(), tunnels: BTreeSet::new() })
}

fn block(owner: &str, borrowed: &[(&str, &str)]) -> Option<BlockFact> {
    let borrowed = borrowed.iter().map(|(address, node)| (address.parse().unwrap(), (*node).into()));
    Some(BlockFact { owner: Some(owner.into()), borrowed: borrowed.collect() })
}

fn routes() -> Routes {
    let mut routes = Routes::new("here".into());
    let pool = Pool { vxlan: EncapMode::CrossSubnet, ..Pool::default() };
    routes.set_pool(net("10.0.0.0/16"), Some(pool));
    routes.set_node(&"here".into(), node("192.168.0.1/24"));
    routes.set_node(&"there".into(), node("192.168.0.2/24"));
    routes.set_block(net("10.0.1.0/26"), block("there", &[("10.0.1.5", "here")]));
    routes
}

fn flushed(routes: &mut Routes) -> BTreeMap<IpNet, Arc<Route>> {
    routes.flush().updates.into_iter().collect()
}

#[test]
fn a_remote_block_leads_to_its_owner_and_is_near_when_that_is_in_our_subnet() {
    let mut routes = routes();
    let route = flushed(&mut routes)[&net("10.0.1.0/26")].clone();
    assert_eq!(route.node.as_deref(), Some("there"));
    assert_eq!(route.node_address, Some("192.168.0.2".parse().unwrap()));
    assert_eq!(route.types, [RouteType::RemoteWorkload].into());
    assert!(route.same_subnet);
    routes.set_node(&"here".into(), node("192.168.0.1/32"));
    assert!(!flushed(&mut routes)[&net("10.0.1.0/26")].same_subnet);
}

#[test]
fn a_borrowed_address_leads_to_the_borrower() {
    let route = flushed(&mut routes())[&net("10.0.1.5/32")].clone();
    assert_eq!((route.node.as_deref(), route.borrowed), (Some("here"), true));
    assert_eq!(route.types, [RouteType::RemoteWorkload, RouteType::LocalWorkload].into());
}

#[test]
fn a_tunnel_address_names_its_kind_and_a_workload_beats_it() {
    let mut routes = routes();
    let mut there = node("192.168.0.2/24").unwrap();
    there.tunnels.insert((TunnelKind::Vxlan, "10.0.1.0".parse().unwrap()));
    routes.set_node(&"there".into(), Some(there));
    let route = flushed(&mut routes)[&net("10.0.1.0/32")].clone();
    assert_eq!(route.tunnel, Some(TunnelKind::Vxlan));
    assert_eq!(route.types, [RouteType::RemoteWorkload, RouteType::RemoteTunnel].into());
    routes.set_workload("ns/pod", Some(("here".into(), Nets::One(net("10.0.1.0/32")))));
    let route = flushed(&mut routes)[&net("10.0.1.0/32")].clone();
    assert_eq!((route.node.as_deref(), route.local_workload, route.tunnel), (Some("here"), true, None));
}

#[test]
fn blocks_make_no_routes_when_workloads_are_the_source() {
    let mut routes = routes();
    flushed(&mut routes);
    routes.set_use_blocks(false);
    let gone = routes.flush().removals;
    assert_eq!(gone, [net("10.0.1.0/26"), net("10.0.1.5/32")]);
    routes.set_use_blocks(true);
    assert_eq!(flushed(&mut routes).into_keys().collect::<Vec<_>>(), gone);
}

#[test]
fn it_is_empty_when_everything_has_been_removed() {
    let mut routes = routes();
    routes.set_workload("ns/pod", Some(("here".into(), Nets::One(net("10.0.1.5/32")))));
    flushed(&mut routes);
    routes.set_workload("ns/pod", None);
    routes.set_block(net("10.0.1.0/26"), None);
    routes.set_pool(net("10.0.0.0/16"), None);
    routes.set_node(&"here".into(), None);
    routes.set_node(&"there".into(), None);
    assert_eq!(routes.flush().removals.len(), 5);
    assert_eq!(routes.size(), 0);
}
