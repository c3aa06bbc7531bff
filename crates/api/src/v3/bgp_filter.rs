use super::object;
use crate::rules::{
    Place, ROUTE_PRIORITIES, Rules, check_community, check_count, check_interface_pattern, check_range,
};
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

/// How many changes an accepted route may get.
const MAX_OPERATIONS: usize = 10;
/// How many AS numbers can be put in front of a path at once.
const MAX_PREPENDED: usize = 10;

impl Rules for BGPFilterSpec {
    fn check(object: &Object<Self>, at: &Place<'_>) {
        let (spec, at) = (&object.spec, at.field("spec"));
        for (rules, field, is_ipv6) in [
            (&spec.export_v4, "exportV4", false),
            (&spec.import_v4, "importV4", false),
            (&spec.export_v6, "exportV6", true),
            (&spec.import_v6, "importV6", true),
        ] {
            for (index, rule) in rules.iter().enumerate() {
                check_rule(rule, is_ipv6, &at.field(field).index(index));
            }
        }
    }
}

fn check_rule(rule: &BGPFilterRule, is_ipv6: bool, at: &Place<'_>) {
    check_prefix(rule, is_ipv6, at);
    if !rule.interface.is_empty() {
        check_interface_pattern(&rule.interface, &at.field("interface"));
    }
    if let Some(communities) = &rule.communities {
        let at = at.field("communities").field("values");
        match communities.values.as_slice() {
            [value] => check_community(value, &at.index(0)),
            values => at.refuse_all(format!("has to have exactly one entry, not {}", values.len())),
        }
    }
    if let Some(priority) = rule.priority {
        check_priority(priority, &at.field("priority"));
    }
    if let Some(operations) = &rule.operations {
        check_operations(operations, rule.action, &at.field("operations"));
    }
}

fn check_priority(priority: i64, at: &Place<'_>) {
    let (first, last) = ROUTE_PRIORITIES;
    check_range(priority, first, last, at);
}

fn check_prefix(rule: &BGPFilterRule, is_ipv6: bool, at: &Place<'_>) {
    match (rule.cidr, rule.match_operator) {
        (Some(cidr), None) => at.field("matchOperator").refuse_all(format!("is required with cidr {cidr}")),
        (None, Some(operator)) => at.field("matchOperator").refuse(operator, "needs a cidr"),
        _ => {}
    }
    if let Some(cidr) = rule.cidr.filter(|cidr| cidr.is_ipv6() != is_ipv6) {
        at.field("cidr").refuse(cidr, format!("is not IPv{}", if is_ipv6 { 6 } else { 4 }));
    }
    let Some(length) = &rule.prefix_length else { return };
    let at = at.field("prefixLength");
    if rule.cidr.is_none() {
        at.refuse_all("needs a cidr");
    }
    let longest = if is_ipv6 { 128 } else { 32 };
    for (number, field) in [(length.min, "min"), (length.max, "max")] {
        if let Some(number) = number {
            check_range(number.into(), 0, longest, &at.field(field));
        }
    }
    if let (Some(min), Some(max)) = (length.min, length.max)
        && min > max
    {
        at.field("min").refuse(min, format!("is above max {max}"));
    }
}

fn check_operations(operations: &[BGPFilterOperation], action: BGPFilterAction, at: &Place<'_>) {
    if action != BGPFilterAction::Accept {
        at.refuse_all("needs action Accept");
    }
    if operations.is_empty() {
        at.refuse_all("is empty; leave it out");
    }
    check_count(operations, MAX_OPERATIONS, at);
    for (index, operation) in operations.iter().enumerate() {
        check_operation(operation, &at.index(index));
    }
}

fn check_operation(operation: &BGPFilterOperation, at: &Place<'_>) {
    match (&operation.add_community, &operation.prepend_as_path, &operation.set_priority) {
        (Some(community), None, None) => {
            check_community(&community.value, &at.field("addCommunity").field("value"))
        }
        (None, Some(path), None) => {
            let at = at.field("prependASPath").field("prefix");
            if path.prefix.is_empty() {
                at.refuse_all("is required: at least one AS number");
            }
            check_count(&path.prefix, MAX_PREPENDED, &at);
        }
        (None, None, Some(priority)) => {
            let at = at.field("setPriority").field("value");
            match priority.value {
                Some(value) => check_priority(value, &at),
                None => at.refuse_all("is required"),
            }
        }
        _ => at.refuse_all("has to have exactly one of addCommunity, prependASPath, setPriority"),
    }
}
