use super::{Condition, object};
use crate::scalars::{Net, words};
use crate::{Kind, Object, Spec};
use std::cell::RefCell;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::Violation;
use crate::rules::{Place, Rules, check_count, check_range, check_selector, check_unique};
use crate::selector::Selector;

/// A range of addresses for workloads, tunnels or load balancers.
pub type IPPool = Object<IPPoolSpec>;

object! {
    /// `spec` of an [`IPPool`].
    pub struct IPPoolSpec {
        /// The range, masked. Immutable; pools do not overlap.
        cidr: Net = required,
        /// When to tunnel in VXLAN; `Never` if absent.
        vxlan_mode: Option<EncapsulationMode>,
        /// When to tunnel in IP-in-IP (IPv4 only); `Never` if absent.
        ipip_mode: Option<EncapsulationMode>,
        /// Whether traffic that leaves all pools takes the node's address.
        nat_outgoing: bool,
        /// Whether no new address is given out.
        disabled: bool,
        /// Whether BGP keeps the blocks to itself.
        #[serde(rename = "disableBGPExport")]
        disable_bgp_export: bool,
        /// Prefix length of the blocks: 20..32 (26 if absent), IPv6 116..128 (122). Immutable.
        block_size: Option<u8>,
        /// Which nodes may use it; all if empty.
        node_selector: String,
        /// Whose pods may use it; all if empty.
        namespace_selector: String,
        /// For what; workloads and tunnels if absent.
        allowed_uses: Option<Vec<IPPoolAllowedUse>>,
        /// Whether it is used unasked; `Automatic` if absent.
        assignment_mode: Option<AssignmentMode>,
    }
}

object! {
    /// `status` of an [`IPPool`].
    #[derive(Default)]
    pub struct IPPoolStatus {
        /// `Allocatable`, with reason OK, CIDROverlap, Terminating or PoolDisabled.
        conditions: Vec<Condition>,
    }
}

words! {
    /// When traffic between nodes is encapsulated.
    #[derive(Default)]
    EncapsulationMode {
        /// Not at all.
        #[default]
        Never = "Never",
        /// Always.
        Always = "Always",
        /// When the nodes are in different subnets.
        CrossSubnet = "CrossSubnet",
    }
}

words! {
    /// What a pool's addresses are for.
    IPPoolAllowedUse {
        /// Pods and other workloads.
        Workload = "Workload",
        /// The nodes' own tunnel devices.
        Tunnel = "Tunnel",
        /// Services of type LoadBalancer.
        LoadBalancer = "LoadBalancer",
    }
}

words! {
    /// Whether a pool takes part in automatic assignment.
    #[derive(Default)]
    AssignmentMode {
        /// It does.
        #[default]
        Automatic = "Automatic",
        /// Only when asked for by name or address.
        Manual = "Manual",
    }
}

impl Spec for IPPoolSpec {
    const KIND: Kind = Kind::IPPool;
    type Status = IPPoolStatus;
}

impl IPPoolSpec {
    /// An enabled pool with everything else at its default.
    pub fn new(cidr: Net) -> Self {
        Self {
            cidr,
            vxlan_mode: None,
            ipip_mode: None,
            nat_outgoing: false,
            disabled: false,
            disable_bgp_export: false,
            block_size: None,
            node_selector: String::new(),
            namespace_selector: String::new(),
            allowed_uses: None,
            assignment_mode: None,
        }
    }

    /// Prefix length of the pool's blocks, the family's default filled in.
    pub fn block_prefix_len(&self) -> u8 {
        self.block_size.unwrap_or(if self.cidr.is_ipv6() { 122 } else { 26 })
    }

    /// Whether the pool may be used so, the default filled in.
    pub fn allows(&self, usage: IPPoolAllowedUse) -> bool {
        match &self.allowed_uses {
            Some(uses) if !uses.is_empty() => uses.contains(&usage),
            _ => usage != IPPoolAllowedUse::LoadBalancer,
        }
    }
}

/// How many uses a pool may name.
const MAX_USES: usize = 10;

impl Rules for IPPoolSpec {
    fn apply_defaults(object: &mut Object<Self>) {
        let spec = &mut object.spec;
        spec.block_size = Some(spec.block_prefix_len());
        spec.ipip_mode.get_or_insert_default();
        spec.vxlan_mode.get_or_insert_default();
        spec.assignment_mode.get_or_insert_default();
        if spec.node_selector.is_empty() {
            "all()".clone_into(&mut spec.node_selector);
        }
        if spec.allowed_uses.as_ref().is_none_or(Vec::is_empty) {
            // Tunnel devices have no namespace that a selector could match.
            let uses = match spec.namespace_selector.is_empty() {
                true => vec![IPPoolAllowedUse::Workload, IPPoolAllowedUse::Tunnel],
                false => vec![IPPoolAllowedUse::Workload],
            };
            spec.allowed_uses = Some(uses);
        }
    }

    fn check(object: &Object<Self>, at: &Place<'_>) {
        let (spec, at) = (&object.spec, at.field("spec"));
        check_cidr(spec, &at.field("cidr"));
        check_block_size(spec, &at);
        check_encapsulation(spec, &at);
        check_selector(&spec.node_selector, &at.field("nodeSelector"));
        check_selector(&spec.namespace_selector, &at.field("namespaceSelector"));
        check_uses(spec, &at);
    }
}

