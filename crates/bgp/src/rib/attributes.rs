//! What routes have in common, kept once.
//!
//! Many routes share their attributes (a full table has about five prefixes to a set, a cluster's node one set for
//! all its blocks). A set is interned: routes hold its small [`AttributeId`](super::AttributeId) and a count of users decides when it
//! goes. What route selection looks at is taken apart once; the rest stays as octets, ready to be sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::raw::RawAttributes;
use crate::config::Origination;
use crate::iana::attribute as code;
use crate::packet::attribute::{
    AsPath, Attribute, AttributeValue, Community, LargeCommunity, MpReach, Origin, encode_raw,
};
use crate::packet::update::Update;
use crate::packet::{Context, PeerKind};
use crate::policy::{self, Actions};
use crate::types::{Asn, FamilySet};

/// LOCAL_PREF of a route that came without one (RFC 4271 leaves it open; everybody uses 100).
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// How learned routes rank beside our own, unless an import policy says otherwise.
pub(crate) const DEFAULT_PREFERENCE: u32 = 100;

/// The longest attributes that are kept: what a message may have (RFC 8654), less some room for what is added when they
/// are passed on.
const MOST_OCTETS: usize = 60_000;

/// How sets are encoded: four-octet AS numbers.
pub(crate) fn canonical() -> Context {
    Context { as4: true, families: FamilySet::EMPTY, ..Context::initial(PeerKind::Internal) }
}

/// The attributes of a route, and its next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeSet {
    /// Where packets go; unspecified for routes that we originate.
    pub next_hop: IpAddr,
    /// The link-local address beside an IPv6 next hop (RFC 2545).
    pub link_local: Option<Ipv6Addr>,
    /// ORIGIN.
    pub origin: Origin,
    /// The interface that its packets leave by, when we originate it and they leave by one.
    pub interface: Option<Arc<str>>,
    /// How it ranks beside routes of our own; what counts first in selection, and never sent.
    pub preference: u32,
    /// LOCAL_PREF, or what stands for it.
    pub local_pref: u32,
    /// MULTI_EXIT_DISC; none counts as 0.
    pub med: Option<u32>,
    /// The length of the AS_PATH as selection counts it.
    pub path_length: u32,
    /// The neighbouring AS, which the MED belongs to.
    pub neighbour: Option<Asn>,
    /// ORIGINATOR_ID.
    pub originator: Option<Ipv4Addr>,
    /// The length of the CLUSTER_LIST.
    pub cluster_length: u32,
    /// NO_ADVERTISE: for nobody else.
    pub no_advertise: bool,
    /// NO_EXPORT or NO_EXPORT_SUBCONFED: not for external peers.
    pub no_export: bool,
    /// LLGR_STALE: the least preferred, and only for peers that know of it (RFC 9494).
    pub long_lived_stale: bool,
    /// OTC, Only to Customer (RFC 9234).
    pub otc: Option<Asn>,
    /// All attributes but NEXT_HOP and the MP ones, four-octet AS numbers, in ascending order of the code.
    octets: Box<[u8]>,
}

impl AttributeSet {
    /// From attributes that are passed on (NEXT_HOP and MP ones among them are left out).
    pub fn new(attributes: Vec<Attribute>, next_hop: IpAddr, link_local: Option<Ipv6Addr>) -> Self {
        Self::encoded(&attributes, next_hop, link_local)
    }

