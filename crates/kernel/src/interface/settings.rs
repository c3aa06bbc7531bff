use crate::InterfaceName;
use crate::link::Ipv4Setting;
use crate::sysctl::{Error, Family, Sysctl, Sysctls};

/// A setting and the value that it is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Which.
    pub sysctl: Sysctl,
    /// The value, as it is read back (no white space around it).
    pub value: String,
    /// Whether it is no failure when it cannot be set.
    pub best_effort: bool,
}

impl Setting {
    /// One that has to be so.
    pub fn required(sysctl: Sysctl, value: impl Into<String>) -> Self {
        Self { sysctl, value: value.into(), best_effort: false }
    }

    /// One that is tried.
    pub fn best_effort(sysctl: Sysctl, value: impl Into<String>) -> Self {
        Self { best_effort: true, ..Self::required(sysctl, value) }
    }

    /// As a change of its link carries it, if it can.
    pub(crate) fn ipv4(&self) -> Option<(Ipv4Setting, u32)> {
        Some((Ipv4Setting::of(&self.sysctl)?, self.value.parse().ok()?))
    }

    /// Sets it if it differs. Gives whether it wrote; of one that is only tried, errors are logged.
    ///
    /// # Errors
    /// [`Error`], unless it is only tried.
    pub fn enforce(&self, sysctls: &mut (impl Sysctls + ?Sized)) -> Result<bool, Error> {
        match sysctls.set(&self.sysctl, &self.value) {
            Err(error) if self.best_effort => {
                tracing::debug!(%error, "a setting that would be good to have");
                Ok(false)
            }
            outcome => outcome,
        }
    }
}

/// What the settings of a workload's device depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkloadSettings {
    /// Whether the workload has IPv4.
    pub ipv4: bool,
    /// Whether the workload has IPv6.
    pub ipv6: bool,
    /// Whether the kernel's own check of source addresses is off (workloads that may spoof, eBPF).
    pub no_reverse_path_filter: bool,
}

/// No default route by router advertisements of a workload. Without IPv6 in the kernel there is nothing to take one with.
pub(crate) fn no_advertisements(interface: &InterfaceName) -> Setting {
    Setting::best_effort(Sysctl::interface(Family::V6, interface, "accept_ra"), "0")
}

/// What the kernel gives to new interfaces as `rp_filter`; 1 if it cannot be read.
pub fn default_reverse_path_filter(sysctls: &mut (impl Sysctls + ?Sized)) -> String {
    sysctls.read(&Sysctl::scope(Family::V4, "default", "rp_filter")).unwrap_or("1".to_owned())
}

impl WorkloadSettings {
    /// The settings of the host side of a workload's veth (datapath.md 2.2 of the project's reference).
    ///
    /// `rp_filter` follows [`default_reverse_path_filter`], which is passed on here.
    pub fn of_host_side(&self, interface: &InterfaceName, default_filter: &str) -> Vec<Setting> {
        let v4 = |setting: &str| Sysctl::interface(Family::V4, interface, setting);
        let v6 = |setting: &str| Sysctl::interface(Family::V6, interface, setting);
        let mut settings = vec![no_advertisements(interface)];
        if self.ipv4 {
            let filter = if self.no_reverse_path_filter { "0" } else { default_filter };
            settings.extend([
                Setting::required(v4("route_localnet"), "1"),
                Setting::best_effort(Sysctl::neighbour(Family::V4, interface, "proxy_delay"), "0"),
                Setting::required(v4("proxy_arp"), "1"),
                Setting::required(v4("forwarding"), "1"),
                Setting::required(v4("rp_filter"), filter),
            ]);
        }
        if self.ipv6 {
            settings
                .extend([Setting::required(v6("proxy_ndp"), "1"), Setting::required(v6("forwarding"), "1")]);
        }
        settings
    }
}

/// The settings of a host that forwards (datapath.md 2.2 of the project's reference).
pub fn forwarding_host(ipv4: bool, ipv6: bool) -> Vec<Setting> {
    let mut settings = vec![Setting::best_effort(Sysctl::new("net/netfilter/nf_conntrack_acct"), "1")];
    if ipv4 {
        settings.push(Setting::required(Sysctl::new("net/ipv4/ip_forward"), "1"));
    }
    if ipv6 {
        settings.push(Setting::required(Sysctl::scope(Family::V6, "all", "forwarding"), "1"));
    }
    settings
}