fn check_cidr(spec: &IPPoolSpec, at: &Place<'_>) {
    let cidr = spec.cidr;
    if !cidr.is_masked() {
        at.refuse(cidr, format!("has bits beyond its prefix length; write {}", cidr.net()));
    }
    let link_local: IpNet = match cidr.is_ipv6() {
        true => Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10).into(),
        false => Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16).into(),
    };
    if overlap(&cidr.net(), &link_local) {
        at.refuse(cidr, format!("overlaps the link-local range {link_local}"));
    }
}

/// Networks overlap when one contains the other.
fn overlap(left: &IpNet, right: &IpNet) -> bool {
    left.contains(right) || right.contains(left)
}

fn check_block_size(spec: &IPPoolSpec, at: &Place<'_>) {
    let block = spec.block_prefix_len();
    let (first, last) = if spec.cidr.is_ipv6() { (116, 128) } else { (20, 32) };
    check_range(block.into(), first, last, &at.field("blockSize"));
    if !spec.disabled && spec.cidr.prefix_len() > block {
        let reason =
            format!("is smaller than one block (/{block}); give it a longer blockSize or set disabled");
        at.field("cidr").refuse(spec.cidr, reason);
    }
}

fn check_encapsulation(spec: &IPPoolSpec, at: &Place<'_>) {
    let is_on = |mode: Option<EncapsulationMode>| mode.unwrap_or_default() != EncapsulationMode::Never;
    let (ipip, vxlan) = (is_on(spec.ipip_mode), is_on(spec.vxlan_mode));
    let ipip_mode = spec.ipip_mode.unwrap_or_default();
    if ipip && vxlan {
        at.field("ipipMode").refuse(ipip_mode, "cannot be combined with vxlanMode; set one of them to Never");
    }
    if ipip && spec.cidr.is_ipv6() {
        at.field("ipipMode").refuse(ipip_mode, "is not possible for IPv6; use vxlanMode");
    }
}

fn check_uses(spec: &IPPoolSpec, at: &Place<'_>) {
    let uses = spec.allowed_uses.as_deref().unwrap_or_default();
    check_count(uses, MAX_USES, &at.field("allowedUses"));
    check_unique(uses, &at.field("allowedUses"));
    if uses.contains(&IPPoolAllowedUse::Tunnel) && !spec.namespace_selector.is_empty() {
        let reason = "is not possible with allowedUses Tunnel: tunnel devices have no namespace";
        at.field("namespaceSelector").refuse(&spec.namespace_selector, reason);
    }
    if uses.contains(&IPPoolAllowedUse::LoadBalancer) {
        check_load_balancer(spec, uses, at);
    }
}

fn check_load_balancer(spec: &IPPoolSpec, uses: &[IPPoolAllowedUse], at: &Place<'_>) {
    if uses.iter().any(|usage| *usage != IPPoolAllowedUse::LoadBalancer) {
        at.field("allowedUses").refuse_all("cannot combine LoadBalancer with Workload or Tunnel");
    }
    for (mode, field) in [(spec.ipip_mode, "ipipMode"), (spec.vxlan_mode, "vxlanMode")] {
        if let Some(mode) = mode.filter(|mode| *mode != EncapsulationMode::Never) {
            at.field(field).refuse(mode, "is not possible with allowedUses LoadBalancer");
        }
    }
    if spec.disable_bgp_export {
        at.field("disableBGPExport").refuse(true, "is not possible with allowedUses LoadBalancer");
    }
    if !Selector::parse(&spec.node_selector).is_ok_and(|selector| selector.is_all()) {
        let reason = "has to be all() with allowedUses LoadBalancer";
        at.field("nodeSelector").refuse(&spec.node_selector, reason);
    }
}

impl IPPool {
    /// Checks what depends on the other pools: none may overlap.
    ///
    /// # Errors
    /// The pools that this one overlaps.
    pub fn validate_among<'a>(
        &self,
        pools: impl IntoIterator<Item = &'a IPPool>,
    ) -> Result<(), Vec<Violation>> {
        let cidr = self.spec.cidr.net();
        let others = pools.into_iter().filter(|pool| pool.metadata.name != self.metadata.name);
        let violations: Vec<_> = others
            .filter(|pool| overlap(&pool.spec.cidr.net(), &cidr))
            .map(|pool| Violation {
                field: "spec.cidr".to_owned(),
                value: Some(self.spec.cidr.to_string()),
                reason: format!("overlaps {} of IPPool {}", pool.spec.cidr, pool.metadata.name),
            })
            .collect();
        if violations.is_empty() { Ok(()) } else { Err(violations) }
    }

    /// Checks what may not change: range and block size.
    ///
    /// # Errors
    /// The fields that changed.
    pub fn validate_change(&self, before: &IPPool) -> Result<(), Vec<Violation>> {
        let found = RefCell::default();
        let at = Place::root(&found).field("spec");
        if self.spec.cidr.net() != before.spec.cidr.net() {
            let reason = format!("cannot change; it was {}: make another pool", before.spec.cidr);
            at.field("cidr").refuse(self.spec.cidr, reason);
        }
        let (now, was) = (self.spec.block_prefix_len(), before.spec.block_prefix_len());
        if now != was {
            at.field("blockSize").refuse(now, format!("cannot change; it was {was}: make another pool"));
        }
        let violations = found.into_inner();
        if violations.is_empty() { Ok(()) } else { Err(violations) }
    }
}
