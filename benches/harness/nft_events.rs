//! What the kernel says of its ruleset: a change counts when its event is here, whatever the node believes.
//!
//! The kernel sends the events of a transaction after it has committed it (linux/netfilter/nfnetlink.h, group
//! NFNLGRP_NFTABLES). An event is recognised by the octets of the datum that the change brings, encoded as the kernel
//! encodes it, so a change of something else cannot be taken for it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::netlink::{messages, subscribe};

const NFNLGRP_NFTABLES: u32 = 7;
/// Room for the events of a whole ruleset.
const RECEIVE_BUFFER_BYTES: usize = 64 << 20;
/// NFTA_DATA_VALUE of linux/netfilter/nf_tables.h.
const DATA_VALUE: u16 = 1;

/// Types of event (linux/netfilter/nf_tables.h with NFNL_SUBSYS_NFTABLES above).
pub(crate) mod kind {
    const SUBSYSTEM: u16 = 10 << 8;
    pub(crate) const NEW_RULE: u16 = SUBSYSTEM | 6;
    pub(crate) const DELETE_RULE: u16 = SUBSYSTEM | 8;
    pub(crate) const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
    pub(crate) const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;
}

/// What to wait for.
#[derive(Debug, Clone)]
pub(crate) struct Sign {
    /// One of [`kind`].
    pub(crate) kinds: &'static [u16],
    /// The datum, as an attribute: see [`datum`].
    pub(crate) octets: Vec<u8>,
}

/// A datum of a rule's comparison, or of a set element's key, as it stands in a message.
pub(crate) fn datum(value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).expect("a datum has 64 octets at most");
    let mut octets = length.to_ne_bytes().to_vec();
    octets.extend(DATA_VALUE.to_ne_bytes());
    octets.extend(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

/// A subscription, bound to the namespace in which it was made.
pub(crate) struct NftEvents(Socket);

impl NftEvents {
    /// Subscribes in the calling thread's namespace.
    pub(crate) fn subscribe() -> Result<Self> {
        Ok(Self(subscribe(NETLINK_NETFILTER, NFNLGRP_NFTABLES, RECEIVE_BUFFER_BYTES)?))
    }

    /// Waits for a sign; when it came.
    pub(crate) fn wait_for(&self, sign: &Sign, limit: Duration) -> Result<Instant> {
        let deadline = Instant::now() + limit;
        loop {
            let Some((datagram, came)) = self.next(deadline)? else {
                bail!("the kernel did not tell of {sign:?} within {limit:?}");
            };
            if sign.is_in(&datagram) {
                return Ok(came);
            }
        }
    }

    /// Waits until nothing has happened for this long.
    pub(crate) fn wait_for_quiet(&self, quiet: Duration, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if self.next(Instant::now() + quiet)?.is_none() {
                return Ok(());
            }
        }
        bail!("the ruleset still changes after {limit:?}")
    }

    /// The next datagram and when it was seen; none at the deadline.
    pub(crate) fn next(&self, deadline: Instant) -> Result<Option<(Vec<u8>, Instant)>> {
        loop {
            match self.0.recv_from_full() {
                Ok((datagram, _)) => return Ok(Some((datagram, Instant::now()))),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("events of nf_tables"),
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return Ok(None) };
            let timeout = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Sign {
    /// Whether a datagram has a message of such a kind with the datum in it.
    pub(crate) fn is_in(&self, datagram: &[u8]) -> bool {
        messages(datagram).any(|(kind, payload)| {
            self.kinds.contains(&kind)
                && payload.windows(self.octets.len()).any(|window| window == self.octets)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::netlink::HEADER;

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut octets = u32::try_from(HEADER + payload.len()).unwrap().to_ne_bytes().to_vec();
        octets.extend(kind.to_ne_bytes());
        octets.resize(HEADER, 0);
        octets.extend(payload);
        octets
    }

    #[test]
    fn a_sign_is_a_datum_in_a_message_of_its_kind() {
        let sign = Sign { kinds: &[kind::NEW_RULE], octets: datum(&80_u16.to_be_bytes()) };
        let with = |kind, port: u16| {
            let mut datagram = message(kind::NEW_ELEMENT, &[0; 8]);
            datagram.extend(message(kind, &datum(&port.to_be_bytes())));
            datagram
        };
        assert!(sign.is_in(&with(kind::NEW_RULE, 80)));
        assert!(!sign.is_in(&with(kind::NEW_RULE, 81)));
        assert!(!sign.is_in(&with(kind::DELETE_RULE, 80)));
        assert!(!sign.is_in(&[1, 2, 3]));
    }
}
