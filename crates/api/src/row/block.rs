use std::collections::BTreeMap;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::AffinityOwner;
use crate::v3::is_default;

/// An IPAM block: which of its addresses is whose (Calico's `AllocationBlock`). Ordinals count from the first address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpamBlock {
    /// The addresses.
    pub cidr: IpNet,
    /// Who the block belongs to; nobody if absent.
    #[serde(default, deserialize_with = "owner", serialize_with = "as_text")]
    pub affinity: Option<AffinityOwner>,
    /// Since when it belongs to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_claim_time: Option<Timestamp>,
    /// By ordinal: which of `attributes` says whose the address is; free if none. As long as the block.
    pub allocations: Vec<Option<usize>>,
    /// Ordinals of the free addresses: the one that has been free longest comes first.
    #[serde(default)]
    pub unallocated: Vec<usize>,
    /// Whose addresses are.
    #[serde(default)]
    pub attributes: Vec<IpamAllocationAttribute>,
    /// Grows with every write.
    #[serde(default)]
    pub sequence_number: u64,
    /// By ordinal: the sequence number of the write that allocated the address.
    #[serde(default)]
    pub sequence_number_for_allocation: BTreeMap<usize, u64>,
    /// Whether it is about to go: readers take it for gone.
    #[serde(default)]
    pub deleted: bool,
    /// Written by old versions, and read by nobody.
    #[serde(default)]
    pub strict_affinity: bool,
}

/// Whose an address is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamAllocationAttribute {
    /// The handle; none once the address has been released and rests.
    pub handle_id: Option<String>,
    /// Of the active owner: `pod`, `namespace`, `node`, `type`, `timestamp`, `service`, ….
    #[serde(default)]
    pub secondary: BTreeMap<String, String>,
    /// Of the other owner, while a virtual machine moves.
    #[serde(rename = "alternateOwnerAttrs", default, skip_serializing_if = "is_default")]
    pub alternate_owner_attrs: BTreeMap<String, String>,
    /// When it was released; it rests for the cool-down time.
    #[serde(rename = "releasedAt", default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<Timestamp>,
}

fn as_text<S: Serializer>(owner: &Option<AffinityOwner>, serializer: S) -> Result<S::Ok, S::Error> {
    match owner {
        Some(owner) => serializer.collect_str(owner),
        None => serializer.serialize_none(),
    }
}

fn owner<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<AffinityOwner>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    text.filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(serde::de::Error::custom))
        .transpose()
}

impl IpamBlock {
    /// A block with all addresses free.
    ///
    /// # Panics
    /// When the block has more than 2^16 addresses: blocks are /20 at most, /112 in IPv6.
    pub fn new(cidr: IpNet, affinity: Option<AffinityOwner>) -> Self {
        let bits = u32::from(cidr.max_prefix_len() - cidr.prefix_len());
        assert!(bits <= 16, "{cidr} is no block: it has 2^{bits} addresses");
        let size = 1usize << bits;
        Self {
            cidr,
            affinity,
            affinity_claim_time: None,
            allocations: vec![None; size],
            unallocated: (0..size).collect(),
            attributes: Vec::new(),
            sequence_number: 0,
            sequence_number_for_allocation: BTreeMap::new(),
            deleted: false,
            strict_affinity: false,
        }
    }

    /// Writes the row.
    ///
    /// # Panics
    /// Never: it holds nothing that JSON lacks.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("numbers, texts and maps of them")
    }
}
