//! How fast a workload may receive and send: token buckets of traffic control on its interface.
//!
//! What the host sends to a workload is queued on the host's side of its veth. What the workload sends cannot be queued where
//! it comes in: it is redirected to a device of its own (an `ifb`, named by a hash of the interface's name), queued there,
//! and then goes on as if it had just come in from the workload.
//!
//! ```text
//!  host ──▶ tbf on cali… ──▶ workload
//!  host ◀── tbf on bwcali… ◀── redirect on cali… (ingress) ◀── workload
//! ```
//!
//! A device goes with the last limit, or after its interface.

mod bucket;
mod messages;

use std::collections::BTreeSet;

pub use bucket::Bucket;
use bucket::TokenBucket;

use crate::link::Link;
use crate::netlink::{Errno, Error, Message};
use crate::{InterfaceName, Rtnetlink, ownership};

/// The limits on an interface; none is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shaping {
    /// To the workload.
    pub to: Option<Bucket>,
    /// From the workload.
    pub from: Option<Bucket>,
}

impl Shaping {
    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

/// The device that queues what the workload on an interface sends.
pub fn device_of(interface: &InterfaceName) -> InterfaceName {
    // FNV-1a, folded into 45 bits: nine characters of five bits are what a name has room for.
    let hash = interface.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let folded = (hash >> 45) ^ hash;
    let characters = (0..9).map(|place| {
        let bits = (folded >> (5 * place)) & 31;
        char::from(b"0123456789abcdefghijklmnopqrstuv"[bits as usize])
    });
    let mut name = ownership::SHAPER_PREFIX.to_owned();
    name.extend(characters);
    InterfaceName::from_kernel(name)
}

/// Whether a link is such a device.
pub(crate) fn is_device(link: &Link) -> bool {
    link.kind.as_deref() == Some("ifb") && link.name.as_str().starts_with(ownership::SHAPER_PREFIX)
}

impl Rtnetlink {
    /// The links that have a token bucket of ours, by number.
    ///
    /// # Errors
    /// As [`crate::netlink::Socket::dump`].
    pub fn shaped_links(&mut self) -> Result<BTreeSet<u32>, Error> {
        let read = |reply: crate::netlink::Reply<'_>| messages::read_owner(reply.payload);
        match self.socket.dump(&messages::list_qdiscs(), "queueing disciplines", read) {
            // A kernel without traffic control has none.
            Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => Ok(BTreeSet::new()),
            found => found.map(|owners| owners.into_iter().collect()),
        }
    }

    /// Makes the limits on an interface these, whatever there was. Gives how many objects it changed.
    ///
    /// # Errors
    /// When the kernel refuses; parts may have been made.
    pub fn shape(&mut self, link: &Link, wanted: &Shaping) -> Result<usize, Error> {
        let to = wanted.to.map(|bucket| bucket.in_kernel(link.mtu));
        let to = self.set_bucket(link.index, &link.name, to)?;
        let from = wanted.from.map(|bucket| bucket.in_kernel(link.mtu));
        let from = match from {
            Some(bucket) => self.divert(link, bucket)?,
            None => self.undivert(link)?,
        };
        Ok(to + from)
    }

    /// Makes a link's outermost queue this; none: not one of ours.
    fn set_bucket(
        &mut self,
        index: u32,
        name: &InterfaceName,
        wanted: Option<TokenBucket>,
    ) -> Result<usize, Error> {
        let object = format!("token bucket of {name}");
        let read = |reply: crate::netlink::Reply<'_>| messages::read_bucket(reply.payload);
        let present = absent(self.socket.get(&messages::get_bucket(index), &object, read))?;
        match (present, wanted) {
            (None, None) => Ok(0),
            (Some(present), Some(wanted)) if present == Some(wanted) => Ok(0),
            (_, Some(wanted)) => self.acknowledged(&messages::set_bucket(index, &wanted), &object),
            (Some(_), None) => self.acknowledged(&messages::delete_bucket(index), &object),
        }
    }

    /// Redirects what comes in from an interface through its device.
    fn divert(&mut self, link: &Link, bucket: TokenBucket) -> Result<usize, Error> {
        let name = device_of(&link.name);
        let mut changed = 0;
        let device = match self.link(&name)? {
            Some(device) if is_device(&device) && device.up && device.mtu == link.mtu => device,
            found => {
                changed += 1;
                if found.is_some() {
                    self.delete_link(&name)?;
                }
                self.acknowledged(&messages::create_device(&name, link.mtu), format!("device {name}"))?;
                let made = self.link(&name)?;
                made.ok_or(Error::Overrun { object: format!("device {name}") })?
            }
        };
        changed += self.set_bucket(device.index, &name, Some(bucket))?;
        let object = format!("redirection of {}", link.name);
        if self.redirection(link)? == [device.index] {
            return Ok(changed);
        }
        // With what it hangs on: a redirection to a device that is gone is none, and others would go before ours.
        self.delete_entrance(link)?;
        self.acknowledged(&messages::create_entrance(link.index), &object)?;
        changed += 1 + self.acknowledged(&messages::redirect(link.index, device.index), &object)?;
        Ok(changed)
    }

    fn undivert(&mut self, link: &Link) -> Result<usize, Error> {
        let name = device_of(&link.name);
        let Some(device) = self.link(&name)?.filter(is_device) else { return Ok(0) };
        if self.redirection(link)?.contains(&device.index) {
            self.delete_entrance(link)?;
        }
        self.delete_link(device.index)?;
        Ok(1)
    }

    /// The devices that what comes in is redirected to, in order.
    fn redirection(&mut self, link: &Link) -> Result<Vec<u32>, Error> {
        let object = format!("filters of {}", link.name);
        let read = |reply: crate::netlink::Reply<'_>| messages::read_redirection(reply.payload);
        let entrance = self.socket.get(&messages::get_entrance(link.index), &object, |_| Some(()));
        if absent(entrance)?.is_none() {
            return Ok(Vec::new());
        }
        self.socket.dump(&messages::list_filters(link.index), &object, read)
    }

    fn delete_entrance(&mut self, link: &Link) -> Result<(), Error> {
        let object = format!("entrance of {}", link.name);
        absent(self.acknowledged(&messages::delete_entrance(link.index), object).map(Some)).map(drop)
    }

    fn acknowledged(&mut self, message: &Message, object: impl std::fmt::Display) -> Result<usize, Error> {
        self.socket.acknowledge(message, object).map(|()| 1)
    }
}

/// What is not there is none. (`EINVAL`: there is no such entrance, or a default queue, which the kernel does not show.)
fn absent<T>(answer: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    match answer {
        Err(error) if error.is_absent() || error.errno() == Some(Errno::INVAL) => Ok(None),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface_has_a_device_with_a_valid_name_of_its_own() {
        let names: BTreeSet<String> = (0..1000)
            .map(|number| device_of(&InterfaceName::new(&format!("cali{number:011x}")).unwrap()))
            .map(|device| InterfaceName::new(device.as_str()).unwrap().to_string())
            .collect();
        assert_eq!(names.len(), 1000);
        assert!(names.iter().all(|name| !ownership::is_workload_interface(name)));
    }
}
