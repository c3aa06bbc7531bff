//! The node's configuration from its environment: Calico's variables (control-plane.md 4.4), read once, checked whole.
//!
//! Parsing is pure: it asks a look-up for each variable and reports every bad one at once, so that a user mends a
//! manifest in one round. What can change while the node runs is in the datastore, not here.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;

use crate::autodetect::Method;

/// Everything that the environment says.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// `NODENAME`, else `HOSTNAME`, else the host's name; lower case.
    pub node_name: String,
    /// `IP` with `IP_AUTODETECTION_METHOD`.
    pub ipv4: AddressSource,
    /// `IP6` with `IP6_AUTODETECTION_METHOD`.
    pub ipv6: AddressSource,
    /// `AS`: the node's own AS number.
    pub as_number: Option<u32>,
    /// `CALICO_ROUTER_ID`.
    pub router_id: RouterId,
    /// `TORTIE_SECRETS_DIR` (ours): folder of BGP passwords, one folder a Secret, one file a key.
    pub secrets_dir: PathBuf,
    /// `CALICO_ADVERTISE_CLUSTER_IPS`: ranges of cluster IPs to announce where BGPConfiguration has none.
    pub advertised_cluster_ips: Vec<IpNet>,
    /// `CALICO_NETWORKING_BACKEND`: `bird` speaks BGP, `none` leaves routing between hosts to others.
    pub bgp: bool,
    /// Pools to make when there is none, IPv4 and IPv6.
    pub default_pools: DefaultPools,
    /// `CLUSTER_TYPE`: words to merge into ClusterInformation.
    pub cluster_type: Vec<String>,
    /// `CALICO_K8S_NODE_REF`: the Kubernetes node that this one is.
    pub kubernetes_node: Option<String>,
    /// `DISABLE_NODE_IP_CHECK`: do not refuse an address that another node has.
    pub skip_address_check: bool,
    /// `WAIT_FOR_DATASTORE`: wait for the datastore instead of failing when it is not there yet.
    pub wait_for_datastore: bool,
    /// `CALICO_NODENAME_FILE`: where the CNI plugin finds the node's name.
    pub nodename_file: PathBuf,
    /// `TORTIE_RUN_DIR` (ours): folder of the unix socket; `/var/run/calico`.
    pub run_dir: PathBuf,
    /// `FELIX_…` variables by parameter name in lower case, values as written.
    pub felix: std::collections::BTreeMap<String, String>,
}

/// Where an address comes from.
#[derive(Debug, Clone)]
pub enum AddressSource {
    /// Found by this method, at every start.
    Detect(Method),
    /// As stored in the Node, or found by this method when there is none.
    KeepOrDetect(Method),
    /// This one; without a length, the interface that has it tells.
    Literal(IpAddr, Option<u8>),
    /// None.
    Disabled,
}

/// What the BGP identifier is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouterId {
    /// The IPv4 address.
    NodeAddress,
    /// A hash of the node's name.
    HashOfName,
    /// This.
    Literal(Ipv4Addr),
}

/// Pools to make at the first start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultPools {
    /// `NO_DEFAULT_POOLS=true`.
    None,
    /// A pool of each family, where not `None`.
    Create {
        /// `CALICO_IPV4POOL_…`.
        ipv4: Option<PoolDefaults>,
        /// `CALICO_IPV6POOL_…`.
        ipv6: Option<PoolDefaults>,
    },
}

/// A default pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolDefaults {
    /// `…_CIDR`; absent: chosen at start so that it holds no address of the host.
    pub cidr: Option<IpNet>,
    /// `…_IPIP`: `Never`, `Always`, `CrossSubnet`.
    pub ipip: String,
    /// `…_VXLAN`.
    pub vxlan: String,
    /// `…_BLOCK_SIZE`: prefix length of a block.
    pub block_size: u8,
    /// `…_NAT_OUTGOING`.
    pub nat_outgoing: bool,
    /// `…_NODE_SELECTOR`.
    pub node_selector: String,
    /// `…_DISABLE_BGP_EXPORT`.
    pub disable_bgp_export: bool,
}

/// A variable that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{variable}={value:?}: {reason}")]
pub struct ConfigError {
    /// Its name.
    pub variable: String,
    /// Its value.
    pub value: String,
    /// What is wrong, and what may stand there.
    pub reason: String,
}

