//! Conditions, rules and objects in words.

use std::collections::BTreeMap;

use crate::cluster::NodeModel;
use crate::contract::{
    Action, Direction, IcmpMatch, IpSetId, PolicyId, PolicyKind, PortRange, RuleId, RuleOwner,
};
use crate::evaluator::Packet;
use crate::program::{Match, Origin, Side};

/// `TCP 10.0.0.1:40000 -> 10.0.0.2:80`, `ICMP 10.0.0.1 -> 10.0.0.2 type 8 code 0`.
pub fn packet(packet: &Packet) -> String {
    let protocol = protocol(packet.protocol);
    let end = |address: std::net::IpAddr, port: u16| std::net::SocketAddr::new(address, port);
    let (source, destination) = (packet.source, packet.destination);
    match packet.protocol {
        6 | 17 | 132 => {
            let from = end(source, packet.source_port);
            format!("{protocol} {from} -> {}", end(destination, packet.destination_port))
        }
        1 | 58 => {
            let (kind, code) = packet.icmp;
            format!("{protocol} {source} -> {destination} type {kind} code {code}")
        }
        _ => format!("{protocol} {source} -> {destination}"),
    }
}

/// The protocol's name, or `protocol NUMBER`.
pub fn protocol(number: u8) -> String {
    let name = match number {
        1 => "ICMP",
        6 => "TCP",
        17 => "UDP",
        58 => "ICMPv6",
        132 => "SCTP",
        136 => "UDPLite",
        _ => return format!("protocol {number}"),
    };
    name.to_owned()
}

/// `NetworkPolicy prod/db`; a Kubernetes policy by its own name.
pub fn policy(id: &PolicyId) -> String {
    let name = &id.name;
    let kubernetes = [
        ("kcnp.", "ClusterNetworkPolicy"),
        ("kanp.", "AdminNetworkPolicy"),
        ("kbanp.", "BaselineAdminNetworkPolicy"),
    ];
    match (&id.kind, &id.namespace) {
        (PolicyKind::NetworkPolicy, Some(namespace)) if name.starts_with("knp.default.") => {
            format!("Kubernetes NetworkPolicy {namespace}/{}", &name["knp.default.".len()..])
        }
        (kind, Some(namespace)) => format!("{} {namespace}/{name}", kind.name()),
        (kind, None) => {
            let original = kubernetes.iter().find_map(|(prefix, of)| Some((of, name.strip_prefix(prefix)?)));
            match original.filter(|_| *kind == PolicyKind::GlobalNetworkPolicy) {
                Some((of, name)) => format!("{of} {name}"),
                None => format!("{} {name}", kind.name()),
            }
        }
    }
}

/// The object that a rule stands in.
pub fn owner(owner: &RuleOwner) -> String {
    match owner {
        RuleOwner::Policy(id) => policy(id),
        RuleOwner::Profile(id) => format!("Profile {id}"),
    }
}

/// `spec.ingress[0]`.
pub fn field(id: &RuleId) -> String {
    format!("spec.{}[{}]", id.direction, id.index)
}

/// `Allow`, ….
pub fn action(action: Action) -> &'static str {
    match action {
        Action::Allow => "Allow",
        Action::Deny => "Deny",
        Action::Pass => "Pass",
        Action::Log => "Log",
    }
}

/// Why a rule of the program is there, as a reason for what became of a packet.
pub fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Rule(id) => format!("{}, {}", owner(&id.owner), field(id)),
        Origin::EndOfTier { tier, .. } => format!(
            "end of tier {tier}: one of its policies selects the endpoint, none of their rules matched (defaultAction Deny)"
        ),
        Origin::NoProfile(Direction::Ingress) => "no policy decided, and no profile allows it in".to_owned(),
        Origin::NoProfile(Direction::Egress) => "no policy decided, and no profile allows it out".to_owned(),
        Origin::MissingPolicy(id) => format!("{} is not known, so it denies", policy(id)),
        Origin::MissingProfile(id) => format!("Profile {id} does not exist, so it denies"),
        Origin::NoForwardPolicy => "no policy applies to forwarded traffic, which then passes".to_owned(),
        Origin::Failsafe(_) => "a failsafe port, which no policy closes".to_owned(),
        other => other.to_string(),
    }
}

