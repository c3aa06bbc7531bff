//! BGP's choice as routes of the kernel.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bgp::policy::mirrored;
use bgp::{BestRoute, Family};
use calc::bgp_plan::StaticRoute;
use ipnet::IpNet;
use kernel::InterfaceName;
use kernel::ownership::ROUTE_BIRD;
use kernel::route::{Gateway, Route, Target};

use super::static_routes::StaticRoutes;
use crate::speaker::RouteEvent;

/// What the kernel is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A destination has this route.
    Set(Route),
    /// It has none.
    Remove(IpNet),
    /// Routes of all families are complete: what there is of an earlier process and was not named is stale.
    Sweep,
}

/// Routes of BGP on their way to the kernel, with the static ones that win over them.
#[derive(Debug)]
pub(crate) struct BgpRoutes {
    statics: StaticRoutes,
    /// Families whose routes are not complete yet.
    incomplete: BTreeSet<Family>,
}

impl Default for BgpRoutes {
    fn default() -> Self {
        Self { statics: StaticRoutes::default(), incomplete: Family::ALL.into() }
    }
}

impl BgpRoutes {
    /// These static routes, and no others, are wanted.
    pub(crate) fn replace_static(&mut self, wanted: &BTreeSet<StaticRoute>) -> Vec<Change> {
        self.statics.replace(wanted)
    }

    /// BGP says something.
    pub(crate) fn on_event(&mut self, event: RouteEvent) -> Option<Change> {
        match event {
            RouteEvent::Changed { prefix, route } => {
                self.statics.on_bgp(prefix, route.and_then(|best| route_of(prefix, &best)))
            }
            RouteEvent::Complete(family) => {
                self.incomplete.remove(&family);
                self.incomplete.is_empty().then_some(Change::Sweep)
            }
        }
    }
}

/// The route, by one gateway or several at once; `None` without gateways, or through a tunnel whose name is not one.
///
/// Its metric is the priority that LOCAL_PREF stands for (control-plane.md 3.1). IPv6 takes no metric for 1024, so the best
/// of all is 1 there.
fn route_of(destination: IpNet, best: &BestRoute) -> Option<Route> {
    let tunnel: Option<InterfaceName> = match &best.tunnel {
        Some(name) => Some(name.parse().ok()?),
        None => None,
    };
    // A tunnel ends at the next hop itself, whatever lies in between.
    let addresses = if tunnel.is_some() { &best.next_hops } else { &best.gateways };
    let device = |address: &IpAddr| match &tunnel {
        Some(tunnel) => Some(tunnel.clone()),
        None => best.links.get(address).and_then(|name| name.parse().ok()),
    };
    let mut gateways = addresses.iter().map(|address| Gateway {
        device: device(address),
        onlink: tunnel.is_some(),
        ..Gateway::new(*address)
    });
    let mut route = Route::via(destination, gateways.next()?, ROUTE_BIRD);
    let others: Vec<Gateway> = gateways.collect();
    if let (Target::Gateway(first), false) = (&route.target, others.is_empty()) {
        route.target = Target::Multipath(std::iter::once(first.clone()).chain(others).collect());
    }
    let is_v6 = destination.addr().is_ipv6();
    route.metric = mirrored(best.local_pref).max(u32::from(is_v6));
    Some(route)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bgp::{Asn, PeerId};

    use super::*;

    fn best(gateways: &[&str], local_pref: u32, tunnel: Option<&str>) -> BestRoute {
        let gateways: Vec<std::net::IpAddr> = gateways.iter().map(|text| text.parse().unwrap()).collect();
        BestRoute {
            next_hops: gateways.clone(),
            gateways,
            links: BTreeMap::new(),
            tunnel: tunnel.map(Into::into),
            peer: PeerId::from("p"),
            peer_as: Asn(64512),
            local_pref,
        }
    }

    #[test]
    fn the_metric_is_what_local_pref_stands_for() {
        let metric = |destination: &str, local_pref| {
            route_of(destination.parse().unwrap(), &best(&["10.0.0.2"], local_pref, None)).unwrap().metric
        };
        assert_eq!(metric("10.65.0.0/26", 2_147_482_623), 1024);
        assert_eq!(metric("10.65.0.0/26", 100), 2_147_483_547);
        assert_eq!(metric("10.65.0.0/26", u32::MAX), 0);
        assert_eq!(metric("fd65::/122", u32::MAX), 1);
    }

    #[test]
    fn a_link_local_gateway_is_on_the_link_of_its_peer() {
        let mut best = best(&["fe80::2"], 100, None);
        best.links.insert("fe80::2".parse().unwrap(), "fabric".into());
        let Some(Route { target: Target::Gateway(gateway), .. }) =
            route_of("10.65.0.0/26".parse().unwrap(), &best)
        else {
            panic!("one gateway")
        };
        assert_eq!(gateway.device, Some("fabric".parse().unwrap()));
        assert!(!gateway.onlink);
    }

    #[test]
    fn several_gateways_share_the_flows_and_a_tunnel_leads_to_all_of_them() {
        let destination = "10.65.0.0/26".parse().unwrap();
        let route = |gateways: &[&str], tunnel| route_of(destination, &best(gateways, 100, tunnel));
        assert_eq!(route(&[], None), None);
        let Some(Route { target: Target::Multipath(gateways), .. }) =
            route(&["10.0.0.2", "10.0.0.3"], Some("tunl0"))
        else {
            panic!("one gateway")
        };
        assert_eq!(gateways.len(), 2);
        assert!(gateways.iter().all(|gateway| gateway.onlink && gateway.device.is_some()));
    }
}