impl NodeConfig {
    /// Reads the configuration from a look-up of variables and the list of all (name, value) pairs whose name begins
    /// with `FELIX_`; `host_name` is the kernel's.
    ///
    /// # Errors
    /// Every variable that cannot be read.
    pub fn read(
        variable: impl Fn(&str) -> Option<String>,
        felix: impl Iterator<Item = (String, String)>,
        host_name: &str,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut reader = Reader { variable: &variable, errors: Vec::new() };
        let config = Self {
            node_name: reader.node_name(host_name),
            ipv4: reader.address_source("IP", "IP_AUTODETECTION_METHOD", true),
            ipv6: reader.address_source("IP6", "IP6_AUTODETECTION_METHOD", false),
            as_number: reader.as_number(),
            router_id: reader.router_id(),
            secrets_dir: reader
                .text("TORTIE_SECRETS_DIR")
                .unwrap_or_else(|| crate::bgp::PASSWORDS.to_owned())
                .into(),
            advertised_cluster_ips: reader.ranges("CALICO_ADVERTISE_CLUSTER_IPS"),
            bgp: reader.backend(),
            default_pools: reader.default_pools(),
            cluster_type: reader.words("CLUSTER_TYPE"),
            kubernetes_node: reader.text("CALICO_K8S_NODE_REF"),
            skip_address_check: reader.boolean("DISABLE_NODE_IP_CHECK", false),
            wait_for_datastore: reader.boolean("WAIT_FOR_DATASTORE", false),
            nodename_file: reader.path("CALICO_NODENAME_FILE", "/var/lib/calico/nodename"),
            run_dir: reader.path("TORTIE_RUN_DIR", "/var/run/calico"),
            felix: felix
                .filter_map(|(name, value)| {
                    name.strip_prefix("FELIX_").map(|name| (name.to_ascii_lowercase(), value))
                })
                .collect(),
        };
        if reader.errors.is_empty() { Ok(config) } else { Err(reader.errors) }
    }
}

/// Reads variables and collects what is wrong with them.
struct Reader<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    errors: Vec<ConfigError>,
}

