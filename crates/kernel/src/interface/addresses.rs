use std::collections::BTreeSet;
use std::net::IpAddr;

use super::InterfaceKernel;
use crate::address::InterfaceAddress;
use crate::netlink::Error;

/// What came of placing a link's addresses.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// What the link has now, as far as is known.
    pub(super) present: BTreeSet<IpAddr>,
    /// How many were added or taken away.
    pub(super) changed: usize,
    /// One of IPv4 may have been taken away.
    pub(super) took_ipv4: bool,
    /// What refused first.
    pub(super) refused: Option<Error>,
}

impl Placed {
    fn note(&mut self, outcome: Result<(), Error>, address: IpAddr, is_there: bool) {
        match outcome {
            Ok(()) if is_there => self.changed += usize::from(self.present.insert(address)),
            Ok(()) => self.changed += usize::from(self.present.remove(&address)),
            Err(error) => self.refused = self.refused.take().or(Some(error)),
        }
    }
}

/// Adds addresses to a link until it has those that are wanted, and, where all of its addresses are ours, takes away the
/// others. One takes the place of another before that goes: with its last IPv4 address a link loses its IPv4 routes. While
/// one is refused, the others of its family stay.
pub(super) fn place(
    kernel: &mut impl InterfaceKernel,
    index: u32,
    present: BTreeSet<IpAddr>,
    wanted: &BTreeSet<IpAddr>,
    all_are_ours: bool,
) -> Placed {
    let missing: Vec<IpAddr> = wanted.difference(&present).copied().collect();
    let surplus: Vec<IpAddr> = present.difference(wanted).filter(|_| all_are_ours).copied().collect();
    let mut placed = Placed { present, ..Placed::default() };
    for address in missing {
        placed.note(kernel.add_host_address(index, address), address, true);
    }
    let refused: Vec<IpAddr> = wanted.difference(&placed.present).copied().collect();
    for address in surplus {
        if refused.iter().all(|refused| refused.is_ipv4() != address.is_ipv4()) {
            placed.took_ipv4 |= address.is_ipv4();
            placed.note(kernel.delete_host_address(index, address), address, false);
        }
    }
    placed
}

/// An address that stands for itself alone.
pub(super) fn host_address(address: &InterfaceAddress) -> Option<IpAddr> {
    let net = address.address;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}
