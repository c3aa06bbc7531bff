//! Which of the host's two iptables others use.

use calc::contract::IpVersion;

/// One of the two programs that are called iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Variant {
    /// Over nf_tables.
    Nft,
    /// Over the older tables of the kernel.
    Legacy,
}

impl Variant {
    pub(super) const ALL: [Self; 2] = [Self::Nft, Self::Legacy];

    /// The name of one of its programs: `restore`, `save`.
    pub(super) fn program(self, version: IpVersion, program: &str) -> String {
        let family = match version {
            IpVersion::V4 => "iptables",
            IpVersion::V6 => "ip6tables",
        };
        let variant = match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        };
        format!("{family}-{variant}-{program}")
    }
}

/// Chains that kubelet and kube-proxy keep where they are.
const HINTS: [&str; 2] = [":KUBE-IPTABLES-HINT ", ":KUBE-KUBELET-CANARY "];

/// The variant that Kubernetes uses here, else the one with more rules of others, else nft. `None` is a variant that is not
/// installed (datapath.md 4.1).
pub(super) fn detect(nft: Option<&str>, legacy: Option<&str>) -> Option<Variant> {
    let (nft, legacy) = match (nft, legacy) {
        (Some(nft), Some(legacy)) => (nft, legacy),
        (Some(_), None) => return Some(Variant::Nft),
        (None, Some(_)) => return Some(Variant::Legacy),
        (None, None) => return None,
    };
    let hinted = |saved: &str| HINTS.iter().any(|hint| saved.contains(hint));
    let foreign =
        |saved: &str| saved.lines().filter(|line| line.starts_with("-A ") && !line.contains("cali")).count();
    Some(match (hinted(nft), hinted(legacy)) {
        (true, _) => Variant::Nft,
        (false, true) => Variant::Legacy,
        _ if foreign(legacy) > foreign(nft) => Variant::Legacy,
        _ => Variant::Nft,
    })
}
