//! The IP sets that active rules refer to, and their members.
//!
//! A set exists while a rule of an active policy or profile refers to it; references are counted. Its members come from
//! *items*: workload and host endpoints of all nodes, and network sets. Which items a set takes is the business of the
//! [label index](crate::label_index), what they contribute that of [`Definition`], and which of the contributions the
//! dataplane hears of that of [`Members`].

mod members;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

use api::selector::{Selector, unique_id};
use ipnet::IpNet;

use crate::contract::{Change, IpSetId, IpSetKind, IpSetMember};
use crate::label_index::{LabelIndex, SelectorId};
use crate::names::{Names, Shared};
use crate::services::{EndpointSlice, SliceKey, Slices};
use crate::slab::Slab;
use members::Members;

/// What a set holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Definition {
    /// The networks of everything that the selector matches.
    Selector(Selector),
    /// Address and port of everything that the selector matches and that has a port of that name and protocol.
    NamedPort { selector: Selector, protocol: u8, name: Arc<str> },
    /// The endpoints of a service (`namespace/name`), with or without ports.
    Service { service: Arc<str>, with_ports: bool },
}

impl Definition {
    /// The id that every set of this definition has.
    pub(crate) fn id(&self) -> IpSetId {
        let text = match self {
            Self::Selector(selector) => return IpSetId(selector.unique_id().into()),
            Self::NamedPort { selector, protocol, name } => {
                let content = format!("{},{},{name}", selector.unique_id(), protocol_name(*protocol));
                unique_id("n", &content)
            }
            Self::Service { service, with_ports: true } => unique_id("svc", service),
            Self::Service { service, with_ports: false } => unique_id("svcnoport", service),
        };
        IpSetId(text.into())
    }

    /// What the set holds, for people.
    fn meaning(&self) -> String {
        match self {
            Self::Selector(selector) => format!("`{selector}`"),
            Self::NamedPort { selector, protocol, name } => {
                format!("port {name:?} ({}) of `{selector}`", protocol_name(*protocol))
            }
            Self::Service { service, .. } => format!("the endpoints of service {service}"),
        }
    }

    fn kind(&self) -> IpSetKind {
        match self {
            Self::Selector(_) | Self::Service { with_ports: false, .. } => IpSetKind::Net,
            Self::NamedPort { .. } | Self::Service { with_ports: true, .. } => IpSetKind::NetPort,
        }
    }

    fn selector(&self) -> Option<&Selector> {
        match self {
            Self::Selector(selector) | Self::NamedPort { selector, .. } => Some(selector),
            Self::Service { .. } => None,
        }
    }

    fn for_each_member(&self, item: &Item, mut visit: impl FnMut(IpSetMember)) {
        match self {
            Self::Selector(_) => item.nets.iter().for_each(|net| visit(IpSetMember::Net(*net))),
            Self::NamedPort { protocol, name, .. } => {
                let ports = item.ports.iter().filter(|port| port.protocol == *protocol && port.name == *name);
                for port in ports {
                    for net in item.nets.iter() {
                        visit(IpSetMember::NetPort { net: *net, protocol: *protocol, port: port.port });
                    }
                }
            }
            Self::Service { .. } => {}
        }
    }
}

/// As named-port set ids write a protocol.
fn protocol_name(protocol: u8) -> &'static str {
    match protocol {
        17 => "udp",
        132 => "sctp",
        _ => "tcp",
    }
}

/// What an endpoint or network set can contribute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Item {
    pub(crate) nets: Nets,
    /// Sorted, each once.
    pub(crate) ports: Arc<[NamedPort]>,
    /// The node of a workload endpoint.
    pub(crate) node: Option<Arc<str>>,
}

impl Item {
    pub(crate) fn new(nets: impl IntoIterator<Item = IpNet>, ports: BTreeSet<NamedPort>) -> Self {
        Self { nets: nets.into_iter().collect(), ports: ports.into_iter().collect(), node: None }
    }

    fn has_same_members(&self, other: &Self) -> bool {
        self.nets == other.nets && self.ports == other.ports
    }
}

/// Networks, sorted, each once. Most endpoints have one address, and a large cluster many endpoints, so one needs no room of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Nets {
    One(IpNet),
    Several(Box<[IpNet]>),
}

impl Default for Nets {
    fn default() -> Self {
        Self::Several(Box::default())
    }
}

