//! The Felix parameters that the dataplane follows (resources.md section 8).
//!
//! Parameters come by name in the form of the environment, from the datastore ([`calc::contract::Change::ConfigUpdate`]) and from
//! the node itself (environment, file); the node's own win, parameter by parameter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use calc::program::{ProtocolPort, failsafe};
use kernel::nft::{Limit, LimitUnit};

/// What the node hands in at the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DataplaneConfig {
    /// Name of this node, as in [`calc::contract::Change::HostUpdate`].
    pub node_name: String,
    /// Parameters from the environment and the configuration file, which win over those of the datastore.
    pub local_parameters: BTreeMap<String, String>,
    /// Denied packets are logged to [`kernel::ownership::NFLOG_DENIED`]. Only where the kernel has NFLOG
    /// ([`kernel::nflog::is_supported`]): it refuses such rules otherwise.
    pub flow_log: bool,
}

/// What becomes of traffic from a workload to its own host, after the workload's egress policy allowed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EndpointToHostAction {
    /// It is dropped.
    #[default]
    Drop,
    /// It is accepted.
    Accept,
    /// The host's other rules decide.
    Return,
}

/// How a packet that policy denies is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DenyAction {
    /// Silently.
    #[default]
    Drop,
    /// With an ICMP error.
    Reject,
}

/// What becomes of forwarded packets that are still addressed to a Service: none has taken them, and the default route would
/// bring them back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServiceLoopPrevention {
    /// They are dropped.
    #[default]
    Drop,
    /// They are rejected with an ICMP error.
    Reject,
    /// They go their way.
    Disabled,
}

/// Of which packets netlink groups are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlowLog {
    /// Of those that are denied, with the rule: [`kernel::ownership::NFLOG_DENIED`].
    pub denied: bool,
    /// Of the first packets of what is allowed: [`kernel::ownership::NFLOG_ALLOWED`].
    pub allowed: bool,
}

/// Which backend enforces policy (`NFTablesMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NftablesMode {
    /// nf_tables, unless the kernel has none.
    #[default]
    Auto,
    /// nf_tables.
    Enabled,
    /// iptables.
    Disabled,
}

/// Which of the host's two iptables is used (`IptablesBackend`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IptablesVariant {
    /// The one that others use on this host.
    #[default]
    Auto,
    /// `iptables-legacy`.
    Legacy,
    /// `iptables-nft`.
    Nft,
}

/// What becomes of a packet that policy accepts, in iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AllowAction {
    /// It is accepted; rules of others behind ours do not see it.
    #[default]
    Accept,
    /// The kernel's chain goes on, with the rules of others behind ours.
    Return,
}

