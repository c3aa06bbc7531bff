//! Attributes of a route in a table: as in an UPDATE, but the next hops alone are left of MP_REACH_NLRI (RFC 6396, section
//! 4.3.4).

use std::net::{IpAddr, Ipv6Addr};

use crate::iana::{attribute as code, flag};
use crate::observe::DecodeError;
use crate::observe::reader::{Reader, put_address};
use crate::packet::attribute::{Attribute, encode_raw};
use crate::rib::{AttributeSet, RawAttributes, read_octets};
use crate::types::Family;

/// The attributes of a route of a family.
pub fn write_attributes(set: &AttributeSet, family: Family) -> Vec<u8> {
    let raw = RawAttributes::new(set.octets());
    let mut out = Vec::with_capacity(set.octets().len() + 40);
    raw.encode_part(true, &mut out);
    match (family, set.next_hop) {
        (Family::Ipv4Unicast, IpAddr::V4(next_hop)) => {
            encode_raw(flag::TRANSITIVE, code::NEXT_HOP, &next_hop.octets(), &mut out);
            raw.encode_part(false, &mut out);
        }
        (_, next_hop) => {
            let mut next_hops = Vec::with_capacity(33);
            put_address(as_ipv6(next_hop), &mut next_hops);
            set.link_local.into_iter().for_each(|address| put_address(address.into(), &mut next_hops));
            let length = u8::try_from(next_hops.len()).expect("at most two addresses");
            next_hops.insert(0, length);
            raw.encode_part(false, &mut out);
            encode_raw(flag::OPTIONAL, code::MP_REACH_NLRI, &next_hops, &mut out);
        }
    }
    out
}

/// A route of our own, or one with an IPv4 next hop (mapped, as other dumps have it).
fn as_ipv6(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv6Addr::UNSPECIFIED.into(),
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        IpAddr::V6(_) => address,
    }
}

/// Attributes as [`write_attributes`] writes them: next hops apart, then the others in their order.
///
/// # Errors
/// They are none that we would write.
pub fn read_attributes(octets: &[u8]) -> Result<(Vec<IpAddr>, Vec<Attribute>), DecodeError> {
    let (mut reader, mut next_hops, mut others) = (Reader::new(octets, 0), Vec::new(), Vec::new());
    while !reader.is_empty() {
        let at = reader.clone();
        let (flags, code) = (reader.u8("Attribute Flags")?, reader.u8("Attribute Type")?);
        let length = match flags & flag::EXTENDED_LENGTH {
            0 => reader.u8("Attribute Length")?.into(),
            _ => reader.u16("Attribute Length")?,
        };
        let mut value = reader.part(length.into(), "Attribute Value")?;
        match code {
            code::NEXT_HOP => next_hops.push(value.ipv4("NEXT_HOP")?.into()),
            code::MP_REACH_NLRI => {
                let count = usize::from(value.u8("Next Hop Length")?) / 16;
                for _ in 0..count {
                    next_hops.push(value.address(true, "Next Hop")?);
                }
            }
            _ => encode_raw(flags, code, value.remaining(), &mut others),
        }
        value.end("Attribute Value").map_err(|_| at.fault("Attribute", "it is longer than it should be"))?;
    }
    let fault = |reason: String| Reader::new(octets, 0).fault("BGP Attributes", reason);
    Ok((next_hops, read_octets(&others).map_err(fault)?))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::config::Origination;

    #[test]
    fn a_route_of_our_own_has_no_next_hop_of_its_family() {
        let set = AttributeSet::originated(&Origination::default());
        let (hops, attributes) = read_attributes(&write_attributes(&set, Family::Ipv4Unicast)).unwrap();
        assert_eq!((hops, attributes), (vec![Ipv4Addr::UNSPECIFIED.into()], set.decode()));
        let (hops, _) = read_attributes(&write_attributes(&set, Family::Ipv6Unicast)).unwrap();
        assert_eq!(hops, [IpAddr::from(Ipv6Addr::UNSPECIFIED)]);
    }
}