impl FromIterator<IpNet> for Nets {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        let nets: BTreeSet<IpNet> = nets.into_iter().collect();
        match (nets.first(), nets.len()) {
            (Some(net), 1) => Self::One(*net),
            _ => Self::Several(nets.into_iter().collect()),
        }
    }
}

impl Deref for Nets {
    type Target = [IpNet];

    fn deref(&self) -> &[IpNet] {
        match self {
            Self::One(net) => std::slice::from_ref(net),
            Self::Several(nets) => nets,
        }
    }
}

/// A port that an endpoint gives a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NamedPort {
    pub(crate) name: Arc<str>,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
}

/// Kinds of item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ItemKind {
    WorkloadEndpoint,
    HostEndpoint,
    NetworkSet,
    GlobalNetworkSet,
}

/// Identity of an item: its kind, and `[namespace/]name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ItemKey(pub(crate) ItemKind, pub(crate) Box<str>);

#[derive(Debug)]
struct Set {
    id: IpSetId,
    definition: Definition,
    references: u32,
    members: Members,
    selector: Option<SelectorId>,
    is_published: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct IpSets {
    index: LabelIndex,
    items: Slab<Item>,
    nodes: Names,
    /// The pods of one deployment have the same.
    ports: Shared<[NamedPort]>,
    item_ids: BTreeMap<ItemKind, BTreeMap<Box<str>, u32>>,
    sets: Slab<Set>,
    set_ids: BTreeMap<IpSetId, u32>,
    by_selector: BTreeMap<SelectorId, u32>,
    slices: Slices,
    dirty: BTreeSet<IpSetId>,
}

impl IpSets {
    /// Adds or replaces an item.
    pub(crate) fn set_item<'l, 'p>(
        &mut self,
        key: ItemKey,
        mut item: Item,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        parents: impl IntoIterator<Item = &'p str>,
    ) {
        item.node = item.node.map(|node| self.nodes.share(&node));
        item.ports = self.ports.share(&item.ports);
        let items = &mut self.items;
        let of_kind = self.item_ids.entry(key.0).or_default();
        let number = *of_kind.entry(key.1).or_insert_with(|| items.insert(Item::default()));
        let moved = self.index.set_item(number, labels, parents);
        let old = self.items.get_mut(number).map(|slot| std::mem::replace(slot, item.clone()));
        let old = old.unwrap_or_default();
        if !old.has_same_members(&item) || moved.before != moved.after {
            moved.before.into_iter().for_each(|selector| self.contribute(selector, &old, Members::remove));
            moved.after.into_iter().for_each(|selector| self.contribute(selector, &item, Members::add));
        }
        drop(item);
        self.release_item(old);
    }

    /// Removes an item.
    pub(crate) fn remove_item(&mut self, key: &ItemKey) {
        let Some(number) = self.item_ids.get_mut(&key.0).and_then(|of_kind| of_kind.remove(&key.1)) else {
            return;
        };
        let old = self.items.remove(number).unwrap_or_default();
        for selector in self.index.remove_item(number) {
            self.contribute(selector, &old, Members::remove);
        }
        self.release_item(old);
    }

    /// All items of a kind, by `[namespace/]name`.
    pub(crate) fn items(&self, kind: ItemKind) -> impl Iterator<Item = (&str, &Item)> {
        let of_kind = self.item_ids.get(&kind).into_iter().flatten();
        of_kind.filter_map(|(name, number)| Some((&**name, self.items.get(*number)?)))
    }

    /// Says what labels a profile lends to the items that name it.
    pub(crate) fn set_profile_labels<'a>(
        &mut self,
        name: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        for change in self.index.set_parent(name, labels) {
            let apply = if change.matches { Members::add } else { Members::remove };
            for number in change.items {
                let item = self.items.get(number).cloned().unwrap_or_default();
                self.contribute(change.selector, &item, apply);
            }
        }
    }

    /// Replaces an endpoint slice.
    pub(crate) fn set_slice(&mut self, key: SliceKey, slice: Option<EndpointSlice>) {
        let [old, new] = self.slices.set(key, slice);
        for (slice, apply) in [(old, Members::remove as fn(&mut _, _)), (new, Members::add)] {
            let Some((service, slice)) = slice else { continue };
            for with_ports in [true, false] {
                let id = Definition::Service { service: service.clone(), with_ports }.id();
                let Some(set) = self.set_ids.get(&id).and_then(|set| self.sets.get_mut(*set)) else {
                    continue;
                };
                slice.members(with_ports).into_iter().for_each(|member| apply(&mut set.members, member));
                self.dirty.insert(id);
            }
        }
    }