/// The effective parameters. Field names are the parameters' in snake case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// Whatever begins with one of these is a workload's interface.
    pub interface_prefix: Vec<String>,
    /// After egress policy.
    pub default_endpoint_to_host_action: EndpointToHostAction,
    /// For denied packets in the filter chains.
    pub filter_deny_action: DenyAction,
    /// Do not drop packets that connection tracking calls invalid.
    pub disable_conntrack_invalid_check: bool,
    /// Always open on host endpoints, inbound.
    pub failsafe_inbound_host_ports: Vec<ProtocolPort>,
    /// Always open on host endpoints, outbound.
    pub failsafe_outbound_host_ports: Vec<ProtocolPort>,
    /// Turn on forwarding of the host.
    pub ip_forwarding: bool,
    /// Program IPv6 too.
    pub ipv6_support: bool,
    /// What is logged; not a parameter, but what follows from some, and from who listens.
    pub flow_log: FlowLog,
    /// The first packets of what is allowed are logged too (FlowLogsLocalReporter).
    pub flow_logs_local_reporter: bool,
    /// Prefix of the lines of Log rules; `%t` tier, `%k` kind, `%p` policy, `%n` name.
    pub log_prefix: String,
    /// How many lines a Log rule may write, and in what time; any number when absent.
    pub log_action_rate_limit: Option<(u16, LimitUnit)>,
    /// How many lines it may write at once beyond that.
    pub log_action_rate_limit_burst: u16,
    /// For packets to the networks of Services.
    pub service_loop_prevention: ServiceLoopPrevention,
    /// Source address of masqueraded traffic; that of the outgoing interface when absent.
    pub nat_outgoing_address: Option<Ipv4Addr>,
    /// Do not masquerade towards addresses of hosts of the cluster either.
    pub nat_outgoing_excludes_hosts: bool,
    /// Source ports of masqueraded TCP and UDP.
    pub nat_port_range: Option<(u16, u16)>,
    /// Bits of the packet mark that are ours.
    pub mark_mask: u32,
    /// Which backend enforces policy.
    pub nftables_mode: NftablesMode,
    /// Which iptables is used, where iptables is.
    pub iptables_backend: IptablesVariant,
    /// Our jumps come last in the kernel's chains of iptables, not first.
    pub chain_append: bool,
    /// For accepted packets in iptables' filter table.
    pub iptables_filter_allow_action: AllowAction,
    /// For accepted packets in iptables' mangle table.
    pub iptables_mangle_allow_action: AllowAction,
    /// How long after a write the tables of iptables are read back; then later and later. Not at all when zero.
    pub iptables_post_write_check_interval: Duration,
    /// What the sets of ipset are made for (`maxelem`); one that holds more is made larger.
    pub max_ipset_size: u32,
    /// Honour a workload's allowed source prefixes.
    pub workload_source_spoofing: bool,
    /// rtnetlink protocol of the routes to workloads.
    pub device_route_protocol: u8,
    /// Preferred source address of the host towards its workloads.
    pub device_route_source_address: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub device_route_source_address_ipv6: Option<Ipv6Addr>,
    /// Metric of IPv4 routes to workloads; the kernel's own when absent.
    pub ipv4_normal_route_priority: Option<u32>,
    /// The same for IPv6.
    pub ipv6_normal_route_priority: Option<u32>,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            interface_prefix: vec!["cali".to_owned()],
            default_endpoint_to_host_action: EndpointToHostAction::Drop,
            filter_deny_action: DenyAction::Drop,
            disable_conntrack_invalid_check: false,
            failsafe_inbound_host_ports: failsafe::inbound_ports(),
            failsafe_outbound_host_ports: failsafe::outbound_ports(),
            ip_forwarding: true,
            ipv6_support: true,
            flow_log: FlowLog::default(),
            flow_logs_local_reporter: false,
            log_prefix: "calico-packet".to_owned(),
            log_action_rate_limit: None,
            log_action_rate_limit_burst: DEFAULT_LOG_BURST,
            service_loop_prevention: ServiceLoopPrevention::Drop,
            nat_outgoing_address: None,
            nat_outgoing_excludes_hosts: false,
            nat_port_range: None,
            mark_mask: 0xffff_0000,
            nftables_mode: NftablesMode::Auto,
            iptables_backend: IptablesVariant::Auto,
            chain_append: false,
            iptables_filter_allow_action: AllowAction::Accept,
            iptables_mangle_allow_action: AllowAction::Accept,
            iptables_post_write_check_interval: Duration::from_secs(5),
            max_ipset_size: 1 << 20,
            workload_source_spoofing: false,
            device_route_protocol: kernel::ownership::ROUTE_BOOT,
            device_route_source_address: None,
            device_route_source_address_ipv6: None,
            ipv4_normal_route_priority: None,
            ipv6_normal_route_priority: None,
        }
    }
}

/// Also what the kernel takes for a burst of 0.
const DEFAULT_LOG_BURST: u16 = 5;

/// A parameter whose value is not one; its default holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Felix parameter {name}: {value:?} is not {expected}; its default is used")]
pub struct InvalidParameter {
    /// The parameter.
    pub name: String,
    /// What was given.
    pub value: String,
    /// What it could be.
    pub expected: &'static str,
}

/// What the first bits of the mask mean, as Calico allots them (datapath.md 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkBits {
    /// A packet was accepted.
    pub accept: u32,
    /// A policy passes the packet to the next tier.
    pub pass: u32,
    /// A stage before that of filtering has accepted the packet for good (in iptables); none when the mask has but two bits.
    pub early: Option<u32>,
}

impl Parameters {
    /// The bits of the packet mark. The configuration sees to it that there are two.
    pub fn mark_bits(&self) -> MarkBits {
        let lowest = |bits: u32| bits & bits.wrapping_neg();
        let accept = lowest(self.mark_mask);
        let pass = lowest(self.mark_mask & !accept);
        let early = lowest(self.mark_mask & !accept & !pass);
        MarkBits { accept, pass, early: (early != 0).then_some(early) }
    }

