//! Kernel settings of the host and of workloads' interfaces (datapath.md 2.2).
//!
//! An interface is set up once it has an endpoint and is there; again after each time that it came up, since a new interface of the
//! same name starts with the kernel's defaults. Settings that are right already are not written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::InterfaceName;
use kernel::interface::{WorkloadSettings, forwarding_host};
use kernel::sysctl::{Error, Family, Sysctl, Sysctls};

use crate::config::Parameters;

/// The one writer of the settings.
#[derive(Debug)]
pub(crate) struct SysctlManager<S> {
    sysctls: S,
    /// Interfaces with an endpoint, and whether that has IPv6.
    wanted: BTreeMap<Arc<str>, bool>,
    /// Of those, the ones that are set up.
    done: BTreeSet<Arc<str>>,
    pending: BTreeSet<Arc<str>>,
    host_pending: bool,
}

impl<S: Sysctls> SysctlManager<S> {
    pub(crate) fn new(sysctls: S) -> Self {
        Self {
            sysctls,
            wanted: BTreeMap::new(),
            done: BTreeSet::new(),
            pending: BTreeSet::new(),
            host_pending: true,
        }
    }

    /// The interface has an endpoint (with IPv6 or without), or no longer has one.
    pub(crate) fn set_wanted(&mut self, interface: &Arc<str>, ipv6: Option<bool>) {
        let Some(ipv6) = ipv6 else {
            self.wanted.remove(interface);
            self.pending.remove(interface);
            self.done.remove(interface);
            return;
        };
        if self.wanted.insert(interface.clone(), ipv6) != Some(ipv6) {
            self.done.remove(interface);
            self.pending.insert(interface.clone());
        }
    }

    /// The interface has come up (again).
    pub(crate) fn on_interface(&mut self, interface: &str) {
        if let Some((interface, _)) = self.wanted.get_key_value(interface) {
            self.done.remove(interface);
            self.pending.insert(interface.clone());
        }
    }

    /// The next apply looks at every setting.
    pub(crate) fn queue_resync(&mut self) {
        self.pending.extend(self.wanted.keys().cloned());
        self.host_pending = true;
    }

    /// Whether the interface is set up.
    pub(crate) fn is_done(&self, interface: &str) -> bool {
        self.done.contains(interface)
    }

    /// Sets what is pending. What fails stays pending, but for interfaces that are not there: those wait for their event.
    pub(crate) fn apply(&mut self, parameters: &Parameters, errors: &mut Vec<Error>) {
        if self.host_pending {
            match self.host(parameters) {
                Ok(()) => self.host_pending = false,
                Err(error) => errors.push(error),
            }
        }
        for interface in std::mem::take(&mut self.pending) {
            let (Ok(name), Some(ipv6)) =
                (InterfaceName::new(&interface), self.wanted.get(&interface).copied())
            else {
                continue;
            };
            match self.interface(&name, ipv6, parameters) {
                Ok(()) => {
                    self.done.insert(interface);
                }
                Err(error) => {
                    self.done.remove(&interface);
                    if !error.is_absent() {
                        self.pending.insert(interface);
                        errors.push(error);
                    }
                }
            }
        }
    }

    fn host(&mut self, parameters: &Parameters) -> Result<(), Error> {
        let forwarding = parameters.ip_forwarding;
        // A kernel without IPv6 has nothing to forward.
        let has_v6 = self.sysctls.read(&Sysctl::scope(Family::V6, "all", "forwarding")).is_ok();
        for setting in forwarding_host(forwarding, forwarding && parameters.ipv6_support && has_v6) {
            setting.enforce(&mut self.sysctls)?;
        }
        Ok(())
    }

    fn interface(&mut self, name: &InterfaceName, ipv6: bool, parameters: &Parameters) -> Result<(), Error> {
        let wanted = WorkloadSettings {
            ipv4: true,
            ipv6: ipv6 && parameters.ipv6_support,
            no_reverse_path_filter: parameters.workload_source_spoofing,
        };
        for setting in wanted.of_host_side(name, &mut self.sysctls) {
            setting.enforce(&mut self.sysctls)?;
        }
        Ok(())
    }
}