    /// Counts a reference to a set in; the first makes the set.
    pub(crate) fn acquire(&mut self, definition: &Definition) {
        let id = definition.id();
        if let Some(set) = self.set_ids.get(&id).and_then(|set| self.sets.get_mut(*set)) {
            set.references += 1;
            return;
        }
        let selector = definition.selector().map(|selector| self.index.add_selector(selector));
        let mut members = Members::default();
        for number in selector.into_iter().flat_map(|selector| self.index.items_of(selector)) {
            if let Some(item) = self.items.get(number) {
                definition.for_each_member(item, |member| members.add(member));
            }
        }
        if let Definition::Service { service, with_ports } = definition {
            let slices = self.slices.of(service).flat_map(|slice| slice.members(*with_ports));
            slices.for_each(|member| members.add(member));
        }
        let set = Set {
            id: id.clone(),
            definition: definition.clone(),
            references: 1,
            members,
            selector,
            is_published: false,
        };
        let number = self.sets.insert(set);
        self.set_ids.insert(id.clone(), number);
        self.by_selector.extend(selector.map(|selector| (selector, number)));
        self.dirty.insert(id);
    }

    /// Counts a reference out. A set without references lives until the next flush, in case it is wanted again.
    pub(crate) fn release(&mut self, definition: &Definition) {
        let id = definition.id();
        if let Some(set) = self.set_ids.get(&id).and_then(|set| self.sets.get_mut(*set)) {
            set.references = set.references.saturating_sub(1);
            if set.references == 0 {
                self.dirty.insert(id);
            }
        }
    }

    /// What has changed, in two parts: first what has to precede references to the sets, then the sets that are no longer referred to.
    pub(crate) fn flush(&mut self) -> (Vec<Change>, Vec<Change>) {
        let (mut updates, mut removals) = (Vec::new(), Vec::new());
        for id in std::mem::take(&mut self.dirty) {
            let Some(number) = self.set_ids.get(&id).copied() else { continue };
            let Some(set) = self.sets.get_mut(number) else { continue };
            match set.references {
                0 => removals.extend(self.destroy(number)),
                _ => updates.extend(set.publish()),
            }
        }
        (updates, removals)
    }

    /// What each set holds, for people.
    pub(crate) fn meanings(&self) -> BTreeMap<IpSetId, String> {
        let sets = self.set_ids.iter().filter_map(|(id, number)| Some((id, self.sets.get(*number)?)));
        sets.map(|(id, set)| (id.clone(), set.definition.meaning())).collect()
    }

    /// How much it holds, all indexes counted: 0 when everything has been removed and flushed.
    pub(crate) fn size(&self) -> usize {
        let items = self.items.len() + self.item_ids.values().map(BTreeMap::len).sum::<usize>();
        let sets = self.sets.len() + self.set_ids.len() + self.by_selector.len() + self.dirty.len();
        self.index.size() + self.nodes.len() + self.ports.len() + items + sets + self.slices.size()
    }

    fn contribute(&mut self, selector: SelectorId, item: &Item, apply: fn(&mut Members, IpSetMember)) {
        let Some(number) = self.by_selector.get(&selector) else { return };
        let Some(set) = self.sets.get_mut(*number) else { return };
        let Set { definition, members, id, .. } = set;
        definition.for_each_member(item, |member| apply(members, member));
        if !self.dirty.contains(id) {
            self.dirty.insert(id.clone());
        }
    }

    fn release_item(&mut self, item: Item) {
        if let Some(node) = item.node {
            self.nodes.release(node);
        }
        self.ports.release(item.ports);
    }

    fn destroy(&mut self, number: u32) -> Option<Change> {
        let set = self.sets.remove(number)?;
        self.set_ids.remove(&set.id);
        if let Some(selector) = set.selector {
            self.by_selector.remove(&selector);
            self.index.remove_selector(selector);
        }
        set.is_published.then_some(Change::IpSetRemove { id: set.id })
    }
}

impl Set {
    fn publish(&mut self) -> Option<Change> {
        let id = self.id.clone();
        if !self.is_published {
            self.is_published = true;
            let members = self.members.follow();
            return Some(Change::IpSetUpdate { id, kind: self.definition.kind(), members });
        }
        let (added, removed) = self.members.take_delta();
        let is_empty = added.is_empty() && removed.is_empty();
        (!is_empty).then_some(Change::IpSetDelta { id, added, removed })
    }
}
