use super::object;
use crate::scalars::{Net, words};
use crate::{Kind, NoStatus, Object, Spec};

/// Addresses that IPAM does not hand out.
pub type IPReservation = Object<IPReservationSpec>;
/// Settings of IPAM; only `default` exists.
pub type IPAMConfiguration = Object<IPAMConfigurationSpec>;
/// A node's claim on a block, as a resource.
pub type BlockAffinity = Object<BlockAffinitySpec>;

object! {
    /// `spec` of an [`IPReservation`].
    #[derive(Default)]
    pub struct IPReservationSpec {
        /// The addresses; meant to be few.
        #[serde(rename = "reservedCIDRs")]
        reserved_cidrs: Vec<Net>,
    }
}

object! {
    /// `spec` of an [`IPAMConfiguration`].
    #[derive(Default)]
    pub struct IPAMConfigurationSpec {
        /// Whether nodes never borrow addresses from each other's blocks.
        strict_affinity: bool,
        /// How many blocks a node may have: 0..1000000, 0 for the built-in 20. More than 0 needs strict affinity.
        max_blocks_per_host: u32,
        /// Whether nodes claim blocks by themselves; true if absent. False needs strict affinity.
        auto_allocate_blocks: Option<bool>,
        /// Whether a KubeVirt machine keeps its address when it moves; `Enabled` if absent.
        #[serde(rename = "kubeVirtVMAddressPersistence")]
        kube_virt_vm_address_persistence: Option<VMAddressPersistence>,
        /// How long a released address rests, in seconds: 0..1200.
        ip_cooldown_seconds: u32,
    }
}

words! {
    /// Whether a virtual machine keeps its address.
    #[derive(Default)]
    VMAddressPersistence {
        /// It does.
        #[default]
        Enabled = "Enabled",
        /// It does not.
        Disabled = "Disabled",
    }
}

object! {
    /// `spec` of a [`BlockAffinity`].
    pub struct BlockAffinitySpec {
        /// How far the claim has got.
        state: String,
        /// Who claims.
        node: String,
        /// `host` if absent, or `virtual`.
        #[serde(rename = "type")]
        affinity_type: String,
        /// The block.
        cidr: Net = required,
        /// Whether it is about to go.
        deleted: bool,
    }
}

impl Spec for IPReservationSpec {
    const KIND: Kind = Kind::IPReservation;
    type Status = NoStatus;
}

impl Spec for IPAMConfigurationSpec {
    const KIND: Kind = Kind::IPAMConfiguration;
    type Status = NoStatus;
}

impl Spec for BlockAffinitySpec {
    const KIND: Kind = Kind::BlockAffinity;
    type Status = NoStatus;
}
