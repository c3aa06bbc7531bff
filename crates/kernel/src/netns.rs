//! Network namespaces: open, enter, make, name.
//!
//! [`Netns::run`] moves the calling thread into a namespace and back. A thread that could not be moved back would do whatever
//! it does next in the wrong place, so the process ends rather than let it.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::thread::LinkNameSpaceType;

use crate::{netlink, sys};

/// Where the named namespaces of `ip netns` are.
pub const NAMED: &str = "/run/netns";

/// What can go wrong with a namespace.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path cannot be opened, made or removed.
    #[error("network namespace {}: cannot {action}: {source}", path.display())]
    Path {
        /// Where the namespace is, or should be.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The path is something else.
    #[error("{} is not a network namespace", .0.display())]
    NotANamespace(PathBuf),
    /// The namespace cannot be entered (usually for want of CAP_SYS_ADMIN).
    #[error("network namespace {namespace}: cannot {action}: {source}")]
    Enter {
        /// Which.
        namespace: Netns,
        /// What was tried.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// A namespace cannot be made (usually for want of CAP_SYS_ADMIN).
    #[error("cannot make a network namespace: {0}; root or CAP_SYS_ADMIN is needed")]
    Make(io::Error),
    /// A socket inside the namespace failed.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
}

/// Which namespace it is: equal exactly when it is the same one, while one of the two is held open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl fmt::Display for Identity {
    /// As `readlink /proc/self/ns/net` writes it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "net:[{}]", self.inode)
    }
}

/// A network namespace, held open: it exists for as long as this does, even if its name and processes are gone.
#[derive(Debug, Clone)]
pub struct Netns {
    handle: Arc<OwnedFd>,
    identity: Identity,
}

impl PartialEq for Netns {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for Netns {}

impl fmt::Display for Netns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.identity.fmt(formatter)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl Netns {
    /// Opens the namespace at a path, such as `CNI_NETNS`.
    ///
    /// # Errors
    /// [`Error::Path`] when there is nothing (see [`Error::is_gone`]), [`Error::NotANamespace`] when it is something else.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let file = File::open(path).map_err(at(path, "open it"))?;
        Self::from_file(file, path)
    }

    /// Opens the namespace that `ip netns` knows by this name.
    ///
    /// # Errors
    /// As [`Netns::open`].
    pub fn named(name: &str) -> Result<Self, Error> {
        Self::open(Path::new(NAMED).join(name))
    }

    /// The calling thread's namespace.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn current() -> Result<Self, Error> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// The namespace of a process.
    ///
    /// # Errors
    /// As [`Netns::open`].
    pub fn of_process(process: u32) -> Result<Self, Error> {
        Self::open(format!("/proc/{process}/ns/net"))
    }

    /// A namespace that was opened elsewhere.
    ///
    /// # Errors
    /// [`Error::NotANamespace`].
    pub fn from_fd(handle: OwnedFd) -> Result<Self, Error> {
        Self::from_file(File::from(handle), Path::new("(descriptor)"))
    }

    fn from_file(file: File, path: &Path) -> Result<Self, Error> {
        const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;
        let status = rustix::fs::fstat(&file).map_err(|errno| at(path, "inspect it")(errno.into()))?;
        let filesystem = rustix::fs::fstatfs(&file).map_err(|errno| at(path, "inspect it")(errno.into()))?;
        if filesystem.f_type != NSFS_MAGIC {
            return Err(Error::NotANamespace(path.to_owned()));
        }
        let identity = Identity { device: status.st_dev, inode: status.st_ino };
        Ok(Self { handle: Arc::new(file.into()), identity })
    }

    /// Makes a namespace without a name; it is gone when the last handle, process and socket in it is.
    ///
    /// # Errors
    /// [`Error::Make`].
    pub fn make() -> Result<Self, Error> {
        on_thread(|| {
            sys::unshare_network().map_err(|errno| Error::Make(errno.into()))?;
            Self::current()
        })
        .map_err(Error::Make)?
    }

