//! Kernel settings below `/proc/sys`.
//!
//! Settings below `net` belong to the network namespace of the thread that opens them.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::InterfaceName;

/// The name of a setting: the path below `/proc/sys`, with slashes (a dot may be part of an interface's name).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sysctl(String);

/// The address family that a setting is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `net/ipv4`
    V4,
    /// `net/ipv6`
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        })
    }
}

/// A setting that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("sysctl {setting}: cannot {action}: {source}")]
pub struct Error {
    /// Which setting.
    pub setting: Sysctl,
    /// What was tried.
    pub action: String,
    /// The system's error.
    pub source: io::Error,
}

impl Error {
    /// Whether the setting does not exist (its interface is gone, or the kernel lacks the feature).
    pub fn is_absent(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

impl Sysctl {
    /// A setting by its path below `/proc/sys`.
    ///
    /// # Panics
    /// When the path would lead elsewhere. For names made of input use [`Sysctl::interface`].
    pub fn new(path: &str) -> Self {
        assert!(
            path.split('/').all(|part| !matches!(part, "" | "." | "..")),
            "{path:?} is not below /proc/sys"
        );
        Self(path.to_owned())
    }

    /// `net/FAMILY/conf/INTERFACE/SETTING`
    pub fn interface(family: Family, interface: &InterfaceName, setting: &str) -> Self {
        Self::new(&format!("net/{family}/conf/{interface}/{setting}"))
    }

    /// `net/FAMILY/conf/SCOPE/SETTING` where the scope is `all` or `default`.
    pub fn scope(family: Family, scope: &'static str, setting: &str) -> Self {
        Self::new(&format!("net/{family}/conf/{scope}/{setting}"))
    }

    /// `net/FAMILY/neigh/INTERFACE/SETTING`
    pub fn neighbour(family: Family, interface: &InterfaceName, setting: &str) -> Self {
        Self::new(&format!("net/{family}/neigh/{interface}/{setting}"))
    }

    /// The family and the last part, if it is one that each interface has (`net/FAMILY/conf/INTERFACE/SETTING`).
    pub(crate) fn of_link(&self) -> Option<(Family, &str)> {
        let (family, rest) = match self.0.strip_prefix("net/ipv4/conf/") {
            Some(rest) => (Family::V4, rest),
            None => (Family::V6, self.0.strip_prefix("net/ipv6/conf/")?),
        };
        rest.split_once('/').map(|(_, setting)| (family, setting))
    }

    /// The path below `/proc/sys`.
    pub fn path(&self) -> &str {
        &self.0
    }

    fn cannot(&self, action: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let (setting, action) = (self.clone(), action.into());
        move |source| Error { setting, action, source }
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Reads and writes settings. The strict fake is [`crate::fake::FakeKernel`].
pub trait Sysctls {
    /// The value, without white space around it.
    ///
    /// # Errors
    /// [`Error`], see [`Error::is_absent`].
    fn read(&mut self, setting: &Sysctl) -> Result<String, Error>;

    /// Writes the value if another is there. Gives whether it wrote.
    ///
    /// # Errors
    /// [`Error`]; the old value stays.
    fn set(&mut self, setting: &Sysctl, value: &str) -> Result<bool, Error>;
}

/// `/proc/sys` as the calling thread sees it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcSys;

impl Sysctls for ProcSys {
    fn read(&mut self, setting: &Sysctl) -> Result<String, Error> {
        read(setting, open)
    }

    fn set(&mut self, setting: &Sysctl, value: &str) -> Result<bool, Error> {
        set(setting, value, open)
    }
}

/// The settings of the network namespace in which this was opened, whichever thread uses it later. (Others than those of IPv4
/// and IPv6 are as the calling thread sees them.)
///
/// The kernel finds `/proc/sys/net/ipv4` among those of all namespaces, which on a host with hundreds of workloads takes
/// longer than all that is then done with a setting; here that is done once.
#[derive(Debug)]
pub struct NetSysctls {
    ipv4: Option<OwnedFd>,
    ipv6: Option<OwnedFd>,
}

impl NetSysctls {
    /// Opens them in the namespace of the calling thread. A family that the kernel lacks has no settings.
    pub fn open() -> Self {
        let folder = |path| {
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
        };
        Self { ipv4: folder("/proc/sys/net/ipv4"), ipv6: folder("/proc/sys/net/ipv6") }
    }

    fn open_setting(&self, setting: &Sysctl, flags: OFlags) -> io::Result<File> {
        let below = |prefix| setting.0.strip_prefix(prefix);
        let (folder, rest) = match (below("net/ipv4/"), below("net/ipv6/")) {
            (Some(rest), _) => (self.ipv4.as_ref(), rest),
            (_, Some(rest)) => (self.ipv6.as_ref(), rest),
            (None, None) => return open(setting, flags),
        };
        let folder = folder.ok_or(io::ErrorKind::NotFound)?;
        Ok(rustix::fs::openat(folder, rest, flags | OFlags::CLOEXEC, Mode::empty())?.into())
    }
}

impl Sysctls for NetSysctls {
    fn read(&mut self, setting: &Sysctl) -> Result<String, Error> {
        read(setting, |setting, flags| self.open_setting(setting, flags))
    }

    fn set(&mut self, setting: &Sysctl, value: &str) -> Result<bool, Error> {
        set(setting, value, |setting, flags| self.open_setting(setting, flags))
    }
}

/// Opens a setting of the calling thread's namespace.
fn open(setting: &Sysctl, flags: OFlags) -> io::Result<File> {
    let path = Path::new("/proc/sys").join(&setting.0);
    Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?.into())
}

fn value(file: &File) -> io::Result<String> {
    let mut bytes = [0; 256];
    let length = file.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).trim().to_owned())
}

fn read(setting: &Sysctl, open: impl Fn(&Sysctl, OFlags) -> io::Result<File>) -> Result<String, Error> {
    open(setting, OFlags::RDONLY).and_then(|file| value(&file)).map_err(setting.cannot("read it"))
}

fn set(
    setting: &Sysctl,
    wanted: &str,
    open: impl Fn(&Sysctl, OFlags) -> io::Result<File>,
) -> Result<bool, Error> {
    let write = |error| setting.cannot(format!("set it to {wanted}"))(error);
    let file = match open(setting, OFlags::RDWR) {
        Ok(file) => file,
        // In a container /proc/sys is often read-only, which is no harm where the value is right.
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return if read(setting, open)? == wanted { Ok(false) } else { Err(write(error)) };
        }
        Err(error) => return Err(write(error)),
    };
    if value(&file).map_err(setting.cannot("read it"))? == wanted {
        return Ok(false);
    }
    file.write_all_at(wanted.as_bytes(), 0).map_err(write)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_in_an_interface_name_stays_in_its_place() {
        let name = InterfaceName::new("eth0.100").unwrap();
        let setting = Sysctl::interface(Family::V4, &name, "proxy_arp");
        assert_eq!(setting.path(), "net/ipv4/conf/eth0.100/proxy_arp");
    }

    #[test]
    #[should_panic(expected = "not below /proc/sys")]
    fn a_path_out_of_proc_sys_is_a_bug() {
        let _ = Sysctl::new("net/../../../etc/passwd");
    }

    #[test]
    fn an_absent_setting_is_told_from_other_errors() {
        let error = ProcSys.read(&Sysctl::new("net/ipv4/conf/nosuchdevice/proxy_arp")).unwrap_err();
        assert!(error.is_absent());
        assert!(
            error.to_string().starts_with("sysctl net/ipv4/conf/nosuchdevice/proxy_arp: cannot read it: ")
        );
    }
}
