//! How values are written: numbers in network order, lists and octets with their length in front. Reading is total.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{HandoverError, VERSION};

/// What is left to read.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn octets(&mut self, count: usize) -> Result<&'a [u8], HandoverError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(HandoverError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HandoverError> {
        let taken = self.octets(N)?;
        Ok(taken.try_into().expect("just as many"))
    }
}

/// A value that can be written and read again.
pub(crate) trait Wire: Sized {
    /// Appends it.
    fn put(&self, out: &mut Vec<u8>);

    /// Takes it off.
    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError>;
}

/// A value as octets, the version first.
pub(crate) fn encode<T: Wire>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    VERSION.put(&mut out);
    value.put(&mut out);
    out
}

/// A value from octets.
pub(crate) fn decode<T: Wire>(octets: &[u8]) -> Result<T, HandoverError> {
    let mut reader = Reader { rest: octets };
    match u16::take(&mut reader)? {
        VERSION => {}
        other => return Err(HandoverError::Version(other)),
    }
    let value = T::take(&mut reader)?;
    if reader.rest.is_empty() { Ok(value) } else { Err(HandoverError::TooLong) }
}

/// A structure: its fields, one after another, each of which has to be named.
macro_rules! fields {
    ($type:ty { $($field:ident),+ $(,)? }) => {
        impl $crate::handover::wire::Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                let Self { $($field),+ } = self;
                $($crate::handover::wire::Wire::put($field, out);)+
            }

            fn take(
                from: &mut $crate::handover::wire::Reader<'_>,
            ) -> Result<Self, $crate::handover::HandoverError> {
                $(let $field = $crate::handover::wire::Wire::take(from)?;)+
                Ok(Self { $($field),+ })
            }
        }
    };
}

/// A type that is another one with a name.
macro_rules! newtype {
    ($type:ident) => {
        impl $crate::handover::wire::Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                $crate::handover::wire::Wire::put(&self.0, out);
            }

            fn take(
                from: &mut $crate::handover::wire::Reader<'_>,
            ) -> Result<Self, $crate::handover::HandoverError> {
                $crate::handover::wire::Wire::take(from).map(Self)
            }
        }
    };
}

/// One of several values without contents.
macro_rules! choices {
    ($type:ident { $($variant:ident = $code:literal),+ $(,)? }) => {
        impl $crate::handover::wire::Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(match self { $(Self::$variant => $code),+ });
            }

            fn take(
                from: &mut $crate::handover::wire::Reader<'_>,
            ) -> Result<Self, $crate::handover::HandoverError> {
                match u8::take(from)? {
                    $($code => Ok(Self::$variant),)+
                    _ => Err($crate::handover::HandoverError::Invalid(stringify!($type))),
                }
            }
        }
    };
}

pub(crate) use {choices, fields, newtype};

macro_rules! numbers {
    ($($type:ty),+) => {
        $(impl Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
                Ok(Self::from_be_bytes(from.array()?))
            }
        })+
    };
}

numbers!(u8, u16, u32, u64);

impl Wire for usize {
    fn put(&self, out: &mut Vec<u8>) {
        (*self as u64).put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        Self::try_from(u64::take(from)?).map_err(|_| HandoverError::Invalid("number"))
    }
}

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        match u8::take(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(HandoverError::Invalid("flag")),
        }
    }
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_octets(self.as_bytes(), out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        Self::from_utf8(take_octets(from)?.to_vec()).map_err(|_| HandoverError::Invalid("text"))
    }
}

impl Wire for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_secs().put(out);
        self.subsec_nanos().put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        let (secs, nanos) = (u64::take(from)?, u32::take(from)?);
        if nanos >= 1_000_000_000 || secs > u64::from(u32::MAX) {
            return Err(HandoverError::Invalid("duration"));
        }
        Ok(Self::new(secs, nanos))
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        self.iter().for_each(|value| value.put(out));
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        bool::take(from)?.then(|| T::take(from)).transpose()
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        length(self.len()).put(out);
        self.iter().for_each(|value| value.put(out));
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        let count = u32::take(from)? as usize;
        // Whatever the number says, there is no more in it than there are octets.
        let mut list = Self::with_capacity(count.min(from.rest.len()));
        for _ in 0..count {
            list.push(T::take(from)?);
        }
        Ok(list)
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        Ok((A::take(from)?, B::take(from)?))
    }
}

/// Octets, which are written as they are and not one by one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Octets(
    /// Them.
    pub Vec<u8>,
);

impl Wire for Octets {
    fn put(&self, out: &mut Vec<u8>) {
        put_octets(&self.0, out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        Ok(Self(take_octets(from)?.to_vec()))
    }
}

pub(super) fn put_octets(octets: &[u8], out: &mut Vec<u8>) {
    length(octets.len()).put(out);
    out.extend_from_slice(octets);
}

fn take_octets<'a>(from: &mut Reader<'a>) -> Result<&'a [u8], HandoverError> {
    let count = u32::take(from)? as usize;
    from.octets(count)
}

fn length(count: usize) -> u32 {
    u32::try_from(count).expect("fewer than 2^32 things fit into a hand-over")
}

impl Wire for Ipv4Addr {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.octets());
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        Ok(Self::from(from.array::<4>()?))
    }
}

impl Wire for Ipv6Addr {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.octets());
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        Ok(Self::from(from.array::<16>()?))
    }
}

impl Wire for IpAddr {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_ipv6().put(out);
        match self {
            Self::V4(address) => address.put(out),
            Self::V6(address) => address.put(out),
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        Ok(match bool::take(from)? {
            false => Self::V4(Ipv4Addr::take(from)?),
            true => Self::V6(Ipv6Addr::take(from)?),
        })
    }
}

impl Wire for SocketAddr {
    fn put(&self, out: &mut Vec<u8>) {
        self.ip().put(out);
        self.port().put(out);
        // A link-local address says nothing without its link.
        let scope = match self {
            Self::V4(_) => 0,
            Self::V6(v6) => v6.scope_id(),
        };
        scope.put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        let mut address = Self::new(IpAddr::take(from)?, u16::take(from)?);
        let scope = u32::take(from)?;
        if let Self::V6(v6) = &mut address {
            v6.set_scope_id(scope);
        }
        Ok(address)
    }
}

impl Wire for IpNet {
    fn put(&self, out: &mut Vec<u8>) {
        self.addr().put(out);
        self.prefix_len().put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        let invalid = |_| HandoverError::Invalid("prefix length");
        Ok(match IpAddr::take(from)? {
            IpAddr::V4(address) => Ipv4Net::new(address, u8::take(from)?).map_err(invalid)?.trunc().into(),
            IpAddr::V6(address) => Ipv6Net::new(address, u8::take(from)?).map_err(invalid)?.trunc().into(),
        })
    }
}
