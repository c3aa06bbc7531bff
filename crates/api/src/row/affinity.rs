use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::parse;
use crate::AffinityOwner;
use crate::decode::Problem;

/// A claim on a block. Who claims which block is in the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IpamBlockAffinity {
    /// Who claims.
    #[serde(skip)]
    pub owner: AffinityOwner,
    /// The block.
    #[serde(skip)]
    pub cidr: IpNet,
    /// How far the claim has got.
    pub state: BlockAffinityState,
    /// Whether it is about to go: readers take it for gone.
    pub deleted: bool,
}

/// How far a claim has got: pending, confirmed, pending deletion, gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BlockAffinityState {
    /// The block belongs to the owner. An empty state (first versions) means this.
    #[default]
    #[serde(alias = "")]
    Confirmed,
    /// The owner is about to make or take the block; counts as no affinity for routing.
    Pending,
    /// The owner is about to give it up.
    PendingDeletion,
}

/// The part of an affinity that is in the row.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Stored {
    state: BlockAffinityState,
    deleted: bool,
}

impl IpamBlockAffinity {
    /// A claim.
    pub fn new(owner: AffinityOwner, cidr: IpNet, state: BlockAffinityState) -> Self {
        Self { owner, cidr, state, deleted: false }
    }

    pub(super) fn parse(owner: &AffinityOwner, cidr: IpNet, text: &str) -> Result<Self, Vec<Problem>> {
        // The first versions wrote nothing at all.
        let stored = if text.is_empty() { Stored::default() } else { parse(text)? };
        Ok(Self { owner: owner.clone(), cidr, state: stored.state, deleted: stored.deleted })
    }
}
