use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Event;
use crate::route::RouteKey;

/// More events than this about different objects are worth a resync.
const LIMIT: usize = 50_000;

/// Events that were not handed on yet: of each object only the last, in the order in which those came.
#[derive(Debug)]
pub(super) struct Pending {
    events: Vec<Option<Event>>,
    places: HashMap<Object, usize>,
}

/// What an event is about.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Object {
    Everything,
    Link(u32),
    Address(u32, IpNet),
    /// With table and protocol: one object replaces another of someone else.
    Route(u32, RouteKey, u8),
    Neighbour(u32, IpAddr),
    Setting(Option<u32>),
}

impl Pending {
    /// Begins with the resync that every receiver gets first.
    pub(super) fn new() -> Self {
        let mut pending = Self { events: Vec::new(), places: HashMap::new() };
        pending.push(Event::Resync);
        pending
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn push(&mut self, event: Event) {
        if self.places.len() >= LIMIT {
            self.take();
            self.push(Event::Resync);
        }
        let place = self.events.len();
        if let Some(before) = self.places.insert(object(&event), place) {
            self.events[before] = None;
        }
        self.events.push(Some(event));
        self.compact();
    }

    pub(super) fn take(&mut self) -> Vec<Event> {
        self.places.clear();
        std::mem::take(&mut self.events).into_iter().flatten().collect()
    }

    /// Empty places must not pile up while one object changes all the time.
    fn compact(&mut self) {
        if self.events.len() > 2 * LIMIT {
            for event in self.take() {
                self.places.insert(object(&event), self.events.len());
                self.events.push(Some(event));
            }
        }
    }
}

fn object(event: &Event) -> Object {
    match event {
        Event::Resync => Object::Everything,
        Event::Link(link) => Object::Link(link.index),
        Event::LinkGone { index, .. } => Object::Link(*index),
        Event::Address(address) | Event::AddressGone(address) => {
            Object::Address(address.index, address.address)
        }
        Event::Route(route) | Event::RouteGone(route) => {
            Object::Route(route.table, route.key(), route.protocol)
        }
        Event::Neighbour(neighbour) => Object::Neighbour(neighbour.index, neighbour.address),
        Event::NeighbourGone { index, address } => Object::Neighbour(*index, *address),
        Event::Setting { index } => Object::Setting(*index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_object_the_last_event_is_kept_in_order_of_the_last_ones() {
        let mut pending = Pending::new();
        let setting = |index| Event::Setting { index: Some(index) };
        let address = IpAddr::from([10, 0, 0, 1]);
        for event in [setting(1), Event::NeighbourGone { index: 1, address }, setting(2), setting(1)] {
            pending.push(event);
        }
        assert_eq!(
            pending.take(),
            [Event::Resync, Event::NeighbourGone { index: 1, address }, setting(2), setting(1)]
        );
        assert!(pending.is_empty());
    }

    #[test]
    fn too_many_events_become_a_resync() {
        let mut pending = Pending::new();
        for index in 0..u32::try_from(LIMIT).unwrap() + 5 {
            pending.push(Event::Setting { index: Some(index) });
        }
        let events = pending.take();
        assert_eq!(events[0], Event::Resync);
        assert!(events.len() < 10);
    }

    #[test]
    fn one_object_that_changes_all_the_time_takes_no_room() {
        let mut pending = Pending::new();
        for _ in 0..3 * LIMIT {
            pending.push(Event::Setting { index: None });
        }
        assert!(pending.events.len() <= 2 * LIMIT + 1);
        assert_eq!(pending.take(), [Event::Resync, Event::Setting { index: None }]);
    }
}
