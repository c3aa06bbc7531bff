use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Where one owner's addresses are: the index of its allocations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamHandle {
    /// The handle; it is in the key.
    #[serde(skip)]
    pub id: String,
    /// How many addresses the owner has in which block.
    #[serde(rename = "block", default)]
    pub blocks: BTreeMap<IpNet, usize>,
    /// Whether it is about to go: readers take it for gone.
    #[serde(default)]
    pub deleted: bool,
}

impl IpamHandle {
    /// A handle without addresses.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), ..Self::default() }
    }
}
