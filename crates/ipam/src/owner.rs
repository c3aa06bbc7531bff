//! Who uses an address, when that changes while the address stays: a virtual machine moves from one pod to another, both
//! known to its block for a while.

use std::net::IpAddr;

use api::{IpamAllocationAttribute, Key};

use crate::block::State;
use crate::handles::canonical;
use crate::ipam::Ipam;
use crate::rows::{Write, retry};
use crate::{Attributes, IpamError};

/// A change of the owners of one address, made only if they are who the caller thinks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerUpdate {
    /// Only if the address belongs to this handle.
    pub handle: Option<String>,
    /// Who has to be the active owner.
    pub expect_active: Expect,
    /// Who has to be the other owner.
    pub expect_alternate: Expect,
    /// What becomes of the active owner.
    pub active: Change,
    /// What becomes of the other owner.
    pub alternate: Change,
}

/// Who has to be an owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Expect {
    /// Whoever it is.
    #[default]
    Anyone,
    /// Nobody.
    Nobody,
    /// This pod (attributes `namespace` and `pod`).
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// What becomes of the attributes of an owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Change {
    /// They stay.
    #[default]
    Keep,
    /// They go: there is no such owner any more.
    Clear,
    /// They become these.
    Set(Attributes),
}

impl Change {
    fn apply(&self, attributes: &mut Attributes) {
        match self {
            Self::Keep => {}
            Self::Clear => attributes.clear(),
            Self::Set(new) => attributes.clone_from(new),
        }
    }
}

impl Expect {
    fn check(&self, address: IpAddr, slot: &'static str, attributes: &Attributes) -> Result<(), IpamError> {
        let get = |name: &str| attributes.get(name).map(String::as_str);
        let is_met = match self {
            Self::Anyone => true,
            Self::Nobody => attributes.is_empty(),
            Self::Pod { namespace, name } => {
                get("namespace") == Some(namespace.as_str()) && get("pod") == Some(name.as_str())
            }
        };
        if is_met {
            return Ok(());
        }
        let expected = match self {
            Self::Pod { namespace, name } => format!("pod {namespace}/{name}"),
            Self::Nobody | Self::Anyone => "nobody".to_owned(),
        };
        let actual = match (get("namespace"), get("pod")) {
            (Some(namespace), Some(pod)) => format!("pod {namespace}/{pod}"),
            _ if attributes.is_empty() => "nobody".to_owned(),
            _ => "no pod".to_owned(),
        };
        Err(IpamError::OwnerMismatch { address, slot, expected, actual })
    }
}

impl Ipam {
    /// Changes the owners of an address in one write. Handle and sequence number stay.
    ///
    /// # Errors
    /// [`IpamError::NotAssigned`], [`IpamError::HandleMismatch`], [`IpamError::OwnerMismatch`]: nothing is changed. Or the
    /// store fails.
    pub fn set_owner_attributes(&self, address: IpAddr, update: &OwnerUpdate) -> Result<(), IpamError> {
        let not_assigned = || IpamError::NotAssigned(address);
        let view = self.rows.view(None)?;
        let cidr = self.block_around(address, &view)?.ok_or_else(not_assigned)?;
        retry(
            || Key::Block(cidr),
            || {
                let (mut block, revision) = self.rows.block(cidr)?.ok_or_else(not_assigned)?;
                let State::Assigned { attribute, .. } = block.state(address) else {
                    return Err(not_assigned());
                };
                let attribute = updated(address, attribute.clone(), update)?;
                block.describe(address, attribute);
                Ok((self.rows.write_block(&block, Some(&revision))? != Write::Lost).then_some(()))
            },
        )
    }
}

fn updated(
    address: IpAddr,
    mut attribute: IpamAllocationAttribute,
    update: &OwnerUpdate,
) -> Result<IpamAllocationAttribute, IpamError> {
    if let Some(expected) = update.handle.as_deref().map(canonical)
        && attribute.handle_id.as_deref() != Some(expected.as_str())
    {
        return Err(IpamError::HandleMismatch { address, expected, actual: attribute.handle_id });
    }
    update.expect_active.check(address, "active", &attribute.secondary)?;
    update.expect_alternate.check(address, "alternate", &attribute.alternate_owner_attrs)?;
    update.active.apply(&mut attribute.secondary);
    update.alternate.apply(&mut attribute.alternate_owner_attrs);
    Ok(attribute)
}
