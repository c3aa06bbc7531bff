//! What the agent keeps as it should be on workloads' interfaces, and the settings of a host that forwards.
//!
//! [`InterfaceTable`] is told which interfaces are to have which settings; it sets them when the interface appears, when
//! an event says that something was changed, and after a resync. An interface that is missing is waited for; one that
//! refuses is tried again, later and later, without holding up the others. Settings are never undone: they go with their
//! interface. Limits on bandwidth are: also their devices, which outlive the interface. Addresses of the host on a workload's interface are: those that nobody wants are taken away, also those of an
//! earlier process.

mod addresses;
mod settings;
mod table;

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::address::{AddressOptions, InterfaceAddress};
use crate::link::{Link, LinkChange};
use crate::netlink::Error;
use crate::shaping::Shaping;
use crate::sysctl::{self, NetSysctls, Sysctl, Sysctls};
use crate::{InterfaceName, Rtnetlink};

pub(crate) use settings::no_advertisements;
pub use settings::{Setting, WorkloadSettings, default_reverse_path_filter, forwarding_host};
pub use table::{Failure, InterfaceError, InterfaceSettings, InterfaceTable, Report};

/// What [`InterfaceTable`] needs of the kernel. The strict fake is [`crate::fake::FakeKernel`].
pub trait InterfaceKernel: Sysctls {
    /// All links.
    ///
    /// # Errors
    /// Retryable.
    fn list_links(&mut self) -> Result<Vec<Link>, Error>;

    /// Changes a link.
    ///
    /// # Errors
    /// When the kernel refuses; parts of the change may have been made.
    fn change_link(&mut self, index: u32, change: &LinkChange<'_>) -> Result<(), Error>;

    /// All addresses of all links.
    ///
    /// # Errors
    /// Retryable.
    fn list_addresses(&mut self) -> Result<Vec<InterfaceAddress>, Error>;

    /// Gives a link an address of the host for itself alone (/32, /128), which means something on this link only. No route
    /// comes with it but the one by which the host takes its packets, and IPv6 looks for no duplicates: other links have
    /// the same.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn add_host_address(&mut self, index: u32, address: IpAddr) -> Result<(), Error>;

    /// Takes it away, if it is there.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn delete_host_address(&mut self, index: u32, address: IpAddr) -> Result<(), Error>;

    /// The links on which bandwidth is limited by us, by number.
    ///
    /// # Errors
    /// Retryable.
    fn shaped_links(&mut self) -> Result<BTreeSet<u32>, Error>;

    /// Makes the limits on the bandwidth of a workload's interface these, whatever there was. Gives how much it changed.
    ///
    /// # Errors
    /// When the kernel refuses; parts of the change may have been made.
    fn shape(&mut self, link: &Link, wanted: &Shaping) -> Result<usize, Error>;

    /// Deletes a device that queued what a workload sent, if it is there.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn delete_shaper(&mut self, device: &InterfaceName) -> Result<bool, Error>;

    /// Makes those settings of a link that are not so yet. Gives how many it changed, and what it could not.
    fn enforce(&mut self, index: u32, settings: &[Setting]) -> (usize, Vec<sysctl::Error>) {
        let _ = index;
        enforce_each(self, settings)
    }
}

/// Makes settings one after another; one that is refused does not stop the others.
fn enforce_each<'a, K: Sysctls + ?Sized>(
    kernel: &mut K,
    settings: impl IntoIterator<Item = &'a Setting>,
) -> (usize, Vec<sysctl::Error>) {
    let (mut changed, mut errors) = (0, Vec::new());
    for setting in settings {
        match setting.enforce(kernel) {
            Ok(done) => changed += usize::from(done),
            Err(error) => errors.push(error),
        }
    }
    (changed, errors)
}

/// The interfaces of the network namespace in which this was opened.
#[derive(Debug)]
pub struct HostInterfaces {
    socket: Rtnetlink,
    sysctls: NetSysctls,
}

impl HostInterfaces {
    /// Opens them in the calling thread's namespace.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Rtnetlink::open()?, sysctls: NetSysctls::open() })
    }
}

impl Sysctls for HostInterfaces {
    fn read(&mut self, setting: &Sysctl) -> Result<String, sysctl::Error> {
        self.sysctls.read(setting)
    }

    fn set(&mut self, setting: &Sysctl, value: &str) -> Result<bool, sysctl::Error> {
        self.sysctls.set(setting, value)
    }
}

impl InterfaceKernel for HostInterfaces {
    fn list_links(&mut self) -> Result<Vec<Link>, Error> {
        self.socket.links()
    }

    fn change_link(&mut self, index: u32, change: &LinkChange<'_>) -> Result<(), Error> {
        self.socket.change_link(index, change)
    }

    fn list_addresses(&mut self) -> Result<Vec<InterfaceAddress>, Error> {
        self.socket.addresses()
    }

    fn add_host_address(&mut self, index: u32, address: IpAddr) -> Result<(), Error> {
        let options =
            AddressOptions { no_duplicate_detection: true, no_prefix_route: true, link_scope: true };
        self.socket.add_address(index, address.into(), options)
    }

    fn delete_host_address(&mut self, index: u32, address: IpAddr) -> Result<(), Error> {
        self.socket.delete_address(index, address.into()).map(drop)
    }

    fn shaped_links(&mut self) -> Result<BTreeSet<u32>, Error> {
        self.socket.shaped_links()
    }

    fn shape(&mut self, link: &Link, wanted: &Shaping) -> Result<usize, Error> {
        self.socket.shape(link, wanted)
    }

    fn delete_shaper(&mut self, device: &InterfaceName) -> Result<bool, Error> {
        self.socket.delete_link(device)
    }

    /// What messages about the link carry is read and set by one each; what they do not, or what is refused, by its file.
    fn enforce(&mut self, index: u32, settings: &[Setting]) -> (usize, Vec<sysctl::Error>) {
        let Ok(Some(present)) = self.socket.link_settings(index) else {
            return enforce_each(self, settings);
        };
        let is_right = |setting: &&Setting| present.value(&setting.sysctl).as_ref() == Some(&setting.value);
        let (together, mut singly): (Vec<_>, Vec<_>) = settings
            .iter()
            .filter(|setting| !is_right(setting))
            .partition(|setting| setting.ipv4().is_some());
        let ipv4: Vec<_> = together.iter().filter_map(|setting| setting.ipv4()).collect();
        let mut made = ipv4.len();
        if made > 0 && self.socket.change_link(index, &LinkChange { ipv4, ..LinkChange::default() }).is_err()
        {
            made = 0;
            singly.extend(together);
        }
        let (changed, errors) = enforce_each(self, singly);
        (made + changed, errors)
    }
}
