//! Which address of this host is the node's: `IP_AUTODETECTION_METHOD` (control-plane.md 4.3).
//!
//! A pure choice over the host's interfaces, which says why it passed over each one that it did not take, because
//! "which address did it pick, and why not the other" is the first question of whoever reads a start-up log.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use regex::Regex;

/// Interfaces that first-found and skip-interface never take: other software's devices, and our own.
const EXCLUDED: &str = "^(docker.*|cbr.*|dummy.*|podman.*|virbr.*|lxcbr.*|veth.*|lo|br-.*|cali.*|tunl.*|flannel.*|\
                        kube-ipvs.*|cni.*|vxlan\\.calico|vxlan-v6\\.calico|wireguard\\.cali|wg-v6\\.cali|nodelocaldns.*)$";

/// How to find the node's address.
#[derive(Debug, Clone)]
pub enum Method {
    /// The first usable address on the first interface that is not excluded.
    FirstFound,
    /// The source address that the kernel would use toward this destination (an address or a host name).
    CanReach(String),
    /// The first usable address on the interfaces that match the first of these that matches any.
    Interface(Vec<Regex>),
    /// As first-found, passing over these too.
    SkipInterface(Vec<Regex>),
    /// The first usable address inside one of these networks.
    Cidr(Vec<IpNet>),
    /// The `InternalIP` of the Kubernetes node.
    KubernetesInternalIp,
}

/// Why a method cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{text:?} is not a detection method: {reason}; use first-found, can-reach=DESTINATION, interface=REGEX[,REGEX], \
         skip-interface=REGEX[,REGEX], cidr=CIDR[,CIDR] or kubernetes-internal-ip"
)]
pub struct MethodError {
    text: String,
    reason: String,
}

impl FromStr for Method {
    type Err = MethodError;

    fn from_str(text: &str) -> Result<Self, MethodError> {
        let (name, argument) = text.split_once('=').unwrap_or((text, ""));
        let refuse = |reason: String| MethodError { text: text.to_owned(), reason };
        let items = || argument.split(',').map(str::trim).filter(|item| !item.is_empty());
        if argument.is_empty() && matches!(name, "can-reach" | "interface" | "skip-interface" | "cidr") {
            return Err(refuse(format!("{name} needs a value")));
        }
        let regexes = || {
            items()
                .map(|item| Regex::new(item).map_err(|error| refuse(error.to_string())))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(match name {
            "first-found" | "" => Self::FirstFound,
            "can-reach" => Self::CanReach(argument.to_owned()),
            "interface" => Self::Interface(regexes()?),
            "skip-interface" => Self::SkipInterface(regexes()?),
            "cidr" => Self::Cidr(
                items()
                    .map(|item| item.parse().map_err(|_| refuse(format!("{item} is not a CIDR"))))
                    .collect::<Result<_, _>>()?,
            ),
            "kubernetes-internal-ip" => Self::KubernetesInternalIp,
            _ => return Err(refuse("unknown name".to_owned())),
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: &[String]| items.join(",");
        let texts = |regexes: &[Regex]| list(&regexes.iter().map(Regex::to_string).collect::<Vec<_>>());
        match self {
            Self::FirstFound => f.write_str("first-found"),
            Self::CanReach(destination) => write!(f, "can-reach={destination}"),
            Self::Interface(regexes) => write!(f, "interface={}", texts(regexes)),
            Self::SkipInterface(regexes) => write!(f, "skip-interface={}", texts(regexes)),
            Self::Cidr(nets) => {
                write!(f, "cidr={}", list(&nets.iter().map(IpNet::to_string).collect::<Vec<_>>()))
            }
            Self::KubernetesInternalIp => f.write_str("kubernetes-internal-ip"),
        }
    }
}

/// An interface of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// Its addresses with the length of their subnets, in the kernel's order.
    pub addresses: Vec<IpNet>,
}

/// Which family is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Whether an address is of this family.
    pub fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

/// What a detection came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    /// The address, with its subnet, and the interface that has it.
    pub chosen: Option<(IpNet, String)>,
    /// What was passed over before (or instead), and why, in the order in which it was looked at.
    pub rejected: Vec<Rejected>,
}

/// A candidate that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Interface, or interface and address.
    pub candidate: String,
    /// Why not.
    pub reason: String,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.candidate, self.reason)
    }
}

