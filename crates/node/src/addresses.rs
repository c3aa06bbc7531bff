//! The node's addresses: what the configuration wants, found on this host.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use kernel::Rtnetlink;

use crate::autodetect::{self, Detection, Family, Interface, Method};
use crate::config::{AddressSource, NodeConfig};
use crate::startup::Addresses;

/// The host's interfaces, in the kernel's order, with their addresses.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn interfaces(rtnetlink: &mut Rtnetlink) -> Result<Vec<Interface>> {
    let addresses = rtnetlink.addresses()?;
    let of = |index: u32| {
        addresses.iter().filter(move |address| address.index == index).map(|found| found.address)
    };
    let links = rtnetlink.links()?;
    let interface = |link: &kernel::link::Link| Interface {
        name: link.name.to_string(),
        up: link.up,
        addresses: of(link.index).collect(),
    };
    Ok(links.iter().map(interface).collect())
}

/// Finds both addresses, and logs what was chosen and what was passed over, each with its reason.
///
/// # Errors
/// An address that is wanted cannot be had; the message lists every candidate and why it was not taken.
pub(crate) fn find(config: &NodeConfig, interfaces: &[Interface], stored: Addresses) -> Result<Addresses> {
    let found = Addresses {
        ipv4: find_one(&config.ipv4, Family::V4, interfaces, stored.ipv4).context("IPv4 address (IP)")?,
        ipv6: find_one(&config.ipv6, Family::V6, interfaces, stored.ipv6).context("IPv6 address (IP6)")?,
    };
    if found == Addresses::default() && config.bgp {
        bail!(
            "the node has no address: IP and IP6 are both none; set one of them, or CALICO_NETWORKING_BACKEND=none"
        );
    }
    Ok(found)
}

fn find_one(
    source: &AddressSource,
    family: Family,
    interfaces: &[Interface],
    stored: Option<IpNet>,
) -> Result<Option<IpNet>> {
    match source {
        AddressSource::Disabled => Ok(None),
        AddressSource::Literal(address, length) => literal(*address, *length, interfaces).map(Some),
        AddressSource::KeepOrDetect(_) if stored.is_some() => Ok(stored),
        AddressSource::Detect(method) | AddressSource::KeepOrDetect(method) => {
            detect(method, family, interfaces).map(Some)
        }
    }
}

/// The length of the subnet comes from the interface that has the address, unless it was given.
fn literal(address: IpAddr, length: Option<u8>, interfaces: &[Interface]) -> Result<IpNet> {
    let held = interfaces.iter().flat_map(|interface| &interface.addresses).find(|net| net.addr() == address);
    match (length, held) {
        (Some(length), _) => Ok(IpNet::new(address, length)?),
        (None, Some(held)) => Ok(*held),
        (None, None) => {
            tracing::warn!(%address, "no interface of this host has the node's address; its subnet is taken to be the address alone");
            Ok(IpNet::from(address))
        }
    }
}

fn detect(method: &Method, family: Family, interfaces: &[Interface]) -> Result<IpNet> {
    let Detection { chosen, rejected } =
        autodetect::detect(method, family, interfaces, |destination| source_toward(destination, family), &[]);
    for candidate in &rejected {
        tracing::info!(
            candidate = candidate.candidate,
            reason = candidate.reason,
            "address candidate passed over"
        );
    }
    match chosen {
        Some((address, interface)) => {
            tracing::info!(%address, interface, %method, "address detected");
            Ok(address)
        }
        None => {
            let reasons: Vec<_> = rejected.iter().map(ToString::to_string).collect();
            bail!("{method} finds none: {}; set the address itself, or another method", reasons.join("; "))
        }
    }
}

/// The source address that the kernel takes toward a destination: a UDP socket is connected, nothing is sent.
fn source_toward(destination: &str, family: Family) -> Result<IpAddr, String> {
    const ANY_PORT: u16 = 53;
    let addresses = (destination, ANY_PORT).to_socket_addrs().map_err(|error| error.to_string())?;
    let target: SocketAddr = addresses
        .into_iter()
        .find(|address| family.has(address.ip()))
        .ok_or("it has no address of this family")?;
    let local: SocketAddr = match family {
        Family::V4 => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        Family::V6 => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let connected = UdpSocket::bind(local).and_then(|socket| {
        socket.connect(target)?;
        socket.local_addr()
    });
    connected.map(|address| address.ip()).map_err(|error| format!("no route: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Vec<Interface> {
        vec![Interface { name: "eth0".into(), up: true, addresses: vec!["10.0.0.1/24".parse().unwrap()] }]
    }

    fn config(pairs: &[(&str, &str)]) -> NodeConfig {
        let find =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        NodeConfig::read(find, std::iter::empty(), "n").unwrap()
    }

    #[test]
    fn a_literal_takes_its_length_from_the_interface_and_a_stored_address_is_kept() {
        let found = find(&config(&[("IP", "10.0.0.1")]), &hosts(), Addresses::default()).unwrap();
        assert_eq!(found.ipv4.unwrap().to_string(), "10.0.0.1/24");
        let stored = Addresses { ipv4: Some("10.0.0.9/24".parse().unwrap()), ipv6: None };
        assert_eq!(find(&config(&[]), &hosts(), stored).unwrap(), stored);
        let again = find(&config(&[("IP", "autodetect")]), &hosts(), stored).unwrap();
        assert_eq!(again.ipv4.unwrap().to_string(), "10.0.0.1/24");
    }

    #[test]
    fn nothing_found_names_every_candidate() {
        let pairs = [("IP", "autodetect"), ("IP_AUTODETECTION_METHOD", "interface=wlan.*")];
        let error = format!("{:#}", find(&config(&pairs), &hosts(), Addresses::default()).unwrap_err());
        assert!(error.contains("interface=wlan.* finds none: eth0: does not match wlan.*"), "{error}");
        let error = find(&config(&[("IP", "none")]), &hosts(), Addresses::default()).unwrap_err().to_string();
        assert!(error.contains("IP and IP6 are both none"), "{error}");
    }

    #[test]
    fn loopback_is_reached_from_loopback() {
        assert_eq!(source_toward("127.0.0.1", Family::V4).unwrap().to_string(), "127.0.0.1");
        assert!(source_toward("127.0.0.1", Family::V6).is_err());
    }
}
