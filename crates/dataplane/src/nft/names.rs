//! Names of chains and maps (datapath.md 4.3), and comments of rules.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use calc::contract::{Direction, PolicyId, PolicyKind};
use calc::program::{ChainId, HostHook, Origin};
use sha2::{Digest as _, Sha256};

/// Verdict maps and sets with fixed names.
pub mod map {
    /// Interface of a workload to what it may send.
    pub const FROM_WORKLOAD: &str = "cali-from-wl-dispatch";
    /// Interface of a workload to what it may receive.
    pub const TO_WORKLOAD: &str = "cali-to-wl-dispatch";
    /// Interfaces of workloads, each with an address of its workload.
    pub const ARP: &str = "cali-arp-own";
}

/// The verdict map from interfaces to the chains of host endpoints at a hook.
pub fn host_map(hook: HostHook, direction: Direction) -> &'static str {
    match (hook, direction) {
        (HostHook::Normal, Direction::Ingress) => "cali-from-host-endpoint",
        (HostHook::Normal, Direction::Egress) => "cali-to-host-endpoint",
        (HostHook::Forward, Direction::Ingress) => "cali-from-hep-forward",
        (HostHook::Forward, Direction::Egress) => "cali-to-hep-forward",
        (HostHook::Untracked, Direction::Ingress) => "cali-from-hep-untracked",
        (HostHook::Untracked, Direction::Egress) => "cali-to-hep-untracked",
        (HostHook::PreDnat, Direction::Ingress) => "cali-from-hep-pre-dnat",
        (HostHook::PreDnat, Direction::Egress) => "cali-to-hep-pre-dnat",
    }
}

/// How long a backend's names of chains may be, and how much of a hash stands in one that is too long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NameLimits {
    pub(crate) longest: usize,
    pub(crate) hash: usize,
}

/// nft prints up to 127 bytes without trouble.
const LIMITS: NameLimits = NameLimits { longest: 120, hash: HASH_BYTES };
/// Longest comment that nft takes.
const LONGEST_COMMENT: usize = 127;

/// The name of a chain: `cali-pi-…` policy in, `cali-po-…` policy out, `cali-pri-…`, `cali-pro-…` profiles, `cali-tw-…`, `cali-fw-…` to and
/// from workloads (with a hash of what judges them, or the interface of one with limits), `cali-th-…`, `cali-fh-…` to and from a host endpoint.
pub fn chain_name(id: &ChainId) -> Arc<str> {
    chain_name_within(id, LIMITS)
}

/// The same in another backend's limits.
pub(crate) fn chain_name_within(id: &ChainId, limits: NameLimits) -> Arc<str> {
    let by_direction = |direction: &Direction, ingress, egress| match direction {
        Direction::Ingress => ingress,
        Direction::Egress => egress,
    };
    let (prefix, name) = match id {
        ChainId::Policy(id, direction) => (by_direction(direction, "cali-pi-", "cali-po-"), policy_name(id)),
        ChainId::Profile(id, direction) => {
            (by_direction(direction, "cali-pri-", "cali-pro-"), id.to_string())
        }
        // As `Debug` writes it, with quotes around names: no two judgements read alike.
        ChainId::Workload(judgement, direction) => {
            (by_direction(direction, "cali-tw-", "cali-fw-"), hash(&format!("{judgement:?}"), limits.hash))
        }
        ChainId::Limits(interface, direction) => {
            (by_direction(direction, "cali-tw-", "cali-fw-"), interface.to_string())
        }
        // Ingress of a host endpoint is what comes *from* its interface.
        ChainId::Host(name, hook, direction) => {
            let prefix = match hook {
                HostHook::Normal => by_direction(direction, "cali-fh-", "cali-th-"),
                HostHook::Forward => by_direction(direction, "cali-fhfw-", "cali-thfw-"),
                HostHook::Untracked => by_direction(direction, "cali-fhut-", "cali-thut-"),
                HostHook::PreDnat => by_direction(direction, "cali-fhpd-", "cali-thpd-"),
            };
            (prefix, name.to_string())
        }
        ChainId::Failsafe(direction) => {
            (by_direction(direction, "cali-failsafe-in", "cali-failsafe-out"), String::new())
        }
        ChainId::UntrackedFailsafe(direction) => {
            (by_direction(direction, "cali-failsafe-in-raw", "cali-failsafe-out-raw"), String::new())
        }
    };
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_./".contains(c) { c } else { '_' }).collect();
    shorten(&format!("{prefix}{name}"), limits).into()
}

/// The kinds are told apart, since their names can be the same.
fn policy_name(id: &PolicyId) -> String {
    let kind = match id.kind {
        PolicyKind::NetworkPolicy => "np",
        PolicyKind::GlobalNetworkPolicy => "gnp",
        PolicyKind::KubernetesNetworkPolicy => "knp",
        PolicyKind::KubernetesClusterNetworkPolicy => "kcnp",
        PolicyKind::StagedNetworkPolicy => "snp",
        PolicyKind::StagedGlobalNetworkPolicy => "sgnp",
        PolicyKind::StagedKubernetesNetworkPolicy => "sknp",
    };
    match &id.namespace {
        Some(namespace) => format!("{kind}/{namespace}/{}", id.name),
        None => format!("{kind}/{}", id.name),
    }
}

