//! The kinds of resource, and the words by which users name them.

use std::fmt;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident, $plural:literal, $scope:ident, [$($alias:literal),*];)*) => {
        /// A kind of `projectcalico.org/v3` resource.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $variant,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant),*];

            /// As `kind:` writes it: `IPPool`.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$variant => stringify!($variant),)* }
            }

            /// Lower-case plural, as in datastore keys and on the command line: `ippools`.
            pub fn plural(self) -> &'static str {
                match self { $(Kind::$variant => $plural,)* }
            }

            /// Short names that calicoctl takes: `pool`, `pools`, ….
            pub fn aliases(self) -> &'static [&'static str] {
                match self { $(Kind::$variant => &[$($alias),*],)* }
            }

            /// Whether resources of the kind live in a namespace.
            pub fn is_namespaced(self) -> bool {
                match self { $(Kind::$variant => kinds!(@scope $scope),)* }
            }
        }
    };
    (@scope namespaced) => { true };
    (@scope cluster) => { false };
}

kinds! {
    /// BGP settings, global (`default`) or per node (`node.NAME`).
    BGPConfiguration, "bgpconfigurations", cluster, ["bgpconfig", "bgpconfigs"];
    /// Filter of BGP routes.
    BGPFilter, "bgpfilters", cluster, ["bf", "bfs"];
    /// A BGP peer, or a set of them.
    BGPPeer, "bgppeers", cluster, ["bp", "bps", "bgpp", "bgpps"];
    /// Which node owns a block; kept by IPAM.
    BlockAffinity, "blockaffinities", cluster, ["affinity", "affinities"];
    /// Node status as the node reports it.
    CalicoNodeStatus, "caliconodestatuses", cluster, ["caliconodestatus"];
    /// The cluster's identity and readiness.
    ClusterInformation, "clusterinformations", cluster, ["clusterinfo", "clusterinfos"];
    /// Parameters of the node agent.
    FelixConfiguration, "felixconfigurations", cluster, ["felixconfig", "felixconfigs"];
    /// Policy for all namespaces and hosts.
    GlobalNetworkPolicy, "globalnetworkpolicies", cluster, ["gnp", "gnps", "cgnp"];
    /// Networks that selectors can name, cluster-wide.
    GlobalNetworkSet, "globalnetworksets", cluster, ["gns"];
    /// A host's own interface as a policy endpoint.
    HostEndpoint, "hostendpoints", cluster, ["hep", "heps"];
    /// IPAM settings.
    IPAMConfiguration, "ipamconfigurations", cluster, ["ipamconfig", "ipamconfigs"];
    /// A range of workload addresses.
    IPPool, "ippools", cluster, ["ipp", "ipps", "pool", "pools"];
    /// Addresses that IPAM must not hand out.
    IPReservation, "ipreservations", cluster, ["reservation", "reservations"];
    /// Settings of the cluster controllers.
    KubeControllersConfiguration, "kubecontrollersconfigurations", cluster, ["kubecontrollersconfig", "kcc"];
    /// Some endpoints of a Kubernetes Service; kept for an EndpointSlice.
    KubernetesEndpointSlice, "kubernetesendpointslices", namespaced, ["endpointslice", "endpointslices"];
    /// Policy of one namespace.
    NetworkPolicy, "networkpolicies", namespaced, ["policy", "policies", "pol", "pols", "np", "nps", "cnp", "caliconetworkpolicy"];
    /// Networks that selectors of one namespace can name.
    NetworkSet, "networksets", namespaced, ["netset", "netsets"];
    /// A host.
    Node, "nodes", cluster, ["no", "nos"];
    /// Rules and labels that endpoints inherit.
    Profile, "profiles", cluster, ["pro", "pros"];
    /// A GlobalNetworkPolicy that is evaluated but not enforced.
    StagedGlobalNetworkPolicy, "stagedglobalnetworkpolicies", cluster, ["sgnp", "sgnps"];
    /// A Kubernetes NetworkPolicy that is evaluated but not enforced.
    StagedKubernetesNetworkPolicy, "stagedkubernetesnetworkpolicies", namespaced, ["sknp", "sknps"];
    /// A NetworkPolicy that is evaluated but not enforced.
    StagedNetworkPolicy, "stagednetworkpolicies", namespaced, ["snp", "snps", "scnp"];
    /// An ordered group of policies.
    Tier, "tiers", cluster, [];
    /// A pod's (or container's) interface as a policy endpoint.
    WorkloadEndpoint, "workloadendpoints", namespaced, ["wep", "weps"];
}

impl Kind {
    /// Finds a kind by name, plural or short name, in any case; a plural may also be the name with an `s`.
    pub fn from_word(word: &str) -> Option<Kind> {
        let word = word.to_ascii_lowercase();
        Kind::ALL.iter().copied().find(|kind| {
            kind.plural() == word
                || kind.aliases().contains(&word.as_str())
                || kind.name().to_ascii_lowercase() == word
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