    /// The effective parameters, and what could not be read. The local ones win over those of the datastore.
    pub fn effective(
        datastore: &BTreeMap<String, String>,
        local: &BTreeMap<String, String>,
    ) -> (Self, Vec<InvalidParameter>) {
        let mut parameters = Self::default();
        let mut merged: BTreeMap<String, (&str, &str)> = BTreeMap::new();
        for (name, value) in datastore.iter().chain(local) {
            merged.insert(name.to_ascii_lowercase(), (name, value));
        }
        let mut invalid = Vec::new();
        for (lower, (name, value)) in merged {
            if let Err(expected) = parameters.set(&lower, value.trim()) {
                invalid.push(InvalidParameter { name: name.to_owned(), value: value.to_owned(), expected });
            }
        }
        (parameters, invalid)
    }

    /// The limit of each Log rule.
    pub fn log_limit(&self) -> Option<Limit> {
        let burst = self.log_action_rate_limit_burst.into();
        self.log_action_rate_limit.map(|(rate, unit)| Limit { rate: rate.into(), unit, burst, over: false })
    }

    /// Whether a parameter (in any case) is one of these.
    pub fn follows(name: &str) -> bool {
        Self::default().set(&name.to_ascii_lowercase(), "") != Ok(false)
    }

    /// Sets a parameter; `false` when it is none of these, but another part's.
    fn set(&mut self, name: &str, value: &str) -> Result<bool, &'static str> {
        match name {
            "interfaceprefix" => self.interface_prefix = prefixes(value)?,
            "defaultendpointtohostaction" => self.default_endpoint_to_host_action = to_host_action(value)?,
            "iptablesfilterdenyaction" | "nftablesfilterdenyaction" => {
                self.filter_deny_action = deny_action(value)?
            }
            "disableconntrackinvalidcheck" => self.disable_conntrack_invalid_check = boolean(value)?,
            "failsafeinboundhostports" => self.failsafe_inbound_host_ports = failsafe::parse_ports(value)?,
            "failsafeoutboundhostports" => self.failsafe_outbound_host_ports = failsafe::parse_ports(value)?,
            "ipforwarding" => self.ip_forwarding = word(value, "Enabled", "Disabled", "Enabled or Disabled")?,
            "ipv6support" => self.ipv6_support = boolean(value)?,
            "flowlogslocalreporter" => {
                self.flow_logs_local_reporter = word(value, "Enabled", "Disabled", "Enabled or Disabled")?;
            }
            "logprefix" => self.log_prefix = optional(value).unwrap_or_default().to_owned(),
            "logactionratelimit" => self.log_action_rate_limit = rate_limit(value)?,
            "logactionratelimitburst" => {
                let burst = parsed(value, "a number of packets, 0 to 9999")?;
                self.log_action_rate_limit_burst =
                    burst.filter(|burst| *burst > 0).unwrap_or(DEFAULT_LOG_BURST);
            }
            "serviceloopprevention" => self.service_loop_prevention = loop_prevention(value)?,
            "natoutgoingaddress" => self.nat_outgoing_address = parsed(value, "an IPv4 address")?,
            "natoutgoingexclusions" => {
                let expected = "IPPoolsAndHostIPs or IPPoolsOnly";
                self.nat_outgoing_excludes_hosts = word(value, "IPPoolsAndHostIPs", "IPPoolsOnly", expected)?;
            }
            "natportrange" => self.nat_port_range = port_range(value)?,
            "iptablesmarkmask" | "nftablesmarkmask" => self.mark_mask = mask(value)?,
            "nftablesmode" => {
                let modes = [
                    ("auto", NftablesMode::Auto),
                    ("enabled", NftablesMode::Enabled),
                    ("disabled", NftablesMode::Disabled),
                ];
                self.nftables_mode = one_of(value, &modes, "Auto, Enabled or Disabled")?;
            }
            "iptablesbackend" => {
                let variants = [
                    ("auto", IptablesVariant::Auto),
                    ("legacy", IptablesVariant::Legacy),
                    ("nft", IptablesVariant::Nft),
                ];
                self.iptables_backend = one_of(value, &variants, "Auto, Legacy or NFT")?;
            }
            "chaininsertmode" => self.chain_append = word(value, "Append", "Insert", "Append or Insert")?,
            "iptablesfilterallowaction" => self.iptables_filter_allow_action = allow_action(value)?,
            "iptablesmangleallowaction" => self.iptables_mangle_allow_action = allow_action(value)?,
            "iptablespostwritecheckintervalsecs" => {
                let seconds: f64 = parsed(value, SECONDS)?.unwrap_or_default();
                self.iptables_post_write_check_interval =
                    Duration::try_from_secs_f64(seconds).map_err(|_| SECONDS)?;
            }
            "maxipsetsize" => {
                let size = parsed(value, "a number of members from 1")?;
                self.max_ipset_size = size.filter(|size| *size > 0).ok_or("a number of members from 1")?;
            }
            "workloadsourcespoofing" => {
                self.workload_source_spoofing = word(value, "Any", "Disabled", "Any or Disabled")?;
            }
            "deviceroutesourceaddress" => {
                self.device_route_source_address = parsed(value, "an IPv4 address")?
            }
            "deviceroutesourceaddressipv6" => {
                self.device_route_source_address_ipv6 = parsed(value, "an IPv6 address")?;
            }
            "devicerouteprotocol" => {
                let protocol = parsed(value, "a route protocol, 0 to 255")?;
                self.device_route_protocol = protocol.unwrap_or(kernel::ownership::ROUTE_BOOT);
            }
            "ipv4normalroutepriority" => self.ipv4_normal_route_priority = parsed(value, "a metric")?,
            "ipv6normalroutepriority" => self.ipv6_normal_route_priority = parsed(value, "a metric")?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// `none` and nothing clear a parameter.
fn optional(value: &str) -> Option<&str> {
    (!value.is_empty() && !value.eq_ignore_ascii_case("none")).then_some(value)
}

fn parsed<T: FromStr>(value: &str, expected: &'static str) -> Result<Option<T>, &'static str> {
    optional(value).map(|value| value.parse().map_err(|_| expected)).transpose()
}

fn word(value: &str, yes: &str, no: &str, expected: &'static str) -> Result<bool, &'static str> {
    match value {
        _ if value.eq_ignore_ascii_case(yes) => Ok(true),
        _ if value.eq_ignore_ascii_case(no) => Ok(false),
        _ => Err(expected),
    }
}

fn boolean(value: &str) -> Result<bool, &'static str> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" | "t" => Ok(true),
        "false" | "0" | "no" | "n" | "f" => Ok(false),
        _ => Err("true or false"),
    }
}

fn prefixes(value: &str) -> Result<Vec<String>, &'static str> {
    let list: BTreeSet<String> = value.split(',').map(|prefix| prefix.trim().to_owned()).collect();
    if list.iter().any(|prefix| prefix.is_empty() || prefix.len() > 15) {
        return Err("a list of interface name prefixes of 1 to 15 characters");
    }
    Ok(list.into_iter().collect())
}

fn to_host_action(value: &str) -> Result<EndpointToHostAction, &'static str> {
    match value.to_ascii_lowercase().as_str() {
        "drop" => Ok(EndpointToHostAction::Drop),
        "accept" => Ok(EndpointToHostAction::Accept),
        "return" => Ok(EndpointToHostAction::Return),
        _ => Err("DROP, ACCEPT or RETURN"),
    }
}

