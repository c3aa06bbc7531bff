use serde::{Deserialize, Serialize};

use crate::v3::is_default;
use crate::{IPAMConfigurationSpec, VMAddressPersistence};

/// The settings of IPAM, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct IpamConfig {
    /// Whether nodes never borrow addresses from each other's blocks.
    pub strict_affinity: bool,
    /// Whether nodes claim blocks by themselves.
    pub auto_allocate_blocks: bool,
    /// How many blocks a node may have; 0 for the built-in limit.
    #[serde(rename = "maxBlocksPerHost", skip_serializing_if = "is_default")]
    pub max_blocks_per_host: u32,
    /// Whether a KubeVirt machine keeps its address when it moves; it does if absent.
    #[serde(rename = "kubeVirtVMAddressPersistence", skip_serializing_if = "Option::is_none")]
    pub kube_virt_vm_address_persistence: Option<VMAddressPersistence>,
    /// How long a released address rests, in seconds.
    #[serde(rename = "ipCooldownSeconds", skip_serializing_if = "is_default")]
    pub ip_cooldown_seconds: u32,
}

impl Default for IpamConfig {
    fn default() -> Self {
        Self {
            strict_affinity: false,
            auto_allocate_blocks: true,
            max_blocks_per_host: 0,
            kube_virt_vm_address_persistence: None,
            ip_cooldown_seconds: 0,
        }
    }
}

/// Both spellings that rows have.
#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct Stored {
    #[serde(alias = "strict_affinity")]
    strict_affinity: bool,
    #[serde(alias = "auto_allocate_blocks")]
    auto_allocate_blocks: Option<bool>,
    max_blocks_per_host: u32,
    #[serde(rename = "kubeVirtVMAddressPersistence")]
    kube_virt_vm_address_persistence: Option<VMAddressPersistence>,
    ip_cooldown_seconds: u32,
}

impl From<Stored> for IpamConfig {
    fn from(stored: Stored) -> Self {
        Self {
            strict_affinity: stored.strict_affinity,
            // Calico leaves out what is false, and false is only allowed together with strict affinity.
            auto_allocate_blocks: stored.auto_allocate_blocks.unwrap_or(!stored.strict_affinity),
            max_blocks_per_host: stored.max_blocks_per_host,
            kube_virt_vm_address_persistence: stored.kube_virt_vm_address_persistence,
            ip_cooldown_seconds: stored.ip_cooldown_seconds,
        }
    }
}

impl From<&IPAMConfigurationSpec> for IpamConfig {
    fn from(spec: &IPAMConfigurationSpec) -> Self {
        Self {
            strict_affinity: spec.strict_affinity,
            auto_allocate_blocks: spec.auto_allocate_blocks.unwrap_or(true),
            max_blocks_per_host: spec.max_blocks_per_host,
            kube_virt_vm_address_persistence: spec.kube_virt_vm_address_persistence,
            ip_cooldown_seconds: spec.ip_cooldown_seconds,
        }
    }
}

impl From<&IpamConfig> for IPAMConfigurationSpec {
    fn from(config: &IpamConfig) -> Self {
        Self {
            strict_affinity: config.strict_affinity,
            max_blocks_per_host: config.max_blocks_per_host,
            auto_allocate_blocks: Some(config.auto_allocate_blocks),
            kube_virt_vm_address_persistence: config.kube_virt_vm_address_persistence,
            ip_cooldown_seconds: config.ip_cooldown_seconds,
        }
    }
}
