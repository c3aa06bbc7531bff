//! What the rules of both kinds of policy become: one v3 rule for each protocol and peer.

use std::collections::BTreeMap;

use super::error::{Direction, FieldError};
use super::ports::{port_range, simplify_ports};
use crate::scalars::{Net, Port, Protocol};
use crate::v3::{Action, EntityRule, Rule};

/// Ports by protocol, in the order of the protocols' names; the unnamed one (any protocol) is first.
#[derive(Default)]
pub(super) struct PortsByProtocol(BTreeMap<String, (Option<Protocol>, Ports)>);

enum Ports {
    All,
    These(Vec<Port>),
}

impl PortsByProtocol {
    /// Adds a port, or all (`None`), of a protocol.
    pub(super) fn add(&mut self, protocol: Option<Protocol>, port: Option<Port>) {
        let name = protocol.map(|protocol| protocol.to_string()).unwrap_or_default();
        let (_, known) = self.0.entry(name).or_insert_with(|| (protocol, Ports::These(Vec::new())));
        match (known, port) {
            (Ports::All, _) => {}
            (known, None) => *known = Ports::All,
            (Ports::These(ports), Some(port)) => ports.push(port),
        }
    }

    /// The rules for these ports (everything, if there are none) and each of the peers.
    pub(super) fn into_rules(self, action: Action, direction: Direction, peers: &[EntityRule]) -> Vec<Rule> {
        let mut entries: Vec<(Option<Protocol>, Vec<Port>)> =
            self.0.into_values().map(|(protocol, ports)| (protocol, ports.simplified())).collect();
        if entries.is_empty() {
            entries.push((None, Vec::new()));
        }
        entries
            .into_iter()
            .flat_map(|(protocol, ports)| {
                peers.iter().map(move |peer| rule(action, direction, protocol, ports.clone(), peer.clone()))
            })
            .collect()
    }
}

impl Ports {
    fn simplified(self) -> Vec<Port> {
        match self {
            Self::All => Vec::new(),
            Self::These(ports) => simplify_ports(ports),
        }
    }
}

/// Ports are always those of the destination.
fn rule(
    action: Action,
    direction: Direction,
    protocol: Option<Protocol>,
    ports: Vec<Port>,
    peer: EntityRule,
) -> Rule {
    let (source, destination) = match direction {
        Direction::Ingress => (peer, EntityRule { ports, ..EntityRule::default() }),
        Direction::Egress => (EntityRule::default(), EntityRule { ports, ..peer }),
    };
    Rule { protocol, source, destination, ..Rule::new(action) }
}

/// A network, host bits cleared.
pub(super) fn network(text: &str, path: &str) -> Result<Net, FieldError> {
    let net: Option<Net> = text.parse().ok().filter(|net: &Net| !net.is_bare());
    net.map(|net| Net::from(net.net()))
        .ok_or_else(|| FieldError::bad_value(path, text, "is not a CIDR such as 10.0.0.0/24 or fd00::/64"))
}

/// A port's number.
pub(super) fn port_number(number: i64, path: &str) -> Result<u16, FieldError> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| FieldError::bad_value(path, number, "is not a port number: 1..65535"))
}

/// The ports from one number to another; a range that goes on beyond the last port there is ends with that.
pub(super) fn ports_between(
    (first, first_path): (i64, &str),
    (last, last_path): (i64, &str),
) -> Result<Port, FieldError> {
    let start = port_number(first, first_path)?;
    if last < first {
        let reason = format!("is less than the first port of the range, {first}");
        return Err(FieldError::bad_value(last_path, last, reason));
    }
    Ok(port_range(start, port_number(last.min(u16::MAX.into()), last_path)?))
}