impl Reader<'_> {
    /// The variable; empty counts as absent, as in Calico.
    fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn refuse(&mut self, variable: &str, value: impl Into<String>, reason: impl Into<String>) {
        let (value, reason) = (value.into(), reason.into());
        self.errors.push(ConfigError { variable: variable.to_owned(), value, reason });
    }

    fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str, expected: &str) -> Option<T> {
        let value = self.text(name)?;
        match value.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.refuse(name, value, format!("{error}; {expected}"));
                None
            }
        }
    }

    fn boolean(&mut self, name: &str, default: bool) -> bool {
        let Some(value) = self.text(name) else { return default };
        match value.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "y" | "t" | "on" => true,
            "false" | "0" | "no" | "n" | "f" | "off" => false,
            _ => {
                self.refuse(name, value, "use true or false");
                default
            }
        }
    }

    fn path(&self, name: &str, default: &str) -> PathBuf {
        self.text(name).unwrap_or_else(|| default.to_owned()).into()
    }

    fn words(&self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    fn node_name(&mut self, host_name: &str) -> String {
        let (variable, name) = match (self.text("NODENAME"), self.text("HOSTNAME")) {
            (Some(name), _) => ("NODENAME", name),
            (None, Some(name)) => ("HOSTNAME", name),
            (None, None) => ("the host's name", host_name.to_owned()),
        };
        let lower = name.trim().to_ascii_lowercase();
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        if lower.is_empty() || lower.len() > 253 || !lower.bytes().all(legal) {
            self.refuse(variable, name, "a node's name has letters, digits, - and . only; set NODENAME");
        }
        lower
    }

    fn method(&mut self, name: &str) -> Method {
        self.text(name)
            .map(|value| {
                value.parse().unwrap_or_else(|error: crate::autodetect::MethodError| {
                    self.refuse(name, value, error.to_string());
                    Method::FirstFound
                })
            })
            .unwrap_or(Method::FirstFound)
    }

    /// `default_on`: absent means "keep what is stored, else detect"; otherwise absent means none.
    fn address_source(&mut self, name: &str, method_name: &str, default_on: bool) -> AddressSource {
        let method = self.method(method_name);
        let Some(value) = self.text(name) else {
            return if default_on { AddressSource::KeepOrDetect(method) } else { AddressSource::Disabled };
        };
        let (address, length) = match value.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (value.as_str(), None),
        };
        match (value.as_str(), address.parse::<IpAddr>(), length.map(str::parse::<u8>)) {
            ("autodetect", ..) => AddressSource::Detect(method),
            ("none", ..) => AddressSource::Disabled,
            (_, Ok(address), None) if address.is_ipv4() == default_on => {
                AddressSource::Literal(address, None)
            }
            (_, Ok(address), Some(Ok(length)))
                if address.is_ipv4() == default_on && IpNet::new(address, length).is_ok() =>
            {
                AddressSource::Literal(address, Some(length))
            }
            _ => {
                let family = if default_on { "IPv4" } else { "IPv6" };
                self.refuse(
                    name,
                    &value,
                    format!("use autodetect, none, or an {family} address, with or without a length"),
                );
                AddressSource::Disabled
            }
        }
    }

    fn as_number(&mut self) -> Option<u32> {
        let value = self.text("AS")?;
        let number = match value.split_once('.') {
            Some((high, low)) => high
                .parse::<u16>()
                .ok()
                .zip(low.parse::<u16>().ok())
                .map(|(high, low)| u32::from(high) << 16 | u32::from(low)),
            None => value.parse().ok(),
        };
        if number.is_none_or(|number: u32| number == 0) {
            self.refuse("AS", value, "an AS number is 1..4294967295 or HIGH.LOW");
            return None;
        }
        number
    }

    /// Ranges with commas between them.
    fn ranges(&mut self, variable: &str) -> Vec<IpNet> {
        let text = self.text(variable).unwrap_or_default();
        let words: Vec<&str> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
        let parsed: Result<Vec<IpNet>, _> = words.iter().map(|word| word.parse()).collect();
        parsed.unwrap_or_else(|_| {
            self.refuse(variable, text, "write ranges such as 10.96.0.0/12, with commas between them");
            Vec::new()
        })
    }

    fn router_id(&mut self) -> RouterId {
        match self.text("CALICO_ROUTER_ID").as_deref() {
            None => RouterId::NodeAddress,
            Some("hash") => RouterId::HashOfName,
            Some(text) => match text.parse() {
                Ok(address) => RouterId::Literal(address),
                Err(_) => {
                    self.refuse("CALICO_ROUTER_ID", text, "use hash or an IPv4 address");
                    RouterId::NodeAddress
                }
            },
        }
    }

    fn backend(&mut self) -> bool {
        match self.text("CALICO_NETWORKING_BACKEND").as_deref() {
            None | Some("bird") => true,
            Some("none") => false,
            Some(other) => {
                self.refuse("CALICO_NETWORKING_BACKEND", other, "use bird (BGP in process) or none");
                true
            }
        }
    }

    fn default_pools(&mut self) -> DefaultPools {
        let asked: Vec<_> = ["CALICO_IPV4POOL_CIDR", "CALICO_IPV6POOL_CIDR"]
            .into_iter()
            .filter(|name| self.text(name).is_some_and(|value| value != "none"))
            .collect();
        if !self.boolean("NO_DEFAULT_POOLS", false) {
            return DefaultPools::Create { ipv4: self.pool("IPV4", 26), ipv6: self.pool("IPV6", 122) };
        }
        for name in asked {
            self.refuse("NO_DEFAULT_POOLS", "true", format!("contradicts {name}; unset one of the two"));
        }
        DefaultPools::None
    }

    fn pool(&mut self, family: &str, block_size: u8) -> Option<PoolDefaults> {
        let name = |part: &str| format!("CALICO_{family}POOL_{part}");
        let is_v4 = family == "IPV4";
        if self.text(&name("CIDR")).as_deref() == Some("none") {
            return None;
        }
        let cidr: Option<IpNet> = self.parsed(&name("CIDR"), "use a CIDR such as 10.65.0.0/16, or none");
        if let Some(cidr) = cidr.filter(|cidr| cidr.addr().is_ipv4() != is_v4) {
            self.refuse(&name("CIDR"), cidr.to_string(), "is of the other family");
        }
        Some(PoolDefaults {
            cidr: cidr.map(|cidr| cidr.trunc()),
            ipip: if is_v4 { self.encapsulation(&name("IPIP")) } else { "Never".to_owned() },
            vxlan: self.encapsulation(&name("VXLAN")),
            block_size: self.block_size(&name("BLOCK_SIZE"), block_size, is_v4),
            nat_outgoing: self.boolean(&name("NAT_OUTGOING"), is_v4),
            node_selector: self.text(&name("NODE_SELECTOR")).unwrap_or_else(|| "all()".to_owned()),
            disable_bgp_export: self.boolean(&name("DISABLE_BGP_EXPORT"), false),
        })
    }

    fn encapsulation(&mut self, name: &str) -> String {
        let value = self.text(name).unwrap_or_default();
        let mode = match value.to_ascii_lowercase().as_str() {
            "" | "never" | "off" => "Never",
            "always" => "Always",
            "crosssubnet" | "cross-subnet" => "CrossSubnet",
            _ => {
                self.refuse(name, value, "use Never, Always or CrossSubnet");
                "Never"
            }
        };
        mode.to_owned()
    }

    fn block_size(&mut self, name: &str, default: u8, is_v4: bool) -> u8 {
        let (low, high) = if is_v4 { (20, 32) } else { (116, 128) };
        let expected = format!("a block's prefix length is {low}..{high}");
        let size = self.parsed(name, &expected).unwrap_or(default);
        if !(low..=high).contains(&size) {
            self.refuse(name, size.to_string(), expected);
        }
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<NodeConfig, Vec<String>> {
        let find =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let felix = pairs
            .iter()
            .filter(|(name, _)| name.starts_with("FELIX_"))
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        NodeConfig::read(find, felix, "Host-1")
            .map_err(|errors| errors.iter().map(ConfigError::to_string).collect())
    }

    #[test]
    fn nothing_set_gives_calicos_defaults() {
        let config = read(&[]).unwrap();
        assert_eq!(config.node_name, "host-1");
        assert!(matches!(config.ipv4, AddressSource::KeepOrDetect(Method::FirstFound)));
        assert!(matches!(config.ipv6, AddressSource::Disabled));
        assert!(config.bgp && config.as_number.is_none());
        assert_eq!(config.nodename_file, PathBuf::from("/var/lib/calico/nodename"));
        let DefaultPools::Create { ipv4: Some(pool), ipv6: Some(pool6) } = config.default_pools else {
            panic!("{:?}", config.default_pools)
        };
        assert_eq!((pool.block_size, pool.nat_outgoing, pool.ipip.as_str()), (26, true, "Never"));
        assert_eq!((pool6.block_size, pool6.nat_outgoing, pool6.cidr), (122, false, None));
    }

    #[test]
    fn every_variable_is_read() {
        let config = read(&[
            ("NODENAME", " Node-1 "),
            ("IP", "10.0.0.1"),
            ("IP6", "autodetect"),
            ("IP6_AUTODETECTION_METHOD", "interface=eth.*"),
            ("AS", "1.10"),
            ("CALICO_ROUTER_ID", "hash"),
            ("CALICO_NETWORKING_BACKEND", "none"),
            ("CALICO_IPV4POOL_CIDR", "10.65.1.2/16"),
            ("CALICO_IPV4POOL_IPIP", "CrossSubnet"),
            ("CALICO_IPV4POOL_BLOCK_SIZE", "28"),
            ("CALICO_IPV6POOL_CIDR", "none"),
            ("CLUSTER_TYPE", "k8s, bgp"),
            ("FELIX_HEALTHENABLED", "true"),
            ("FELIX_HealthPort", "9199"),
        ])
        .unwrap();
        assert_eq!(config.node_name, "node-1");
        assert!(matches!(config.ipv4, AddressSource::Literal(address, None) if address.is_ipv4()));
        assert!(matches!(config.ipv6, AddressSource::Detect(Method::Interface(_))));
        assert_eq!(config.as_number, Some(65546));
        assert_eq!(config.router_id, RouterId::HashOfName);
        assert!(!config.bgp);
        let DefaultPools::Create { ipv4: Some(pool), ipv6: None } = config.default_pools else { panic!() };
        assert_eq!(pool.cidr.unwrap().to_string(), "10.65.0.0/16");
        assert_eq!((pool.ipip.as_str(), pool.block_size), ("CrossSubnet", 28));
        assert_eq!(config.cluster_type, ["k8s", "bgp"]);
        assert_eq!(config.felix["healthport"], "9199");
    }

    #[test]
    fn all_bad_variables_are_named_at_once() {
        let errors = read(&[
            ("NODENAME", "no_underscores"),
            ("IP", "fd00::1"),
            ("IP_AUTODETECTION_METHOD", "magic"),
            ("AS", "0"),
            ("CALICO_NETWORKING_BACKEND", "gobgp"),
            ("CALICO_IPV4POOL_CIDR", "10.65.0.0"),
            ("CALICO_IPV4POOL_BLOCK_SIZE", "16"),
            ("DISABLE_NODE_IP_CHECK", "perhaps"),
        ])
        .unwrap_err();
        let named: Vec<_> = errors.iter().map(|error| error.split('=').next().unwrap()).collect();
        assert_eq!(
            named,
            [
                "NODENAME",
                "IP_AUTODETECTION_METHOD",
                "IP",
                "AS",
                "CALICO_NETWORKING_BACKEND",
                "CALICO_IPV4POOL_CIDR",
                "CALICO_IPV4POOL_BLOCK_SIZE",
                "DISABLE_NODE_IP_CHECK",
            ]
        );
    }

    #[test]
    fn no_default_pools_contradicts_a_pool() {
        let errors =
            read(&[("NO_DEFAULT_POOLS", "true"), ("CALICO_IPV4POOL_CIDR", "10.0.0.0/8")]).unwrap_err();
        assert_eq!(
            errors,
            ["NO_DEFAULT_POOLS=\"true\": contradicts CALICO_IPV4POOL_CIDR; unset one of the two"]
        );
        let none = read(&[("NO_DEFAULT_POOLS", "true"), ("CALICO_IPV4POOL_CIDR", "none")]).unwrap();
        assert_eq!(none.default_pools, DefaultPools::None);
    }
}
