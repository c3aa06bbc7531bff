//! The database file as the file system sees it: may it be used, is it still the same, and has it been written to?
//!
//! It is never opened here: closing any descriptor of the file would drop the locks that SQLite holds on it in this
//! process (POSIX advisory locks, fcntl(2)). Everything is done by path.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, Mode, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;

use super::error::{self, Failure, unavailable};
use crate::StoreError;

/// `f_type` of statfs(2) for file systems that other machines may write to: NFS, SMB, CIFS, SMB2 (linux/magic.h).
const NETWORK_FILE_SYSTEMS: [(i64, &str); 4] =
    [(0x6969, "NFS"), (0x517b, "SMB"), (0xff53_4d42, "CIFS"), (0xfe53_4d42, "SMB")];

/// A database file that exists, by absolute path and inode.
#[derive(Debug, Clone)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Makes the path absolute and checks that a datastore can be opened or made there.
pub(super) fn check_usable(path: &Path) -> Result<PathBuf, StoreError> {
    let named = |reason: String| unavailable(path, reason, false);
    let Some(name) = path.file_name() else {
        return Err(named("is not the name of a file".to_owned()));
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let folder = parent.canonicalize().map_err(|error| {
        named(format!("its folder {} cannot be used ({error}); make it first", parent.display()))
    })?;
    check_file_system(path, &folder)?;
    check_access(path, &folder, "its folder")?;
    let absolute = folder.join(name);
    match absolute.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(named("is a folder; name a file in it".to_owned())),
        Ok(metadata) if !metadata.is_file() => Err(named("is not an ordinary file".to_owned())),
        Ok(_) => check_access(path, &absolute, "it").map(|()| absolute),
        Err(_) => Ok(absolute),
    }
}

fn check_file_system(path: &Path, folder: &Path) -> Result<(), StoreError> {
    let Ok(statistics) = rustix::fs::statfs(folder) else { return Ok(()) };
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)] // `f_type` has another width elsewhere.
    let magic = statistics.f_type as i64 & 0xffff_ffff;
    match NETWORK_FILE_SYSTEMS.iter().find(|(known, _)| *known == magic) {
        Some((_, name)) => Err(unavailable(
            path,
            format!(
                "is on a network file system ({name}), where processes cannot share it safely; use a local one"
            ),
            false,
        )),
        None => Ok(()),
    }
}

fn check_access(named: &Path, path: &Path, what: &str) -> Result<(), StoreError> {
    let wanted = Access::READ_OK | Access::WRITE_OK;
    let reason = match rustix::fs::accessat(CWD, path, wanted, AtFlags::EACCESS) {
        Ok(()) => return Ok(()),
        Err(Errno::ROFS) => format!("{what} is on a file system that is mounted read-only"),
        Err(Errno::ACCESS | Errno::PERM) => {
            format!(
                "{what} is read-only, or not to be read, for this user; change its permissions or the user"
            )
        }
        Err(errno) => format!("{what} cannot be used ({})", std::io::Error::from(errno)),
    };
    Err(unavailable(named, reason, false))
}

impl DatabaseFile {
    /// The file at a path, as it is now.
    pub(super) fn at(path: PathBuf) -> Result<Self, StoreError> {
        let metadata = path
            .metadata()
            .map_err(|error| unavailable(&path, format!("cannot be used ({error})"), false))?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino(), path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the path still names the file that is open. Without it, writes after a removal would go into a file
    /// that nobody else sees.
    pub(super) fn verify(&self) -> Result<(), StoreError> {
        match self.path.metadata() {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == (self.device, self.inode) => Ok(()),
            Ok(_) => Err(unavailable(&self.path, "was replaced by another file; restart to use that", false)),
            Err(error) => Err(unavailable(
                &self.path,
                format!("was removed or cannot be reached ({error}); restart to begin anew"),
                false,
            )),
        }
    }

    /// Tells all watchers that something was committed: they see the change of the modification time as `IN_ATTRIB`.
    /// If it fails they notice within a second anyway.
    pub(super) fn touch(&self) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        if let Err(error) = rustix::fs::utimensat(CWD, &self.path, &times, AtFlags::empty()) {
            tracing::debug!(path = %self.path.display(), %error, "watchers were not woken");
        }
    }

    /// Lets only the owner read and write it; SQLite gives the files beside it the same mode.
    pub(super) fn make_private(path: &Path) -> std::io::Result<()> {
        Ok(rustix::fs::chmodat(CWD, path, Mode::RUSR | Mode::WUSR, AtFlags::empty())?)
    }

    pub(super) fn store_error(&self, failure: Failure) -> StoreError {
        match failure {
            Failure::Store(error) => error,
            Failure::Sql(error) => error::explain(&self.path, &error),
        }
    }
}
