//! Where a page of an answer begins.

use std::fmt;
use std::str::FromStr;

use crate::rib::Slot;
use crate::types::Family;

/// A place in both families' tables, IPv4 first. Its text is for handing it back, not for reading.
///
/// Tables have their prefixes in places, in the order in which they came; a prefix keeps its place as long as it has
/// routes. So what is there from the first page to the last is seen once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The family that is being gone through.
    pub(super) family: Family,
    /// The first place to look at.
    pub(super) slot: Slot,
    /// So many routes of that place are done.
    pub(super) skip: usize,
}

/// A text that is no cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no place in a table: hand back what the page before gave")]
pub struct CursorError(pub(super) String);

impl Cursor {
    /// The beginning of everything.
    pub const START: Self = Self::start_of(Family::Ipv4Unicast);

    /// The beginning of a family.
    pub const fn start_of(family: Family) -> Self {
        Self { family, slot: Slot::FIRST, skip: 0 }
    }

    pub(super) fn at(family: Family, slot: Slot, skip: usize) -> Self {
        Self { family, slot, skip }
    }

    /// The place in a family's table: where it begins, if the family is yet to come.
    pub(super) fn slot_in(&self, family: Family) -> Slot {
        if self.family == family { self.slot } else { Slot::FIRST }
    }

    /// How many routes of a place are done.
    pub(super) fn done_at(&self, family: Family, slot: Slot) -> usize {
        if (self.family, self.slot) == (family, slot) { self.skip } else { 0 }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.family == Family::Ipv4Unicast { 4 } else { 6 };
        write!(f, "{family}.{}.{}", self.slot.number(), self.skip)
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || CursorError(text.to_owned());
        let parts: Vec<&str> = text.split('.').collect();
        let [family, slot, skip] = parts[..] else { return Err(error()) };
        let family = match family {
            "4" => Family::Ipv4Unicast,
            "6" => Family::Ipv6Unicast,
            _ => return Err(error()),
        };
        let slot: u32 = slot.parse().map_err(|_| error())?;
        Ok(Self { family, slot: slot.into(), skip: skip.parse().map_err(|_| error())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_its_text() {
        let family = Family::Ipv6Unicast;
        for cursor in [Cursor::START, Cursor::start_of(family), Cursor::at(family, 17.into(), 3)] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", "5.0.0", "4.0", "4.x.0", "4.0.x", "4.-1.0", "4.0.0.0"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