/// Chooses an address. `source_toward` answers which source address the kernel takes toward a destination; `internal_ips`
/// are the Kubernetes node's.
pub fn detect(
    method: &Method,
    family: Family,
    interfaces: &[Interface],
    source_toward: impl FnOnce(&str) -> Result<IpAddr, String>,
    internal_ips: &[IpAddr],
) -> Detection {
    let mut search = Search { family, interfaces, rejected: Vec::new() };
    let chosen = match method {
        Method::FirstFound => search.first(excluded, |_| Ok(())),
        Method::SkipInterface(skip) => {
            let skipped = |name: &str| {
                let regex = skip.iter().find(|regex| regex.is_match(name));
                excluded(name).or(regex.map(|regex| format!("matches {regex}, which is to be skipped")))
            };
            search.first(skipped, |_| Ok(()))
        }
        Method::Interface(wanted) => search.on_interfaces(wanted),
        Method::Cidr(nets) => search.first(
            |_| None,
            |address| match nets.iter().any(|net| net.contains(&address.addr())) {
                true => Ok(()),
                false => Err("in none of the networks asked for".to_owned()),
            },
        ),
        Method::CanReach(destination) => match source_toward(destination) {
            Ok(source) => search.holder_of(&[source], &format!("toward {destination}")),
            Err(reason) => search.reject(destination, &reason),
        },
        Method::KubernetesInternalIp => search.holder_of(internal_ips, "as InternalIP"),
    };
    Detection { chosen, rejected: search.rejected }
}

fn excluded(name: &str) -> Option<String> {
    static EXCLUSION: std::sync::LazyLock<Regex> =
        std::sync::LazyLock::new(|| Regex::new(EXCLUDED).expect("a literal that the tests compile"));
    EXCLUSION.is_match(name).then(|| "an interface of other software, or our own".to_owned())
}

struct Search<'a> {
    family: Family,
    interfaces: &'a [Interface],
    rejected: Vec<Rejected>,
}

impl Search<'_> {
    fn reject<T>(&mut self, candidate: impl fmt::Display, reason: &str) -> Option<T> {
        self.rejected.push(Rejected { candidate: candidate.to_string(), reason: reason.to_owned() });
        None
    }

    /// The first usable address that passes both tests.
    fn first(
        &mut self,
        skip: impl Fn(&str) -> Option<String>,
        accept: impl Fn(&IpNet) -> Result<(), String>,
    ) -> Option<(IpNet, String)> {
        for interface in self.interfaces {
            if let Some(reason) = skip(&interface.name) {
                self.reject::<()>(&interface.name, &reason);
            } else if !interface.up {
                self.reject::<()>(&interface.name, "down");
            } else if let Some(address) = self.usable_on(interface, &accept) {
                return Some((address, interface.name.clone()));
            }
        }
        None
    }

    fn usable_on(
        &mut self,
        interface: &Interface,
        accept: impl Fn(&IpNet) -> Result<(), String>,
    ) -> Option<IpNet> {
        let candidates: Vec<_> =
            interface.addresses.iter().filter(|address| self.family.has(address.addr())).collect();
        if candidates.is_empty() {
            return self.reject(&interface.name, "has no address of this family");
        }
        candidates.into_iter().copied().find(|address| {
            let verdict = usable(address.addr()).and_then(|()| accept(address));
            match verdict {
                Ok(()) => true,
                Err(reason) => {
                    self.reject::<()>(format!("{} {address}", interface.name), &reason);
                    false
                }
            }
        })
    }

    fn on_interfaces(&mut self, wanted: &[Regex]) -> Option<(IpNet, String)> {
        for regex in wanted {
            let skip = |name: &str| (!regex.is_match(name)).then(|| format!("does not match {regex}"));
            if let Some(found) = self.first(skip, |_| Ok(())) {
                return Some(found);
            }
        }
        None
    }

    /// The interface that has one of these addresses.
    fn holder_of(&mut self, wanted: &[IpAddr], role: &str) -> Option<(IpNet, String)> {
        let wanted: Vec<_> = wanted.iter().filter(|address| self.family.has(**address)).collect();
        if wanted.is_empty() {
            return self.reject(role, "there is no address of this family");
        }
        for address in wanted {
            for interface in self.interfaces {
                if let Some(found) = interface.addresses.iter().find(|net| net.addr() == *address) {
                    return Some((*found, interface.name.clone()));
                }
            }
            self.reject::<()>(address, &format!("used {role}, but on no interface of this host"));
        }
        None
    }
}