    /// From attributes as they came, of which those are left out that are not passed on.
    fn encoded(attributes: &[Attribute], next_hop: IpAddr, link_local: Option<Ipv6Addr>) -> Self {
        let mut set = Self {
            next_hop,
            link_local,
            origin: Origin::Incomplete,
            interface: None,
            preference: DEFAULT_PREFERENCE,
            local_pref: DEFAULT_LOCAL_PREF,
            med: None,
            path_length: 0,
            neighbour: None,
            originator: None,
            cluster_length: 0,
            no_advertise: false,
            no_export: false,
            long_lived_stale: false,
            otc: None,
            octets: Box::default(),
        };
        let mut octets = Vec::with_capacity(256);
        let mut add = |attribute: &Attribute| {
            if let Some(flags) = attribute.flags_passed_on()
                && !matches!(attribute.value, AttributeValue::NextHop(_))
            {
                set.note(&attribute.value);
                attribute.value.encode_with(flags, &canonical(), &mut octets);
            }
        };
        if attributes.is_sorted_by_key(|attribute| attribute.value.code()) {
            attributes.iter().for_each(&mut add);
        } else {
            let mut sorted: Vec<&Attribute> = attributes.iter().collect();
            sorted.sort_by_key(|attribute| attribute.value.code());
            sorted.into_iter().for_each(&mut add);
        }
        // Exactly as long as needed: there may be hundreds of thousands of them.
        set.octets = octets.as_slice().into();
        set.ranked(DEFAULT_PREFERENCE)
    }

    /// With a preference; that of a long-lived stale route is always the least (RFC 9494, section 4.3).
    #[must_use]
    fn ranked(self, preference: u32) -> Self {
        Self { preference: if self.long_lived_stale { 0 } else { preference }, ..self }
    }

    /// With other attributes.
    #[must_use]
    pub(crate) fn edited(&self, edit: impl FnOnce(&mut Vec<Attribute>)) -> Self {
        let mut attributes = self.decode();
        edit(&mut attributes);
        Self::new(attributes, self.next_hop, self.link_local).ranked(self.preference)
    }

    /// With one more community.
    #[must_use]
    pub(crate) fn with_community(&self, community: Community) -> Self {
        let mut list = policy::Attributes::communities(self);
        list.push(community);
        self.edited(|attributes| put(attributes, AttributeValue::Communities(list)))
    }

    fn note(&mut self, value: &AttributeValue) {
        match value {
            AttributeValue::Origin(origin) => self.origin = *origin,
            AttributeValue::AsPath(path) => {
                self.path_length = u32::try_from(path.length()).unwrap_or(u32::MAX);
                self.neighbour = path.neighbour();
            }
            AttributeValue::Med(med) => self.med = Some(*med),
            AttributeValue::LocalPref(preference) => self.local_pref = *preference,
            AttributeValue::OriginatorId(id) => self.originator = Some(*id),
            AttributeValue::ClusterList(list) => {
                self.cluster_length = u32::try_from(list.len()).unwrap_or(u32::MAX)
            }
            AttributeValue::Communities(list) => {
                self.no_advertise = list.contains(&Community::NO_ADVERTISE);
                self.long_lived_stale = list.contains(&Community::LLGR_STALE);
                self.no_export =
                    list.iter().any(|c| matches!(*c, Community::NO_EXPORT | Community::NO_EXPORT_SUBCONFED));
            }
            AttributeValue::Otc(asn) => self.otc = Some(*asn),
            _ => {}
        }
    }

    /// A route of our own.
    pub fn originated(route: &Origination) -> Self {
        let mut attributes = vec![
            Attribute::new(AttributeValue::Origin(route.origin)),
            Attribute::new(AttributeValue::AsPath(AsPath::default())),
        ];
        attributes.extend(route.med.map(|med| Attribute::new(AttributeValue::Med(med))));
        let preference = route.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
        attributes.push(Attribute::new(AttributeValue::LocalPref(preference)));
        if !route.communities.is_empty() {
            let list = route.communities.iter().copied().collect();
            attributes.push(Attribute::new(AttributeValue::Communities(list)));
        }
        if !route.large_communities.is_empty() {
            let list = route.large_communities.iter().copied().collect();
            attributes.push(Attribute::new(AttributeValue::LargeCommunities(list)));
        }
        let set = Self::new(attributes, IpAddr::V4(Ipv4Addr::UNSPECIFIED), None);
        Self { preference: route.preference, interface: route.interface.clone(), ..set }
    }

    /// A route of our own with these attributes, and a rank beside learned ones.
    pub(crate) fn of_ours(attributes: Vec<Attribute>, preference: u32) -> Self {
        let set = Self::new(attributes, IpAddr::V4(Ipv4Addr::UNSPECIFIED), None);
        Self { preference, ..set }
    }

