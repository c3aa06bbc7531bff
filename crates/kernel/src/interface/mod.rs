//! What the agent keeps as it should be on workloads' interfaces, and the settings of a host that forwards.
//!
//! [`InterfaceTable`] is told which interfaces are to have which settings; it sets them when the interface appears, when
//! an event says that something was changed, and after a resync. An interface that is missing is waited for; one that
//! refuses is tried again, later and later, without holding up the others. Nothing is ever undone: settings go with
//! their interface.

mod settings;
mod table;

use crate::Rtnetlink;
use crate::link::{Link, LinkChange};
use crate::netlink::Error;
use crate::sysctl::{self, ProcSys, Sysctl, Sysctls};

pub(crate) use settings::no_advertisements;
pub use settings::{Setting, WorkloadSettings, forwarding_host};
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
}

/// The interfaces of the calling thread's network namespace.
#[derive(Debug)]
pub struct HostInterfaces {
    socket: Rtnetlink,
}

impl HostInterfaces {
    /// Opens a socket. Use it on threads of the same namespace only: `/proc/sys` is that of the thread.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Rtnetlink::open()? })
    }
}

impl Sysctls for HostInterfaces {
    fn read(&mut self, setting: &Sysctl) -> Result<String, sysctl::Error> {
        ProcSys.read(setting)
    }

    fn set(&mut self, setting: &Sysctl, value: &str) -> Result<bool, sysctl::Error> {
        ProcSys.set(setting, value)
    }
}

impl InterfaceKernel for HostInterfaces {
    fn list_links(&mut self) -> Result<Vec<Link>, Error> {
        self.socket.links()
    }

    fn change_link(&mut self, index: u32, change: &LinkChange<'_>) -> Result<(), Error> {
        self.socket.change_link(index, change)
    }
}
