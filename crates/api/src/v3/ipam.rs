use super::object;
use crate::rules::{Place, Rules, check_range, check_singleton_name};
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

/// The most blocks that `maxBlocksPerHost` allows.
const MAX_BLOCKS: i64 = 1_000_000;
/// The longest rest of a released address, in seconds.
const MAX_COOLDOWN: i64 = 1_200;

impl Rules for IPReservationSpec {
    fn check(_: &Object<Self>, _: &Place<'_>) {}
}

impl Rules for IPAMConfigurationSpec {
    fn apply_defaults(object: &mut Object<Self>) {
        object.spec.auto_allocate_blocks.get_or_insert(true);
    }

    fn check_name(name: &str, at: &Place<'_>) {
        check_singleton_name(name, at);
    }

    fn check(object: &Object<Self>, at: &Place<'_>) {
        let (spec, at) = (&object.spec, at.field("spec"));
        check_range(spec.max_blocks_per_host.into(), 0, MAX_BLOCKS, &at.field("maxBlocksPerHost"));
        check_range(spec.ip_cooldown_seconds.into(), 0, MAX_COOLDOWN, &at.field("ipCooldownSeconds"));
        if spec.strict_affinity {
            return;
        }
        if spec.max_blocks_per_host > 0 {
            at.field("maxBlocksPerHost").refuse(spec.max_blocks_per_host, "needs strictAffinity: true");
        }
        if spec.auto_allocate_blocks == Some(false) {
            at.field("autoAllocateBlocks").refuse(false, "needs strictAffinity: true");
        }
    }
}

impl Rules for BlockAffinitySpec {
    fn apply_defaults(object: &mut Object<Self>) {
        if object.spec.affinity_type.is_empty() {
            "host".clone_into(&mut object.spec.affinity_type);
        }
    }

    fn check(object: &Object<Self>, at: &Place<'_>) {
        let (spec, at) = (&object.spec, at.field("spec"));
        if spec.node.is_empty() {
            at.field("node").refuse_all("is required");
        }
        if !["", "confirmed", "pending", "pendingDeletion"].contains(&spec.state.as_str()) {
            at.field("state").refuse(&spec.state, "is not one of confirmed, pending, pendingDeletion");
        }
        if !["", "host", "virtual"].contains(&spec.affinity_type.as_str()) {
            at.field("type").refuse(&spec.affinity_type, "is not one of host, virtual");
        }
        if spec.deleted {
            at.field("deleted").refuse(true, "is for IPAM alone to say");
        }
    }
}
