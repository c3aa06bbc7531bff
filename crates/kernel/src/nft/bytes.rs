//! Short byte strings: register contents and set keys.

use std::fmt;
use std::hash::{Hash, Hasher};

const INLINE: usize = 22;

/// A byte string that is kept in place up to 22 bytes, which every key of ours but the widest concatenation is.
///
/// Ordered and compared as bytes, shorter first among equals.
#[derive(Clone)]
pub struct Bytes(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
}

impl Bytes {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Heap(bytes) => bytes,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number after this one, read as a big-endian integer of fixed width; none after the highest.
    pub fn successor(&self) -> Option<Bytes> {
        let mut next = self.as_slice().to_vec();
        for byte in next.iter_mut().rev() {
            let (value, carry) = byte.overflowing_add(1);
            *byte = value;
            if !carry {
                return Some(Bytes::from(&next[..]));
            }
        }
        None
    }

    /// The number before this one, read as a big-endian integer of fixed width; none before zero.
    pub fn predecessor(&self) -> Option<Bytes> {
        let mut before = self.as_slice().to_vec();
        for byte in before.iter_mut().rev() {
            let (value, borrow) = byte.overflowing_sub(1);
            *byte = value;
            if !borrow {
                return Some(Bytes::from(&before[..]));
            }
        }
        None
    }

    /// The highest number of `len` bytes.
    pub fn highest(len: usize) -> Bytes {
        Bytes::from(&vec![0xff; len][..])
    }
}

impl From<&[u8]> for Bytes {
    fn from(slice: &[u8]) -> Self {
        if slice.len() > INLINE {
            return Bytes(Repr::Heap(slice.into()));
        }
        let mut bytes = [0; INLINE];
        bytes[..slice.len()].copy_from_slice(slice);
        Bytes(Repr::Inline { len: slice.len() as u8, bytes })
    }
}

impl<const N: usize> From<[u8; N]> for Bytes {
    fn from(bytes: [u8; N]) -> Self {
        Bytes::from(&bytes[..])
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Bytes {}

impl PartialOrd for Bytes {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bytes {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl Hash for Bytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.as_slice().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successor_carries_and_stops_at_the_highest() {
        assert_eq!(Bytes::from([0, 255]).successor(), Some(Bytes::from([1, 0])));
        assert_eq!(Bytes::from([255, 255]).successor(), None);
        assert_eq!(Bytes::from([1, 0]).predecessor(), Some(Bytes::from([0, 255])));
        assert_eq!(Bytes::from([0, 0]).predecessor(), None);
    }

    #[test]
    fn long_and_short_strings_compare_as_bytes() {
        let long = Bytes::from(&[1u8; 40][..]);
        assert!(Bytes::from([0, 9]) < long && long < Bytes::from([1, 2]));
        assert_eq!(long.len(), 40);
    }
}
