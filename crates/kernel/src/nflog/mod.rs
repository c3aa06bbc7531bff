//! Packets that rules have logged to a netlink group (`linux/netfilter/nfnetlink_log.h`).
//!
//! # What it costs
//! A log statement whose group nobody has costs the packet about 0.25 µs: the kernel prints the prefix before it looks for the
//! group. With a listener it copies [`Headers::SNAP_BYTES`] of the packet, and wakes us once in [`BATCH`] packets or
//! [`DELAY_CENTISECONDS`], whichever comes first. A listener that has heard enough closes: a [`Group`] that is dropped is unbound
//! by the kernel at once.
//!
//! # What is lost
//! What does not fit into the socket's buffer. The kernel numbers what it logs, so [`Received::lost`] says how much that was.
//!
//! A group belongs to one socket of its network namespace; the group ends with the socket, so a process that dies leaves nothing.

mod headers;
mod wire;

use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::RecvFlags;

use crate::netlink::{Errno, Error, Protocol, Socket};
use crate::netns::Netns;
use crate::nft::{
    CompiledRule, Family, InvalidRule, Log, LogTarget, NftError, NftSocket, Operation, Rule, TableId,
    Transport,
};

pub use headers::Headers;

/// Packets that the kernel gathers before it hands them on.
pub const BATCH: u32 = 32;
/// Hundredths of a second after which it hands on what it has.
pub const DELAY_CENTISECONDS: u32 = 10;

/// Room for what has not been read yet: some thousand packets.
const RECEIVE_BUFFER_BYTES: usize = 2 * 1024 * 1024;

/// A packet that a rule has logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The log statement's prefix.
    pub prefix: String,
    /// Where on its way the packet was: `NF_INET_*` (1 input, 2 forward, 3 output).
    pub hook: u8,
    /// The number of the interface by which it came, if it came by one.
    pub input: Option<u32>,
    /// The number of the interface by which it was to leave, if that was known.
    pub output: Option<u32>,
    /// What it is.
    pub headers: Headers,
}

/// What a look into the queue has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// Packets that were handed on.
    pub packets: usize,
    /// Packets that the kernel could not queue.
    pub lost: u64,
    /// There may be more.
    pub more: bool,
}

/// A group that is listened to; it is left when this is dropped.
#[derive(Debug)]
pub struct Group {
    socket: Socket,
    number: u16,
    /// The number of the packet that comes next.
    next: u32,
}

