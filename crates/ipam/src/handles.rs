//! Handle rows: how many addresses each owner has in which block.
//!
//! A handle may count too many (an operation died between the handle and the block), never too few: it is counted up
//! before the block is written, and down after. [`crate::Ipam::recover`] mends what counts too many.

use api::{IpamHandle, Key, Row};
use datastore::Revision;
use ipnet::IpNet;

use crate::rows::{Rows, Write, retry};
use crate::{Family, IpamError};

/// The counting of one operation for one handle; remembers the row that it wrote last, so that an undisturbed operation
/// writes without reading.
pub(crate) struct Counter<'a> {
    rows: &'a Rows,
    id: String,
    known: Known,
}

enum Known {
    /// Not read yet; most handles are new.
    Nothing,
    Absent,
    Row(IpamHandle, Revision),
}

impl<'a> Counter<'a> {
    /// Nothing is read before it is needed.
    pub(crate) fn new(rows: &'a Rows, id: &str) -> Self {
        Self { rows, id: id.to_owned(), known: Known::Nothing }
    }

    /// One that goes on from a row that has been read.
    pub(crate) fn from_row(rows: &'a Rows, handle: IpamHandle, revision: Revision) -> Self {
        Self { rows, id: handle.id.clone(), known: Known::Row(handle, revision) }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// How many addresses of a family it counts.
    pub(crate) fn counted(&mut self, family: Family) -> Result<usize, IpamError> {
        if matches!(self.known, Known::Nothing) {
            self.read()?;
        }
        Ok(match &self.known {
            Known::Row(handle, _) => count(handle, family),
            Known::Nothing | Known::Absent => 0,
        })
    }

    /// In which blocks of a family it counts addresses.
    pub(crate) fn blocks(&mut self, family: Family) -> Result<Vec<IpNet>, IpamError> {
        self.counted(family)?;
        let Known::Row(handle, _) = &self.known else { return Ok(Vec::new()) };
        Ok(handle.blocks.keys().copied().filter(|block| Family::of(block) == family).collect())
    }

    /// Counts `number` more in a block, unless the family's count would exceed `limit`.
    pub(crate) fn add(&mut self, block: IpNet, number: usize, limit: Option<usize>) -> Result<(), IpamError> {
        self.change(|handle| {
            let family = Family::of(&block);
            let counted = count(handle, family);
            match limit {
                Some(limit) if counted + number > limit => {
                    Err(IpamError::HandleLimit { handle: handle.id.clone(), family, counted, limit })
                }
                _ => {
                    *handle.blocks.entry(block).or_default() += number;
                    Ok(())
                }
            }
        })
    }

    /// Counts `number` fewer in a block; the row goes with its last count.
    pub(crate) fn subtract(&mut self, block: IpNet, number: usize) -> Result<(), IpamError> {
        self.change(|handle| {
            let left = handle.blocks.get(&block).copied().unwrap_or_default().saturating_sub(number);
            match left {
                0 => drop(handle.blocks.remove(&block)),
                left => drop(handle.blocks.insert(block, left)),
            }
            Ok(())
        })
    }

    fn change(&mut self, change: impl Fn(&mut IpamHandle) -> Result<(), IpamError>) -> Result<(), IpamError> {
        let id = self.id.clone();
        retry(
            || Key::Handle(id),
            || {
                let (mut handle, expected) = match &self.known {
                    Known::Nothing | Known::Absent => (IpamHandle::new(self.id.clone()), None),
                    Known::Row(handle, revision) => (handle.clone(), Some(revision.clone())),
                };
                change(&mut handle)?;
                match self.store(handle, expected.as_ref())? {
                    true => Ok(Some(())),
                    false => self.read().map(|()| None),
                }
            },
        )
    }

    /// Writes, or deletes what counts nothing; `false` if someone else was faster.
    fn store(&mut self, handle: IpamHandle, expected: Option<&Revision>) -> Result<bool, IpamError> {
        if handle.blocks.is_empty() {
            let Some(expected) = expected else {
                // Nothing is known to be there, and nothing has to be: but look, unless we just did.
                return Ok(matches!(self.known, Known::Absent));
            };
            let deleted = self.rows.delete(&Key::Handle(self.id.clone()), expected)?;
            self.known = Known::Absent;
            return Ok(deleted != Write::Lost);
        }
        match self.rows.write(&Row::Handle(handle.clone()), expected)? {
            Write::Done(revision) => {
                self.known = Known::Row(handle, revision);
                Ok(true)
            }
            Write::Lost => Ok(false),
        }
    }

    fn read(&mut self) -> Result<(), IpamError> {
        self.known = match self.rows.handle(&self.id)? {
            Some((handle, revision)) => Known::Row(handle, revision),
            None => Known::Absent,
        };
        Ok(())
    }
}

fn count(handle: &IpamHandle, family: Family) -> usize {
    handle.blocks.iter().filter(|(block, _)| Family::of(block) == family).map(|(_, count)| count).sum()
}

/// Handles are compared in lower case, as their rows are named so in Kubernetes.
pub(crate) fn canonical(handle: &str) -> String {
    handle.to_lowercase()
}