/// The comment of a rule: its origin, then the rule's annotations as far as there is room.
pub fn comment(origin: &Origin, note: &str) -> Arc<str> {
    let mut text = origin_comment(&origin.to_string());
    // Quotes would end the comment where nft prints it.
    let note: String = note.chars().map(|c| if c == '"' || c.is_control() { '_' } else { c }).collect();
    if !note.is_empty() && text.len() + 1 + note.len() <= LONGEST_COMMENT {
        text = format!("{text} {note}");
    }
    text.into()
}

/// Longest prefix of a logged packet: what fits Calico's, and iptables' 64 octets with their zero.
const LONGEST_PREFIX: usize = 63;

/// The prefix with which a packet that a rule of this origin denies is logged: the origin, which ends in a hash if it is long.
pub fn log_prefix(origin: &Origin) -> String {
    shorten(&origin.to_string(), NameLimits { longest: LONGEST_PREFIX, hash: HASH_BYTES })
}

/// An origin as comments have it, from its text; what follows it in a comment are annotations.
pub fn origin_comment(origin: &str) -> String {
    shorten(origin, NameLimits { longest: LONGEST_COMMENT, hash: HASH_BYTES })
}

/// Too long a text keeps its beginning and gets a hash of the whole in place of its end.
pub(crate) fn shorten(text: &str, limits: NameLimits) -> String {
    if text.len() <= limits.longest {
        return text.to_owned();
    }
    let mut short = String::with_capacity(limits.longest);
    let kept = limits.longest - limits.hash - 1;
    short.extend(text.chars().scan(0, |bytes, c| {
        *bytes += c.len_utf8();
        (*bytes <= kept).then_some(c)
    }));
    // Writing to a string cannot fail.
    let _ = write!(short, "_{}", hash(text, limits.hash));
    short
}

/// Characters of a hash in a name: 132 bits.
const HASH_BYTES: usize = 22;

/// The first characters of the SHA-256 of a text, in base64 for URLs.
pub(crate) fn hash(text: &str, characters: usize) -> String {
    let mut hash = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Sha256::digest(text));
    hash.truncate(characters);
    hash
}

#[cfg(test)]
mod tests {
    use calc::contract::ProfileId;
    use calc::program::Judgement;

    use super::*;

    fn policy(kind: PolicyKind, namespace: Option<&str>, name: &str) -> Arc<str> {
        let id = PolicyId { kind, namespace: namespace.map(Into::into), name: name.into() };
        chain_name(&ChainId::Policy(id, Direction::Ingress))
    }

    #[test]
    fn policies_of_different_kinds_have_different_chains() {
        assert_eq!(&*policy(PolicyKind::NetworkPolicy, Some("a"), "b"), "cali-pi-np/a/b");
        assert_eq!(&*policy(PolicyKind::KubernetesNetworkPolicy, Some("a"), "b"), "cali-pi-knp/a/b");
        assert_eq!(&*policy(PolicyKind::GlobalNetworkPolicy, None, "b"), "cali-pi-gnp/b");
    }

    #[test]
    fn long_names_are_told_apart_by_a_hash() {
        let names =
            ["x", "y"].map(|end| policy(PolicyKind::NetworkPolicy, Some("a"), &("n".repeat(250) + end)));
        assert!(names.iter().all(|name| name.len() == LIMITS.longest), "{names:?}");
        assert_ne!(names[0], names[1]);
    }

    #[test]
    fn prefixes_of_long_names_stay_short_and_are_told_apart() {
        let prefix = |end: &str| {
            let name = "n".repeat(60) + end;
            let id = PolicyId {
                kind: PolicyKind::GlobalNetworkPolicy,
                namespace: None,
                name: name.as_str().into(),
            };
            log_prefix(&Origin::MissingPolicy(id))
        };
        assert_eq!(log_prefix(&Origin::NoProfile(Direction::Ingress)), "no profile matched ingress");
        assert_eq!(prefix("x").len(), LONGEST_PREFIX);
        assert_ne!(prefix("x"), prefix("y"));
    }

    #[test]
    fn chains_of_workloads_are_named_by_what_judges_them() {
        let judgement = |name: &str| {
            let profiles = vec![ProfileId(name.into())];
            Arc::new(Judgement::Policies { tiers: Vec::new(), profiles })
        };
        let chain = |name, direction| chain_name(&ChainId::Workload(judgement(name), direction));
        assert_eq!(&*chain("kns.a", Direction::Ingress), "cali-tw-PLwuRd5UU-a_-DuMyKq6rd");
        assert_eq!(&*chain("kns.a", Direction::Egress), "cali-fw-PLwuRd5UU-a_-DuMyKq6rd");
        assert_ne!(chain("kns.a", Direction::Ingress), chain("kns.b", Direction::Ingress));
        let two = vec![ProfileId("kns.a".into()), ProfileId("kns.b".into())];
        let two = Judgement::Policies { tiers: Vec::new(), profiles: two };
        assert_eq!(two.to_string(), judgement("kns.a kns.b").to_string());
        let two = chain_name(&ChainId::Workload(two.into(), Direction::Ingress));
        assert_ne!(two, chain("kns.a kns.b", Direction::Ingress), "stored rows can have any name");
    }
}
