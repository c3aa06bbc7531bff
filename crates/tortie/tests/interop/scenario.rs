//! What both ends are configured to be, in terms that no daemon owns.

/// One way to peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// The peer's AS; ours is always [`OUR_AS`].
    pub(crate) their_as: u32,
    /// TCP MD5 (RFC 2385), as the peer has it.
    pub(crate) password: Option<&'static str>,
    /// GTSM (RFC 5082), one hop.
    pub(crate) ttl_security: bool,
    /// We are a route reflector, and the peer is a client (RFC 4456).
    pub(crate) we_reflect: bool,
}

pub(crate) const OUR_AS: u32 = 64_512;
pub(crate) const OUR_ADDRESSES: [&str; 2] = ["10.0.0.1", "2001:db8::1"];
pub(crate) const THEIR_ADDRESSES: [&str; 2] = ["10.0.0.2", "2001:db8::2"];
pub(crate) const OUR_PREFIXES: [&str; 2] = ["10.65.1.0/26", "fd65::40/122"];
pub(crate) const THEIR_PREFIXES: [&str; 2] = ["10.66.1.0/24", "fd66:0:0:1::/64"];

impl Scenario {
    pub(crate) const INTERNAL: Self =
        Self { their_as: OUR_AS, password: None, ttl_security: false, we_reflect: false };
    pub(crate) const EXTERNAL: Self = Self { their_as: 64_600, ..Self::INTERNAL };

    /// Our side, as resources.
    pub(crate) fn resources(&self) -> String {
        let cluster = if self.we_reflect { ", routeReflectorClusterID: 244.0.0.1" } else { "" };
        let [v4, v6] = OUR_ADDRESSES;
        let mut documents = vec![
            resource("BGPConfiguration", "default", "nodeToNodeMeshEnabled: false"),
            resource(
                "Node",
                "ours",
                &format!("bgp: {{ipv4Address: {v4}/24, ipv6Address: \"{v6}/64\"{cluster}}}"),
            ),
            resource("IPPool", "four", "cidr: 10.65.0.0/16"),
            resource("IPPool", "six", "cidr: \"fd65::/64\""),
        ];
        for (index, cidr) in OUR_PREFIXES.iter().enumerate() {
            let spec = format!("state: confirmed, node: ours, cidr: \"{cidr}\"");
            documents.push(resource("BlockAffinity", &format!("block-{index}"), &spec));
        }
        for (index, address) in THEIR_ADDRESSES.iter().enumerate() {
            documents.push(resource("BGPPeer", &format!("peer-{index}"), &self.peer(address)));
        }
        documents.join("---\n")
    }

    fn peer(&self, address: &str) -> String {
        let password = self.password.map(|_| ", password: {secretKeyRef: {name: bgp, key: password}}");
        let ttl = if self.ttl_security { ", ttlSecurity: 1" } else { "" };
        format!("peerIP: \"{address}\", asNumber: {}{}{ttl}", self.their_as, password.unwrap_or_default())
    }

    pub(crate) fn is_external(&self) -> bool {
        self.their_as != OUR_AS
    }
}

fn resource(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}