/// Whether other hosts could use the address: global unicast, in Go's sense, which Calico takes.
fn usable(address: IpAddr) -> Result<(), String> {
    let reason = if address.is_loopback() {
        "a loopback address"
    } else if address.is_unspecified() || address.is_multicast() {
        "not a unicast address"
    } else if is_link_local(address) {
        "a link-local address"
    } else {
        return Ok(());
    };
    Err(reason.to_owned())
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, addresses: &[&str]) -> Interface {
        Interface {
            name: name.to_owned(),
            up: true,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn host() -> Vec<Interface> {
        vec![
            interface("lo", &["127.0.0.1/8", "::1/128"]),
            interface("docker0", &["172.17.0.1/16"]),
            Interface { up: false, ..interface("ens1", &["10.9.0.1/24"]) },
            interface("ens2", &["169.254.3.4/16"]),
            interface("eth0", &["10.0.0.1/24", "fe80::1/64", "2001:db8::1/64"]),
            interface("eth1", &["192.0.2.7/24"]),
        ]
    }

    fn run(method: &str, family: Family) -> Detection {
        let method = method.parse().unwrap();
        let toward = |_: &str| Ok("192.0.2.7".parse().unwrap());
        detect(&method, family, &host(), toward, &["10.0.0.1".parse().unwrap()])
    }

    fn chosen(method: &str, family: Family) -> String {
        run(method, family).chosen.map_or("none".into(), |(net, name)| format!("{net} on {name}"))
    }

    #[test]
    fn first_found_takes_the_first_usable_and_says_what_it_passed_over() {
        let detection = run("first-found", Family::V4);
        assert_eq!(detection.chosen.unwrap().0.to_string(), "10.0.0.1/24");
        let rejected: Vec<_> = detection.rejected.iter().map(Rejected::to_string).collect();
        assert_eq!(
            rejected,
            [
                "lo: an interface of other software, or our own",
                "docker0: an interface of other software, or our own",
                "ens1: down",
                "ens2 169.254.3.4/16: a link-local address",
            ]
        );
    }

    #[test]
    fn each_method_finds_its_address() {
        for (method, family, expected) in [
            ("first-found", Family::V6, "2001:db8::1/64 on eth0"),
            ("interface=eth1", Family::V4, "192.0.2.7/24 on eth1"),
            ("interface=wlan.*,eth1,eth0", Family::V4, "192.0.2.7/24 on eth1"),
            ("interface=docker0", Family::V4, "172.17.0.1/16 on docker0"),
            ("skip-interface=eth0", Family::V4, "192.0.2.7/24 on eth1"),
            ("cidr=192.0.2.0/24", Family::V4, "192.0.2.7/24 on eth1"),
            ("cidr=198.51.100.0/24", Family::V4, "none"),
            ("can-reach=192.0.2.1", Family::V4, "192.0.2.7/24 on eth1"),
            ("kubernetes-internal-ip", Family::V4, "10.0.0.1/24 on eth0"),
            ("kubernetes-internal-ip", Family::V6, "none"),
        ] {
            assert_eq!(chosen(method, family), expected, "{method}");
        }
    }

    #[test]
    fn an_address_that_no_interface_has_is_refused_with_its_reason() {
        let toward = |_: &str| Ok("203.0.113.9".parse().unwrap());
        let method = Method::CanReach("example.net".to_owned());
        let detection = detect(&method, Family::V4, &host(), toward, &[]);
        assert_eq!(detection.chosen, None);
        assert_eq!(
            detection.rejected[0].to_string(),
            "203.0.113.9: used toward example.net, but on no interface of this host"
        );
    }

    #[test]
    fn methods_print_as_they_are_written_and_bad_ones_say_what_is_wrong() {
        for text in ["first-found", "can-reach=8.8.8.8", "interface=eth.*,ens", "cidr=10.0.0.0/8,fd00::/8"] {
            assert_eq!(text.parse::<Method>().unwrap().to_string(), text);
        }
        for (text, reason) in [
            ("interface=", "needs a value"),
            ("interface=(", "unclosed group"),
            ("cidr=10.0.0.0", "10.0.0.0 is not a CIDR"),
            ("magic", "unknown name"),
        ] {
            let error = text.parse::<Method>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("can-reach=DESTINATION"), "{error}");
        }
    }
}