/// A condition that held (or did not) for a packet, such as `source 10.0.0.1 is in 10.0.0.0/8`.
pub fn condition(condition: &Match, holds: bool, packet: &Packet, model: &NodeModel) -> String {
    match condition {
        Match::Conntrack(_) => format!("connection tracking calls the packet {:?}", packet.conntrack),
        Match::Reply => format!(
            "the packet {} its connection's first direction",
            if holds { "goes against" } else { "goes in" }
        ),
        Match::OverRate(rate) => format!("more than {} packets a second have come", rate.rate),
        Match::OverConnections(most) => format!("there are more than {most} connections"),
        Match::Passed(_) => "an earlier policy of the tier passed it on".to_owned(),
        Match::Protocol { protocols, negated } => {
            let names: Vec<String> = protocols.iter().map(|number| protocol(*number)).collect();
            is("protocol", &protocol(packet.protocol), holds != *negated, "", &names.join(" or "))
        }
        Match::Icmp { icmp, negated } if !matches!(packet.protocol, 1 | 58) => {
            let wanted = if *negated { "any" } else { &icmp_text(icmp) };
            is("protocol", &protocol(packet.protocol), false, "ICMP of ", wanted)
        }
        Match::Icmp { icmp, negated } => {
            let ours = format!("{} code {}", packet.icmp.0, packet.icmp.1);
            is("ICMP type", &ours, holds != *negated, "", &icmp_text(icmp))
        }
        Match::Net { side, nets, negated } => {
            let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
            is(&address(*side), &end(*side, packet), holds != *negated, "in ", &list(&nets))
        }
        Match::Ports { side, ranges, negated } => {
            let Some(port) = packet.port(*side) else {
                return format!("{} has no ports", protocol(packet.protocol));
            };
            let name = format!("{} port", address(*side));
            is(&name, &port.to_string(), holds != *negated, "in ", &ports(ranges))
        }
        Match::IpSet { side, set, negated } => {
            let meaning = set_meaning(&model.set_meanings, set);
            is(&address(*side), &end(*side, packet), holds != *negated, "in ", &meaning)
        }
        Match::PortSet { side, set, negated } => {
            let Some(port) = packet.port(*side) else {
                return format!("{} has no ports", protocol(packet.protocol));
            };
            let ours = format!("{} {} {port}", end(*side, packet), protocol(packet.protocol));
            is(&address(*side), &ours, holds != *negated, "in ", &set_meaning(&model.set_meanings, set))
        }
    }
}

fn is(what: &str, value: &str, yes: bool, relation: &str, wanted: &str) -> String {
    format!("{what} {value} is {}{relation}{wanted}", if yes { "" } else { "not " })
}

fn set_meaning(meanings: &BTreeMap<IpSetId, String>, id: &IpSetId) -> String {
    meanings.get(id).cloned().unwrap_or_else(|| format!("set {id}, which has no members"))
}

fn address(side: Side) -> String {
    match side {
        Side::Source => "source",
        Side::Destination => "destination",
    }
    .to_owned()
}

fn end(side: Side, packet: &Packet) -> String {
    packet.address(side).to_string()
}

fn icmp_text(icmp: &IcmpMatch) -> String {
    match icmp.code {
        Some(code) => format!("type {} code {code}", icmp.icmp_type),
        None => format!("type {}", icmp.icmp_type),
    }
}

/// `80, 8000-8080`.
pub fn ports(ranges: &[PortRange]) -> String {
    let one = |range: &PortRange| match range.min == range.max {
        true => range.min.to_string(),
        false => format!("{}-{}", range.min, range.max),
    };
    list(&ranges.iter().map(one).collect::<Vec<_>>())
}

/// So many items are named, then their number.
const SHOWN: usize = 8;

fn list(items: &[String]) -> String {
    match items.len().checked_sub(SHOWN) {
        None | Some(0) => items.join(", "),
        Some(more) => format!("{} and {more} more", items[..SHOWN].join(", ")),
    }
}
