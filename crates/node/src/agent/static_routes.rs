//! Routes to peers by way of a gateway (`BGPPeer.reachableBy`). They win over what BGP itself learns for a peer's address,
//! which would be a route to the peer by way of the peer.

use std::collections::{BTreeMap, BTreeSet};

use calc::bgp_plan::StaticRoute;
use ipnet::IpNet;
use kernel::ownership::ROUTE_BIRD;
use kernel::route::{Gateway, Route};

use super::bgp_routes::Change;

/// The static routes, and what BGP has for the same destinations.
#[derive(Debug, Default)]
pub(super) struct StaticRoutes {
    routes: BTreeSet<StaticRoute>,
    shadowed: BTreeMap<IpNet, Option<Route>>,
}

impl StaticRoutes {
    /// These, and no others, are wanted.
    pub(super) fn replace(&mut self, wanted: &BTreeSet<StaticRoute>) -> Vec<Change> {
        if self.routes == *wanted {
            return Vec::new();
        }
        let old = std::mem::replace(&mut self.routes, wanted.clone());
        let is_wanted = |route: &&StaticRoute| wanted.iter().any(|new| new.destination == route.destination);
        let gone = old.iter().filter(|route| !is_wanted(route)).map(|route| route.destination);
        let mut changes: Vec<Change> = gone
            .map(|destination| match self.shadowed.remove(&destination).flatten() {
                Some(route) => Change::Set(route),
                None => Change::Remove(destination),
            })
            .collect();
        let new = wanted
            .difference(&old)
            .map(|route| Change::Set(Route::via(route.destination, Gateway::new(route.gateway), ROUTE_BIRD)));
        changes.extend(new);
        changes
    }

    /// BGP's route for a destination; none when a static one is in its place.
    pub(super) fn on_bgp(&mut self, destination: IpNet, route: Option<Route>) -> Option<Change> {
        if self.routes.iter().any(|known| known.destination == destination) {
            self.shadowed.insert(destination, route);
            return None;
        }
        Some(route.map_or(Change::Remove(destination), Change::Set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(gateway: &str) -> Route {
        Route::via("10.0.0.9/32".parse().unwrap(), Gateway::new(gateway.parse().unwrap()), ROUTE_BIRD)
    }

    fn wanted(gateways: &[&str]) -> BTreeSet<StaticRoute> {
        let destination = "10.0.0.9/32".parse().unwrap();
        gateways
            .iter()
            .map(|gateway| StaticRoute { destination, gateway: gateway.parse().unwrap() })
            .collect()
    }

    #[test]
    fn a_static_route_stands_before_bgps_and_gives_it_back() {
        let destination = "10.0.0.9/32".parse().unwrap();
        let mut routes = StaticRoutes::default();
        assert_eq!(routes.replace(&wanted(&["10.0.0.1"])), [Change::Set(via("10.0.0.1"))]);
        assert_eq!(routes.replace(&wanted(&["10.0.0.1"])), []);
        assert_eq!(routes.on_bgp(destination, Some(via("10.0.0.5"))), None);
        assert_eq!(routes.replace(&wanted(&["10.0.0.2"])), [Change::Set(via("10.0.0.2"))]);
        assert_eq!(routes.replace(&wanted(&[])), [Change::Set(via("10.0.0.5"))]);
        assert_eq!(routes.on_bgp(destination, None), Some(Change::Remove(destination)));
    }

    #[test]
    fn without_a_route_of_bgp_the_destination_is_left_without() {
        let mut routes = StaticRoutes::default();
        routes.replace(&wanted(&["10.0.0.1"]));
        assert_eq!(routes.replace(&wanted(&[])), [Change::Remove("10.0.0.9/32".parse().unwrap())]);
    }
}
