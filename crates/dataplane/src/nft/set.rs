//! IP sets as the kernel's sets.

use calc::contract::IpVersion;
use kernel::nft::{DataType, Part, SetKind};

use crate::ip_sets::{Member, Shape};

/// The kind of set for a shape.
pub fn spec(shape: Shape, version: IpVersion) -> SetKind {
    let address = match version {
        IpVersion::V4 => DataType::Ipv4Addr,
        IpVersion::V6 => DataType::Ipv6Addr,
    };
    let with_port = [address, DataType::InetProto, DataType::InetService];
    match shape {
        Shape::Addresses => SetKind::hash([address]),
        Shape::Networks => SetKind::intervals([address]),
        Shape::Ports => SetKind::hash(with_port),
        Shape::NetworkPorts => SetKind::intervals(with_port),
    }
}

/// The kernel's members.
pub fn members<'a>(members: impl IntoIterator<Item = &'a Member>) -> Vec<kernel::nft::Member> {
    members.into_iter().map(member).collect()
}

fn member(member: &Member) -> kernel::nft::Member {
    let address = Part::from(member.net);
    match member.port {
        None => kernel::nft::Member(vec![address]),
        Some((protocol, port)) => kernel::nft::Member(vec![address, Part::from(protocol), Part::from(port)]),
    }
}