    /// The attributes of received routes as they are kept: AS4_PATH merged, unknown ones only if they may be passed
    /// on. `None` without a next hop, or with so many attributes that ours would no longer fit into a message.
    pub fn received(update: &Update, mp: bool) -> Option<Self> {
        let (next_hop, link_local) = next_hop(update, mp)?;
        let is_merged = |attribute: &Attribute| {
            matches!(attribute.value, AttributeValue::As4Path(_) | AttributeValue::As4Aggregator(_))
        };
        let set = match update.attributes.iter().any(is_merged) {
            true => Self::new(merged(update), next_hop, link_local),
            false => Self::encoded(&update.attributes, next_hop, link_local),
        };
        (set.octets.len() <= MOST_OCTETS).then_some(set)
    }

    /// From what [`AttributeSet::octets`] gave in another process; `None`: it did not give that.
    pub(crate) fn restored(
        octets: &[u8],
        next_hop: IpAddr,
        link_local: Option<Ipv6Addr>,
        preference: u32,
    ) -> Option<Self> {
        let set = Self::encoded(&read_octets(octets).ok()?, next_hop, link_local).ranked(preference);
        (*set.octets == *octets).then_some(set)
    }

    /// The attributes in full.
    pub fn decode(&self) -> Vec<Attribute> {
        decode_octets(&self.octets)
    }

    /// Whether a reflector with this cluster id has passed the route on (RFC 4456).
    pub(crate) fn went_through(&self, cluster: Ipv4Addr) -> bool {
        let is_it = |id: &[u8]| id == cluster.octets();
        self.cluster_length > 0
            && RawAttributes::new(&self.octets)
                .get(code::CLUSTER_LIST)
                .is_some_and(|list| list.chunks(4).any(is_it))
    }

    /// The encoded attributes, without the next hop.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// With the changes of a policy.
    #[must_use]
    pub fn changed(&self, actions: &Actions) -> Self {
        let mut attributes = self.decode();
        change(&mut attributes, actions);
        let set = Self::new(attributes, self.next_hop, self.link_local);
        set.ranked(actions.preference.unwrap_or(self.preference))
    }

    /// The value of one of its attributes, as far as it can be made something of.
    fn find<T>(&self, take: impl Fn(AttributeValue) -> Option<T>) -> Option<T> {
        self.decode().into_iter().find_map(|attribute| take(attribute.value))
    }
}

impl policy::Attributes for AttributeSet {
    fn local_pref(&self) -> Option<u32> {
        Some(self.local_pref)
    }

    fn communities(&self) -> Vec<Community> {
        let take = |value| match value {
            AttributeValue::Communities(list) => Some(list),
            _ => None,
        };
        self.find(take).unwrap_or_default()
    }

    fn large_communities(&self) -> Vec<LargeCommunity> {
        let take = |value| match value {
            AttributeValue::LargeCommunities(list) => Some(list),
            _ => None,
        };
        self.find(take).unwrap_or_default()
    }

    fn as_path(&self) -> Vec<Asn> {
        let take = |value| match value {
            AttributeValue::AsPath(path) => Some(path.asns().collect()),
            _ => None,
        };
        self.find(take).unwrap_or_default()
    }
}

/// The attributes of an old speaker's UPDATE, with what its AS4 attributes say.
fn merged(update: &Update) -> Vec<Attribute> {
    let (path, aggregator) = update.effective();
    let mut attributes = update.attributes.clone();
    for attribute in &mut attributes {
        match &mut attribute.value {
            AttributeValue::AsPath(value) => *value = path.clone().expect("there is an AS_PATH"),
            AttributeValue::Aggregator(value) => *value = aggregator.expect("there is an AGGREGATOR"),
            _ => {}
        }
    }
    attributes
}

/// Attributes that we have encoded, as values.
pub(crate) fn decode_octets(octets: &[u8]) -> Vec<Attribute> {
    read_octets(octets).expect("they were encoded by us")
}

