//! A link's own settings as messages about the link carry them: all at once.
//!
//! `/proc/sys` has a file for each, and finds it by comparing the files of that name of every network namespace that there
//! is: with hundreds of workloads, opening one takes longer than anything else that is done with it.

use crate::netlink::{Attribute, Message, attributes};
use crate::sysctl::{Family, Sysctl};

const IFLA_AF_SPEC: u16 = 26;
const AF_INET: u16 = libc::AF_INET as u16;
const AF_INET6: u16 = libc::AF_INET6 as u16;
const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_CONF: u16 = 2;

/// A setting of IPv4 that can be made with a link (`IPV4_DEVCONF_*`, linux/ip.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv4Setting {
    /// `forwarding`
    Forwarding = 1,
    /// `proxy_arp`
    ProxyArp = 3,
    /// `rp_filter`
    RpFilter = 8,
    /// `route_localnet`
    RouteLocalnet = 26,
}

impl Ipv4Setting {
    /// The one that has this name in `/proc/sys/net/ipv4/conf/LINK`.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "forwarding" => Self::Forwarding,
            "proxy_arp" => Self::ProxyArp,
            "rp_filter" => Self::RpFilter,
            "route_localnet" => Self::RouteLocalnet,
            _ => return None,
        })
    }

    /// The one that a setting of `/proc/sys` is, of whatever link.
    pub fn of(setting: &Sysctl) -> Option<Self> {
        match setting.of_link()? {
            (Family::V4, name) => Self::named(name),
            (Family::V6, _) => None,
        }
    }
}

/// The place in `IFLA_INET6_CONF` (`DEVCONF_*`, linux/ipv6.h) of a setting of `/proc/sys/net/ipv6/conf/LINK`.
fn ipv6_place(name: &str) -> Option<usize> {
    Some(match name {
        "forwarding" => 0,
        "accept_ra" => 3,
        "proxy_ndp" => 22,
        "accept_dad" => 27,
        _ => return None,
    })
}

/// Appends settings of IPv4 to a request that changes a link.
pub(super) fn append_ipv4(request: &mut Message, settings: &[(Ipv4Setting, u32)]) {
    request.nested(IFLA_AF_SPEC, |families| {
        families.nested(AF_INET, |family| {
            family.nested(IFLA_INET_CONF, |values| {
                for (setting, value) in settings {
                    values.attribute(*setting as u16, &value.to_ne_bytes());
                }
            });
        });
    });
}

/// What a link's settings are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// By `IPV4_DEVCONF_*` less one.
    ipv4: Vec<i32>,
    /// By `DEVCONF_*`.
    ipv6: Vec<i32>,
}

impl LinkSettings {
    /// Reads the body of an `RTM_NEWLINK`.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let mut settings = Self::default();
        let families = attributes(payload.get(16..)?).find(|attribute| attribute.kind == IFLA_AF_SPEC)?;
        for family in families.nested() {
            match family.kind {
                AF_INET => settings.ipv4 = values(&family, IFLA_INET_CONF),
                AF_INET6 => settings.ipv6 = values(&family, IFLA_INET6_CONF),
                _ => {}
            }
        }
        Some(settings)
    }

    /// The value of a setting of `/proc/sys`, as it would be read there; none if links do not carry it, or not this one.
    pub fn value(&self, setting: &Sysctl) -> Option<String> {
        let value = match setting.of_link()? {
            (Family::V4, name) => self.ipv4.get(Ipv4Setting::named(name)? as usize - 1),
            (Family::V6, name) => self.ipv6.get(ipv6_place(name)?),
        };
        value.map(i32::to_string)
    }
}

fn values(family: &Attribute<'_>, kind: u16) -> Vec<i32> {
    let values = family.nested().find(|attribute| attribute.kind == kind);
    let words = values.map_or(&[][..], |attribute| attribute.value).chunks_exact(4);
    words.map(|word| i32::from_ne_bytes(word.try_into().expect("four bytes"))).collect()
}