const SECONDS: &str = "a number of seconds";

fn one_of<T: Copy>(value: &str, known: &[(&str, T)], expected: &'static str) -> Result<T, &'static str> {
    known
        .iter()
        .find(|(word, _)| value.eq_ignore_ascii_case(word))
        .map(|(_, meaning)| *meaning)
        .ok_or(expected)
}

fn allow_action(value: &str) -> Result<AllowAction, &'static str> {
    one_of(value, &[("accept", AllowAction::Accept), ("return", AllowAction::Return)], "ACCEPT or RETURN")
}

fn deny_action(value: &str) -> Result<DenyAction, &'static str> {
    match value.to_ascii_lowercase().as_str() {
        "drop" => Ok(DenyAction::Drop),
        "reject" => Ok(DenyAction::Reject),
        _ => Err("DROP or REJECT"),
    }
}

fn loop_prevention(value: &str) -> Result<ServiceLoopPrevention, &'static str> {
    match value.to_ascii_lowercase().as_str() {
        "drop" => Ok(ServiceLoopPrevention::Drop),
        "reject" => Ok(ServiceLoopPrevention::Reject),
        "disabled" => Ok(ServiceLoopPrevention::Disabled),
        _ => Err("Drop, Reject or Disabled"),
    }
}

fn rate_limit(value: &str) -> Result<Option<(u16, LimitUnit)>, &'static str> {
    let expected = "a rate: N/second, N/minute, N/hour or N/day, N 1 to 9999";
    let Some(value) = optional(value) else { return Ok(None) };
    let (number, unit) = value.split_once('/').ok_or(expected)?;
    let number = number.parse().ok().filter(|number| (1..=9999).contains(number)).ok_or(expected)?;
    let unit = match unit {
        "second" => LimitUnit::Second,
        "minute" => LimitUnit::Minute,
        "hour" => LimitUnit::Hour,
        "day" => LimitUnit::Day,
        _ => return Err(expected),
    };
    Ok(Some((number, unit)))
}

