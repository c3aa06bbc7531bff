//! BGP's choice as a route of the kernel.

use std::net::IpAddr;

use ipnet::IpNet;
use kernel::ownership::ROUTE_BIRD;
use kernel::route::{Gateway, Route, Target};

/// The route, by one next hop or several at once; `None` without next hops.
pub(crate) fn route(destination: IpNet, next_hops: &[IpAddr]) -> Option<Route> {
    let first = next_hops.first()?;
    let mut route = Route::via(destination, Gateway::new(*first), ROUTE_BIRD);
    if next_hops.len() > 1 {
        route.target = Target::Multipath(next_hops.iter().copied().map(Gateway::new).collect());
    }
    Some(route)
}
