//! What both ends offered in their OPENs, side by side and in words.

use std::collections::BTreeMap;

use crate::packet::capability::{AddPathMode, Capability, FamilyCode};
use crate::speaker::Speaker;
use crate::types::PeerId;

/// A capability (RFC 5492) at both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapabilityPair {
    /// Its name.
    pub name: &'static str,
    /// What we offer.
    pub ours: Option<String>,
    /// What the peer offered last.
    pub theirs: Option<String>,
}

impl Speaker {
    /// The capabilities of a peer's session, by name; empty when there is no such peer. The peer's are those of the session
    /// that is up, or of the last one that was.
    pub fn capabilities(&self, peer: &PeerId) -> Vec<CapabilityPair> {
        let Some(peer) = self.numbers.get(peer).map(|number| &self.peers[number]) else { return Vec::new() };
        let ours = by_name(&peer.session.offered());
        let theirs = peer.agreed.as_ref().map(|agreed| by_name(&agreed.capabilities)).unwrap_or_default();
        let names = ours.keys().chain(theirs.keys()).copied().collect::<std::collections::BTreeSet<_>>();
        let pair =
            |name| CapabilityPair { name, ours: ours.get(name).cloned(), theirs: theirs.get(name).cloned() };
        names.into_iter().map(pair).collect()
    }
}

/// Capabilities of the same name are one line.
fn by_name(capabilities: &[Capability]) -> BTreeMap<&'static str, String> {
    let mut texts: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for capability in capabilities {
        let (name, value) = words(capability);
        texts.entry(name).or_default().push(value);
    }
    texts.into_iter().map(|(name, values)| (name, values.join(", "))).collect()
}

fn words(capability: &Capability) -> (&'static str, String) {
    let yes = || "yes".to_owned();
    match capability {
        Capability::Multiprotocol(code) => ("families", family(*code)),
        Capability::RouteRefresh => ("route refresh", yes()),
        Capability::ExtendedNextHop(list) => (
            "extended next hop",
            joined(list.iter().map(|(code, afi)| format!("{} over AFI {afi}", family(*code)))),
        ),
        Capability::ExtendedMessage => ("extended messages", yes()),
        Capability::Role(role) => ("role", role_name(*role).to_owned()),
        Capability::GracefulRestart(restart) => {
            let mut text = format!("{} s", restart.restart_time_secs);
            if restart.restarting {
                text += ", restarting";
            }
            if restart.notification {
                text += ", with notification";
            }
            for (code, forwarding) in &restart.families {
                text += &format!(", {}", family(*code));
                text += if *forwarding { " (forwarding)" } else { "" };
            }
            ("graceful restart", text)
        }
        Capability::FourOctetAs(asn) => ("four-octet AS", asn.to_string()),
        Capability::AddPath(list) => (
            "add-path",
            joined(list.iter().map(|(code, mode)| format!("{} {}", family(*code), mode_name(*mode)))),
        ),
        Capability::EnhancedRouteRefresh => ("enhanced route refresh", yes()),
        Capability::LongLivedGracefulRestart(list) => (
            "long-lived graceful restart",
            joined(list.iter().map(|(code, _, seconds)| format!("{} {seconds} s", family(*code)))),
        ),
        Capability::Hostname { host, domain } if domain.is_empty() => ("host name", printable(host)),
        Capability::Hostname { host, domain } => ("host name", printable(&format!("{host}.{domain}"))),
        Capability::SoftwareVersion(version) => ("software", printable(version)),
        Capability::Unknown { code, value } => ("unknown", format!("code {code}, {} octets", value.len())),
        Capability::Malformed { code, value } => {
            ("malformed", format!("code {code}, {} octets", value.len()))
        }
    }
}

fn joined(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}

/// What a peer says goes to a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn family(code: FamilyCode) -> String {
    match code.known() {
        Some(family) => family.to_string(),
        None => format!("AFI {} SAFI {}", code.afi, code.safi),
    }
}

fn mode_name(mode: AddPathMode) -> &'static str {
    match mode {
        AddPathMode::Receive => "receive",
        AddPathMode::Send => "send",
        AddPathMode::Both => "both",
        AddPathMode::Ignored(_) => "with an undefined mode",
    }
}

/// RFC 9234, section 4.1.
fn role_name(role: u8) -> &'static str {
    match role {
        0 => "provider",
        1 => "route server",
        2 => "route server client",
        3 => "customer",
        4 => "peer",
        _ => "unassigned",
    }
}