/// Encoded attributes as values, with four-octet AS numbers; or what is wrong with them.
pub(crate) fn read_octets(octets: &[u8]) -> Result<Vec<Attribute>, String> {
    let length = u16::try_from(octets.len()).map_err(|_| "too long for a message".to_owned())?;
    let body = [&[0, 0], &length.to_be_bytes()[..], octets].concat();
    let received = crate::packet::update::decode(&body, &canonical()).map_err(|error| error.to_string())?;
    Ok(received.update.attributes)
}

fn next_hop(update: &Update, mp: bool) -> Option<(IpAddr, Option<Ipv6Addr>)> {
    update.attributes.iter().find_map(|attribute| match &attribute.value {
        AttributeValue::NextHop(address) if !mp => Some((IpAddr::V4(*address), None)),
        AttributeValue::MpReach(MpReach::Routes { next_hops, .. }) if mp => match next_hops[..] {
            [address] => Some((address, None)),
            [address, IpAddr::V6(link_local)] => Some((address, Some(link_local))),
            _ => None,
        },
        _ => None,
    })
}

/// Applies the changes of a policy.
pub(crate) fn change(attributes: &mut Vec<Attribute>, actions: &Actions) {
    if let Some(preference) = actions.local_pref {
        put(attributes, AttributeValue::LocalPref(preference));
    }
    if let Some(med) = actions.med {
        put(attributes, AttributeValue::Med(med));
    }
    if !actions.add_communities.is_empty() {
        let mut list = attributes
            .iter()
            .find_map(|attribute| match &attribute.value {
                AttributeValue::Communities(list) => Some(list.clone()),
                _ => None,
            })
            .unwrap_or_default();
        list.extend(
            actions.add_communities.iter().filter(|c| !list.contains(c)).copied().collect::<Vec<_>>(),
        );
        put(attributes, AttributeValue::Communities(list));
    }
    if !actions.add_large_communities.is_empty() {
        let mut list = attributes
            .iter()
            .find_map(|attribute| match &attribute.value {
                AttributeValue::LargeCommunities(list) => Some(list.clone()),
                _ => None,
            })
            .unwrap_or_default();
        let added = actions.add_large_communities.iter().filter(|c| !list.contains(c)).copied();
        list.extend(added.collect::<Vec<_>>());
        put(attributes, AttributeValue::LargeCommunities(list));
    }
    actions.prepend.iter().rev().for_each(|asn| prepend(attributes, *asn, 1));
}

/// Puts an AS in front of the path.
pub(crate) fn prepend(attributes: &mut [Attribute], asn: Asn, times: usize) {
    for attribute in attributes {
        if let AttributeValue::AsPath(path) = &mut attribute.value {
            path.prepend(asn, times);
        }
    }
}

/// Sets an attribute, in place of one with the same code.
pub(crate) fn put(attributes: &mut Vec<Attribute>, value: AttributeValue) {
    let new = Attribute::new(value);
    match attributes.iter_mut().find(|attribute| attribute.value.code() == new.value.code()) {
        Some(attribute) => *attribute = new,
        None => attributes.push(new),
    }
}

/// NEXT_HOP as octets.
pub(crate) fn encode_next_hop(address: Ipv4Addr, out: &mut Vec<u8>) {
    encode_raw(crate::iana::flag::TRANSITIVE, crate::iana::attribute::NEXT_HOP, &address.octets(), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(med: u32) -> AttributeSet {
        AttributeSet::originated(&Origination { med: Some(med), ..Origination::default() })
    }

    #[test]
    fn a_set_gives_back_its_attributes() {
        let set = set(7);
        let expected = [0x40, 1, 1, 0, 0x40, 2, 0, 0x80, 4, 4, 0, 0, 0, 7, 0x40, 5, 4, 0, 0, 0, 100];
        assert_eq!(set.octets(), expected);
        let again = AttributeSet::new(set.decode(), set.next_hop, None);
        assert_eq!(AttributeSet { preference: set.preference, ..again }, set);
    }
}