impl Group {
    /// Takes a group of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Refused`]: another socket has it (`EPERM`), or the kernel has no NFLOG ([`is_unsupported`]).
    pub fn open(number: u16) -> Result<Self, Error> {
        let mut socket = Socket::open(Protocol::Netfilter)?;
        socket.set_receive_buffer(RECEIVE_BUFFER_BYTES)?;
        let object = format!("NFLOG group {number}");
        socket.acknowledge(&wire::bind(number), &object)?;
        socket.acknowledge(&wire::settings(number), &object)?;
        Ok(Self { socket, number, next: 0 })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Hands on what is queued, without waiting, until there is no more or at least `limit` packets were seen.
    ///
    /// # Errors
    /// The socket failed.
    pub fn receive(&mut self, limit: usize, mut take: impl FnMut(Logged)) -> Result<Received, Error> {
        let mut received = Received { more: true, ..Received::default() };
        while received.packets < limit && received.more {
            let Self { socket, number, next } = self;
            let outcome = socket.receive(&"NFLOG", RecvFlags::DONTWAIT, |reply| {
                let Some((sequence, logged)) = wire::read(reply.kind, *number, reply.payload) else { return };
                received.packets += 1;
                received.lost += u64::from(sequence.wrapping_sub(*next));
                *next = sequence.wrapping_add(1);
                logged.into_iter().for_each(&mut take);
            });
            match outcome {
                Ok(more) => received.more = more,
                // How many were lost the next number tells.
                Err(Error::Overrun { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(received)
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether the kernel can log to a group at all: whether it has groups (`nfnetlink_log`), and takes a rule that logs to one
/// (`nft_log`). Both are tried, the rule in a network namespace that is made for it and gone with it: without the second every
/// rule with such a statement would be refused.
///
/// # Errors
/// No socket, or no namespace.
pub fn is_supported() -> Result<bool, ProbeError> {
    match Socket::open(Protocol::Netfilter)?.acknowledge(&wire::probe(), "NFLOG") {
        Err(error) if is_unsupported(&error) => Ok(false),
        Err(error) => Err(error.into()),
        Ok(()) => Netns::make()?.run(|| takes_rules(NftSocket::open()?))?,
    }
}

/// Where there is no nf_tables at all nothing is said against it: then the rules are another backend's.
fn takes_rules(mut nft: impl Transport) -> Result<bool, ProbeError> {
    const CHAIN: &str = "probe";
    let table = TableId::new(Family::Ip, crate::ownership::NFT_TABLE);
    let target = LogTarget::Group { group: 0, snaplen: Headers::SNAP_BYTES };
    let rule = Rule::new().log(Log { prefix: CHAIN.to_owned(), target });
    let body = rule.compile(table.family)?;
    let operations = [
        Operation::AddTable,
        Operation::AddChain { name: CHAIN.into(), base: None },
        Operation::AddRule { chain: CHAIN.into(), before: None, rule: CompiledRule { rule, body }.into() },
    ];
    let Ok(generation) = nft.generation() else { return Ok(true) };
    match nft.commit(&table, generation, &operations) {
        Ok(_) => Ok(true),
        Err(NftError::Refused(refusals)) => {
            Ok(!refusals.iter().any(|refusal| refusal.index == operations.len() - 1))
        }
        Err(error) => Err(error.into()),
    }
}

/// Why it is not known whether the kernel can log.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Netlink's.
    #[error("NFLOG cannot be tried: {0}")]
    Netlink(#[from] Error),
    /// The namespace to try it in.
    #[error("a log rule cannot be tried: {0}")]
    Namespace(#[from] crate::netns::Error),
    /// nf_tables'.
    #[error("a log rule cannot be tried: {0}")]
    Nft(#[from] NftError),
    /// Our own rule's.
    #[error("a log rule cannot be tried: {0}")]
    Rule(#[from] InvalidRule),
}

/// Whether the kernel has no NFLOG (nfnetlink: no such subsystem).
pub fn is_unsupported(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink;
    use crate::nft::{Committed, Fake, Refusal, RuleCount, TableState};

    /// Refuses one of the operations.
    struct Refusing(Fake, usize);

    impl Transport for Refusing {
        fn generation(&mut self) -> Result<u32, NftError> {
            self.0.generation()
        }

        fn touched(&mut self, table: &TableId, since: u32, until: u32) -> Result<bool, NftError> {
            self.0.touched(table, since, until)
        }

        fn read(&mut self, table: &TableId) -> Result<(u32, Option<TableState>), NftError> {
            self.0.read(table)
        }

        fn counters(&mut self, table: &TableId) -> Result<Vec<RuleCount>, NftError> {
            self.0.counters(table)
        }

        fn commit(
            &mut self,
            table: &TableId,
            _: u32,
            operations: &[Operation],
        ) -> Result<Committed, NftError> {
            let (index, cause) = (self.1, netlink::Refusal::new(Errno::NOENT));
            let operation = operations[index].describe(table);
            Err(NftError::Refused(vec![Refusal { index, operation, cause }]))
        }
    }

    #[test]
    fn a_kernel_that_refuses_the_log_rule_cannot_log() {
        assert!(takes_rules(Fake::new()).unwrap());
        assert!(!takes_rules(Refusing(Fake::new(), 2)).unwrap(), "nft_log is missing");
        assert!(takes_rules(Refusing(Fake::new(), 0)).unwrap(), "there are no tables, so no rules of ours");
    }
}
