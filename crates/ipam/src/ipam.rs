//! The client: what every operation needs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use api::{AffinityOwner, Key, Timestamp};
use datastore::Store;
use ipnet::IpNet;

use crate::rows::{Rows, retry};
use crate::{Family, IpamError};

type Clock = dyn Fn() -> Timestamp + Send + Sync;

/// Address management over a store. Cheap to make, and to share between threads: one per process is best, as threads that
/// share it also take turns at claiming blocks, so that a host's limit on blocks holds for all of them together, and at taking
/// any address of a block, or releasing some.
///
/// It keeps no copy of any row: each operation decides on what it has read itself, and each write is conditional on that.
/// All that is remembered is which block had room last, as a hint where to look first.
pub struct Ipam {
    pub(crate) rows: Rows,
    clock: Box<Clock>,
    /// Held while a block is claimed on a host's own initiative.
    pub(crate) claiming: Mutex<()>,
    /// Held while any addresses of a block are taken, or some released. (Who wants a certain one may have to claim the block
    /// first, and just tries.)
    changing: Mutex<()>,
    with_room: Mutex<BTreeMap<(AffinityOwner, Family), IpNet>>,
}

impl Ipam {
    /// Over a store, by the system's clock.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            rows: Rows::new(store),
            clock: Box::new(Timestamp::now),
            claiming: Mutex::default(),
            changing: Mutex::default(),
            with_room: Mutex::default(),
        }
    }

    /// With another clock, which must not stand still for long nor go back: it makes sequence numbers of new blocks, and
    /// decides when a released address has rested.
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), ..self }
    }

    /// Does nothing: the rows of this layout need no upgrade. (In Kubernetes, old affinity rows get a label with the name of
    /// their host, by which they can be listed; keys of this layout begin with it.)
    pub fn upgrade_host(&self, _host: &str) {}

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Where the sequence numbers of a new block start; see [`crate::block::Block::create`].
    pub(crate) fn first_sequence(&self) -> u64 {
        let microseconds = u64::try_from(self.now().as_microsecond()).unwrap_or_default();
        microseconds.max(self.rows.next_sequence())
    }

    /// Changes a block by compare-and-swap. All pods of a host want the same block, and to lose an attempt costs more than
    /// to wait: threads take turns, so that only other processes can be faster.
    pub(crate) fn change_in_turn<T>(
        &self,
        block: IpNet,
        attempt: impl FnMut() -> Result<Option<T>, IpamError>,
    ) -> Result<T, IpamError> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        retry(|| Key::Block(block), attempt)
    }

    /// The owner's block that had room last, if any.
    pub(crate) fn hint(&self, owner: &AffinityOwner, family: Family) -> Option<IpNet> {
        let hints = self.with_room.lock().unwrap_or_else(PoisonError::into_inner);
        hints.get(&(owner.clone(), family)).copied()
    }

    pub(crate) fn remember(&self, owner: &AffinityOwner, block: IpNet) {
        let mut hints = self.with_room.lock().unwrap_or_else(PoisonError::into_inner);
        hints.insert((owner.clone(), Family::of(&block)), block);
    }
}

impl fmt::Debug for Ipam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ipam").finish_non_exhaustive()
    }
}