fn mask(value: &str) -> Result<u32, &'static str> {
    let digits = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X"));
    let number = match digits {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => value.parse(),
    };
    number
        .ok()
        .filter(|mask| mask.count_ones() >= 2)
        .ok_or("a mask of packet mark bits with at least two bits")
}

fn port_range(value: &str) -> Result<Option<(u16, u16)>, &'static str> {
    let expected = "a port range such as 32768:65535";
    let Some(value) = optional(value) else { return Ok(None) };
    let (min, max) = value.split_once([':', '-']).unwrap_or((value, value));
    let range = (min.parse().map_err(|_| expected)?, max.parse().map_err(|_| expected)?);
    if range.0 > range.1 { Err(expected) } else { Ok(Some(range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Parameters, Vec<InvalidParameter>) {
        let datastore = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Parameters::effective(&datastore, &BTreeMap::new())
    }

    #[test]
    fn the_nodes_own_parameters_win_whatever_their_case() {
        let one = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let datastore = one("DefaultEndpointToHostAction", "RETURN");
        let local = one("defaultendpointtohostaction", "ACCEPT");
        let (parameters, invalid) = Parameters::effective(&datastore, &local);
        assert_eq!(parameters.default_endpoint_to_host_action, EndpointToHostAction::Accept);
        assert_eq!(invalid, []);
    }

    #[test]
    fn a_bad_value_is_named_and_its_default_holds() {
        let (parameters, invalid) =
            read(&[("DefaultEndpointToHostAction", "LET-IN"), ("Ipv6Support", "perhaps")]);
        assert_eq!(parameters, Parameters::default());
        assert_eq!(
            invalid.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "Felix parameter DefaultEndpointToHostAction: \"LET-IN\" is not DROP, ACCEPT or RETURN; its default is used",
                "Felix parameter Ipv6Support: \"perhaps\" is not true or false; its default is used"
            ]
        );
    }

    #[test]
    fn failsafe_ports_read_as_in_the_environment() {
        let (parameters, _) = read(&[
            ("FailsafeInboundHostPorts", "tcp:22, udp:[10.0.0.0/8]:68,8080"),
            ("FailsafeOutboundHostPorts", "none"),
        ]);
        let port = |protocol, port, net: Option<&str>| ProtocolPort {
            protocol,
            port,
            net: net.map(|net| net.parse().unwrap()),
        };
        assert_eq!(
            parameters.failsafe_inbound_host_ports,
            [port(6, 22, None), port(17, 68, Some("10.0.0.0/8")), port(6, 8080, None)]
        );
        assert_eq!(parameters.failsafe_outbound_host_ports, []);
    }

    #[test]
    fn a_rate_of_log_lines_is_a_number_in_a_time() {
        let burst = |burst| [("LogActionRateLimit", "10/minute"), ("LogActionRateLimitBurst", burst)];
        let limit = |burst| Limit { rate: 10, unit: LimitUnit::Minute, burst, over: false };
        assert_eq!(read(&burst("20")).0.log_limit(), Some(limit(20)));
        assert_eq!(read(&burst("0")).0.log_limit(), Some(limit(5)), "the kernel's own");
        assert_eq!(read(&burst("20")[1..]).0.log_limit(), None);
        for bad in ["10", "0/second", "10000/day", "1/week"] {
            assert_eq!(read(&[("LogActionRateLimit", bad)]).1.len(), 1, "{bad}");
        }
    }

    #[test]
    fn ranges_and_masks_have_their_forms() {
        let (parameters, invalid) = read(&[("NATPortRange", "1000:2000"), ("NftablesMarkMask", "0xff00")]);
        assert_eq!((parameters.nat_port_range, parameters.mark_mask), (Some((1000, 2000)), 0xff00));
        assert_eq!(invalid, []);
        let (_, invalid) = read(&[("NATPortRange", "2000:1000"), ("NftablesMarkMask", "0x8000")]);
        assert_eq!(invalid.len(), 2);
    }
}
