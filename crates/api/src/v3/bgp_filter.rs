use super::object;
use crate::scalars::{AsNumber, Net, words};
use crate::{Kind, NoStatus, Object, Spec};

/// A filter of BGP routes; the first rule that matches decides.
pub type BGPFilter = Object<BGPFilterSpec>;

object! {
    /// `spec` of a [`BGPFilter`].
    #[derive(Default)]
    pub struct BGPFilterSpec {
        /// For IPv4 routes to the peer.
        #[serde(rename = "exportV4")]
        export_v4: Vec<BGPFilterRule>,
        /// For IPv4 routes from the peer.
        #[serde(rename = "importV4")]
        import_v4: Vec<BGPFilterRule>,
        /// For IPv6 routes to the peer.
        #[serde(rename = "exportV6")]
        export_v6: Vec<BGPFilterRule>,
        /// For IPv6 routes from the peer.
        #[serde(rename = "importV6")]
        import_v6: Vec<BGPFilterRule>,
    }
}

object! {
    /// A rule of a filter: matches a route when all that it says holds.
    pub struct BGPFilterRule {
        /// Compared with the route's prefix by `match_operator`.
        cidr: Option<Net>,
        /// Which prefix lengths.
        prefix_length: Option<BGPFilterPrefixLength>,
        /// Where the route comes from.
        source: Option<BGPFilterSource>,
        /// Through which interface; `*` in it is a wildcard.
        interface: String,
        /// How `cidr` is compared.
        match_operator: Option<BGPFilterMatchOperator>,
        /// Only peers of this sort.
        peer_type: Option<BGPFilterPeerType>,
        /// Only routes with this community.
        communities: Option<BGPFilterCommunities>,
        /// Only routes whose AS path begins with these.
        #[serde(rename = "asPathPrefix")]
        as_path_prefix: Vec<AsNumber>,
        /// Only routes of this metric, 1..2147483646.
        priority: Option<i64>,
        /// What to do with the route.
        action: BGPFilterAction = required,
        /// What to change in an accepted route, in order.
        operations: Option<Vec<BGPFilterOperation>>,
    }
}

object! {
    /// Prefix lengths, both bounds included.
    #[derive(Default, Eq)]
    pub struct BGPFilterPrefixLength {
        /// That of the CIDR if absent.
        min: Option<i32>,
        /// 32 or 128 if absent.
        max: Option<i32>,
    }
}

object! {
    /// Communities that a route has.
    #[derive(Default, Eq)]
    pub struct BGPFilterCommunities {
        /// Exactly one: `aa:nn` (RFC 1997) or `aa:nn:mm` (RFC 8092).
        values: Vec<String>,
    }
}

object! {
    /// A change of an accepted route: exactly one of the fields.
    #[derive(Default, Eq)]
    pub struct BGPFilterOperation {
        /// Add a community.
        add_community: Option<BGPFilterAddCommunity>,
        /// Put AS numbers in front of the path.
        #[serde(rename = "prependASPath")]
        prepend_as_path: Option<BGPFilterPrependASPath>,
        /// Set the metric.
        set_priority: Option<BGPFilterSetPriority>,
    }
}

object! {
    /// A community to add.
    #[derive(Default, Eq)]
    pub struct BGPFilterAddCommunity {
        /// `aa:nn` or `aa:nn:mm`.
        value: String,
    }
}

object! {
    /// AS numbers to put in front of the path.
    #[derive(Default, Eq)]
    pub struct BGPFilterPrependASPath {
        /// 1..10 of them; the first will be leftmost.
        prefix: Vec<AsNumber>,
    }
}

object! {
    /// A metric to set.
    #[derive(Default, Eq)]
    pub struct BGPFilterSetPriority {
        /// 1..2147483646.
        value: Option<i64>,
    }
}

words! {
    /// How a CIDR is compared with a route's prefix.
    BGPFilterMatchOperator {
        /// They are the same.
        Equal = "Equal",
        /// They differ.
        NotEqual = "NotEqual",
        /// The route is in it.
        In = "In",
        /// The route is not in it.
        NotIn = "NotIn",
    }
}

words! {
    /// Where a route comes from.
    BGPFilterSource {
        /// From another peer.
        RemotePeers = "RemotePeers",
    }
}

words! {
    /// A sort of peer.
    BGPFilterPeerType {
        /// In another AS.
        EBGP = "eBGP",
        /// In the same AS.
        IBGP = "iBGP",
    }
}

words! {
    /// What a filter does with a route.
    BGPFilterAction {
        /// Take it.
        Accept = "Accept",
        /// Leave it.
        Reject = "Reject",
    }
}

impl Spec for BGPFilterSpec {
    const KIND: Kind = Kind::BGPFilter;
    type Status = NoStatus;
}