    /// Makes a namespace and binds it to a path, so that it stays until [`remove_named`] and others can open it. The
    /// directory is made and its mounts are shared with other mount namespaces, as `ip netns` does.
    ///
    /// # Errors
    /// [`Error::Path`], also when the path exists already; [`Error::Make`]. Nothing is left behind.
    pub fn make_named(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        prepare_directory(path.parent().unwrap_or(Path::new("/")))?;
        File::create_new(path).map_err(at(path, "make it"))?;
        let bound = on_thread(|| {
            sys::unshare_network().map_err(|errno| Error::Make(errno.into()))?;
            rustix::mount::mount_bind("/proc/thread-self/ns/net", path)
                .map_err(|errno| at(path, "mount it")(errno.into()))?;
            Self::open(path)
        })
        .map_err(Error::Make)
        .flatten();
        if bound.is_err() {
            let _ = remove_named(path);
        }
        bound
    }

    /// Which namespace it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Runs code inside. A panic in it goes on in the caller, back where it was.
    ///
    /// Sockets that it opens stay in the namespace, threads and processes that it starts run in it, and `/proc/sys/net` is the
    /// namespace's own.
    ///
    /// # Errors
    /// [`Error::Enter`], or that `/proc` is not mounted; the code did not run.
    pub fn run<T>(&self, code: impl FnOnce() -> T) -> Result<T, Error> {
        let home = Self::current()?;
        // Who may not come back must not go.
        home.enter().map_err(|source| home.cannot("come back to it", source))?;
        self.enter().map_err(|source| self.cannot("enter it", source))?;
        let _back = Return(home);
        Ok(code())
    }

    /// Moves the calling thread.
    fn enter(&self) -> io::Result<()> {
        Ok(rustix::thread::move_into_link_name_space(self.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    fn cannot(&self, action: &'static str, source: io::Error) -> Error {
        Error::Enter { namespace: self.clone(), action, source }
    }
}

impl Error {
    /// Whether the path does not exist, or no longer holds a namespace (a file from which it was unmounted).
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Path { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::NotANamespace(_) => true,
            _ => false,
        }
    }
}

/// Moves the calling thread back when it is dropped.
struct Return(Netns);

impl Drop for Return {
    fn drop(&mut self) {
        if let Err(error) = self.0.enter() {
            // Only without memory, or when the right to do it was given up meanwhile.
            tracing::error!(%error, namespace = %self.0, "a thread cannot be moved back to its network namespace");
            std::process::abort();
        }
    }
}

/// Takes a namespace's name away. The namespace itself goes with its last user. It is no error if it is gone already.
///
/// # Errors
/// [`Error::Path`] when it cannot be unmounted or the file cannot be removed.
pub fn remove_named(path: impl AsRef<Path>) -> Result<(), Error> {
    let path = path.as_ref();
    match rustix::mount::unmount(path, UnmountFlags::DETACH) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(at(path, "unmount it")(errno.into())),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, "remove it")(error)),
        _ => Ok(()),
    }
}

/// Takes back what [`Netns::make_named`] did to a directory: unmounts it from itself and removes it if it is empty.
///
/// # Errors
/// [`Error::Path`] when there are still namespaces in it.
pub fn remove_directory(path: impl AsRef<Path>) -> Result<(), Error> {
    let path = path.as_ref();
    // Unmounting would take the namespaces in it along.
    match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => return Err(at(path, "remove its directory")(io::ErrorKind::DirectoryNotEmpty.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(path, "list it")(error)),
    }
    match rustix::mount::unmount(path, UnmountFlags::DETACH) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(at(path, "unmount it")(errno.into())),
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, "remove it")(error)),
        _ => Ok(()),
    }
}

/// Mounts made below a shared directory are seen, and their removal too, in every mount namespace that has a copy of
/// it; only a mount point can be shared, so the directory becomes one.
fn prepare_directory(directory: &Path) -> Result<(), Error> {
    let shared = || rustix::mount::mount_change(directory, MountPropagationFlags::SHARED);
    fs::create_dir_all(directory).map_err(at(directory, "make the directory"))?;
    if shared().is_ok() {
        return Ok(());
    }
    rustix::mount::mount_bind(directory, directory)
        .and_then(|()| shared())
        .map_err(|errno| at(directory, "share its mounts")(errno.into()))
}

fn at<'a>(path: &'a Path, action: &'static str) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Path { path: path.to_owned(), action, source }
}

/// Runs code on a thread of its own; a panic goes on in the caller.
fn on_thread<T: Send>(code: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, code)?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
