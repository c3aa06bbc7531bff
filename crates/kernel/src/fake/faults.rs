use std::collections::BTreeMap;

use crate::netlink::Errno;

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused with this error; nothing is done.
    Refuse(Errno),
    /// It is done, but the answer is lost, and what stands behind it in the same batch is not done.
    Lose,
}

/// Which calls go wrong.
#[derive(Debug, Default)]
pub(super) struct Faults {
    calls: u64,
    scheduled: BTreeMap<u64, Fault>,
    random: u64,
    one_in: u64,
}

impl Faults {
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    pub(super) fn schedule(&mut self, calls: u64, fault: Fault) {
        self.scheduled.insert(self.calls + calls, fault);
    }

    pub(super) fn set_random(&mut self, seed: u64, one_in: u64) {
        // The generator must not start from zero.
        (self.random, self.one_in) = (seed | 1, one_in);
    }

    /// Counts a call and tells whether it goes wrong.
    pub(super) fn next(&mut self) -> Option<Fault> {
        let fault = self.scheduled.remove(&self.calls);
        self.calls += 1;
        fault.or_else(|| self.random_fault())
    }

    fn random_fault(&mut self) -> Option<Fault> {
        if self.one_in == 0 {
            return None;
        }
        // xorshift64 (Marsaglia 2003): enough to vary tests, and no dependency.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        if !(self.random >> 8).is_multiple_of(self.one_in) {
            return None;
        }
        let errors = [Errno::BUSY, Errno::NOMEM, Errno::INVAL, Errno::AGAIN];
        match self.random % 5 {
            4 => Some(Fault::Lose),
            choice => errors.into_iter().nth(usize::try_from(choice).unwrap_or(0)).map(Fault::Refuse),
        }
    }
}
