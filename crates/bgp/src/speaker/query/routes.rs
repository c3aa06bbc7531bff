//! Routes, page by page.

use ipnet::IpNet;

use super::cursor::Cursor;
use super::view::{RouteView, Use};
use super::{EXAMINED, WEIGHT};
use crate::rib::{Net, PeerNumber, Slot, key};
use crate::speaker::Speaker;
use crate::speaker::family::FamilyRib;
use crate::types::{Family, PeerId};

/// From which side routes are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// All that there are.
    All,
    /// What a peer told us, behind the import policy.
    Received(PeerId),
    /// What we told a peer, as it got it.
    Advertised(PeerId),
}

/// Which routes are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteFilter {
    /// From which side.
    pub view: View,
    /// Only this prefix.
    pub prefix: Option<IpNet>,
    /// And everything in it.
    pub longer: bool,
}

/// A page of routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutesPage {
    /// The routes: all of a prefix together, the best one first.
    pub routes: Vec<RouteView>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<Cursor>,
}

/// Whose routes, by number.
#[derive(Debug, Clone, Copy)]
enum Side {
    All,
    Received(PeerNumber),
    Advertised(PeerNumber),
}

impl Speaker {
    /// Routes, from a place on. A page may be empty and not be the last. A peer that is not there has no routes.
    pub fn routes(&self, filter: &RouteFilter, from: Cursor) -> RoutesPage {
        let number = |peer: &PeerId| self.numbers.get(peer).copied();
        let side = match &filter.view {
            View::All => Some(Side::All),
            View::Received(peer) => number(peer).map(Side::Received),
            View::Advertised(peer) => number(peer).map(Side::Advertised),
        };
        let Some(side) = side else { return RoutesPage { routes: Vec::new(), next: None } };
        let mut page = Page { speaker: self, filter, side, routes: Vec::new(), weight: 0, examined: 0 };
        let next = page.fill(from);
        RoutesPage { routes: page.routes, next }
    }
}

struct Page<'a> {
    speaker: &'a Speaker,
    filter: &'a RouteFilter,
    side: Side,
    routes: Vec<RouteView>,
    weight: usize,
    examined: usize,
}

impl Page<'_> {
    fn fill(&mut self, from: Cursor) -> Option<Cursor> {
        let wanted = |family| self.filter.prefix.is_none_or(|prefix| Family::of(&prefix) == family);
        for family in Family::ALL.into_iter().filter(|family| *family >= from.family && wanted(*family)) {
            let next = match family {
                Family::Ipv4Unicast => self.fill_from(&self.speaker.ipv4, from),
                Family::Ipv6Unicast => self.fill_from(&self.speaker.ipv6, from),
            };
            if next.is_some() {
                return next;
            }
        }
        None
    }

    /// The place to go on at, when not everything of this family fits.
    fn fill_from<N: Net>(&mut self, family: &FamilyRib<N>, from: Cursor) -> Option<Cursor> {
        if let Some(prefix) = self.filter.prefix.filter(|_| !self.filter.longer) {
            let prefix = key::<N>(prefix)?;
            let slot = family.rib.slot(prefix)?;
            return self.take(family, slot, prefix, from.done_at(N::FAMILY, slot));
        }
        for (slot, prefix) in family.rib.prefixes_from(from.slot_in(N::FAMILY)) {
            if self.examined >= EXAMINED || self.weight >= WEIGHT {
                return Some(Cursor::at(N::FAMILY, slot, 0));
            }
            self.examined += 1;
            if self.filter.prefix.is_none_or(|outer| outer.contains(&prefix.into())) {
                let next = self.take(family, slot, prefix, from.done_at(N::FAMILY, slot));
                if next.is_some() {
                    return next;
                }
            }
        }
        None
    }

    /// Takes the routes of a prefix but for the first ones; the place to go on at, when they do not all fit.
    fn take<N: Net>(&mut self, family: &FamilyRib<N>, slot: Slot, prefix: N, skip: usize) -> Option<Cursor> {
        let routes = match self.side {
            Side::All => self.speaker.views(family, prefix, |_| true),
            Side::Received(number) => self.speaker.views(family, prefix, |peer| peer == number),
            Side::Advertised(number) => self.speaker.told(family, number, slot, prefix).unwrap_or_default(),
        };
        for (index, route) in routes.into_iter().enumerate().skip(skip) {
            if self.weight >= WEIGHT {
                return Some(Cursor::at(N::FAMILY, slot, index));
            }
            self.weight += route.weight();
            self.routes.push(route);
        }
        None
    }
}

impl Speaker {
    /// The routes for a prefix that come from some peers, the best one first, then those that are used beside it.
    pub(super) fn views<N: Net>(
        &self,
        family: &FamilyRib<N>,
        prefix: N,
        from: impl Fn(PeerNumber) -> bool,
    ) -> Vec<RouteView> {
        let routes = family.rib.routes(prefix);
        let wanted = routes.paths.iter().enumerate().filter(|(_, path)| from(path.peer));
        let mut views: Vec<RouteView> =
            wanted.map(|(index, path)| self.view(prefix.into(), path, Use::of(index, &routes))).collect();
        views.sort_by_key(|route| (!route.best, !route.multipath));
        views
    }
}
