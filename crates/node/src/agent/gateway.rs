//! Whether workloads' ARP requests for their gateway are answered.
//!
//! The kernel's proxy ARP answers for 169.254.1.1 only when the host has a route to it by another device, which a default
//! route is. A host without one gets a route of our own ([`kernel::pod::gateway_route`]).

use std::collections::BTreeSet;

use kernel::Rtnetlink;
use kernel::monitor::Event;
use kernel::route::{KernelRoute, RouteKind};

/// Follows the host's default route.
#[derive(Debug)]
pub(crate) struct DefaultRoute {
    socket: Rtnetlink,
    /// The links that it leads to. The kernel does not announce the loss of routes that went with their link.
    links: BTreeSet<u32>,
    /// Something happened that may have changed it.
    unsure: bool,
}

impl DefaultRoute {
    pub(crate) fn new(socket: Rtnetlink) -> Self {
        Self { socket, links: BTreeSet::new(), unsure: true }
    }

    pub(crate) fn on_event(&mut self, event: &Event) {
        self.unsure |= match event {
            Event::Resync => true,
            Event::Route(route) | Event::RouteGone(route) => is_default(route),
            Event::Link(link) => !link.up && self.links.contains(&link.index),
            Event::LinkGone { index, .. } => self.links.contains(index),
            _ => false,
        };
    }

    /// Whether the host has a default route, if that may be news. Routes that cannot be read are looked at again next time.
    pub(crate) fn news(&mut self) -> Option<bool> {
        if !self.unsure {
            return None;
        }
        match self.socket.main_routes() {
            Ok(routes) => {
                let found: Vec<&KernelRoute> = routes.iter().filter(|route| is_default(route)).collect();
                self.links =
                    found.iter().flat_map(|route| &route.hops).filter_map(|hop| hop.device).collect();
                self.unsure = false;
                Some(!found.is_empty())
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the routes to see whether there is a default route");
                None
            }
        }
    }
}

fn is_default(route: &KernelRoute) -> bool {
    route.destination.prefix_len() == 0
        && route.destination.addr().is_ipv4()
        && route.kind == RouteKind::Unicast
}
