//! One process for each node's name: a lock beside the embedded datastore, which all processes of a machine share.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// How long the kernel may take to let go of what an ended process had.
const SOON: Duration = Duration::from_secs(2);

/// Holds the name of a node until dropped; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct NameLock(File);

/// Why a name cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NameError {
    /// Another process runs a node of this name.
    #[error(
        "another process runs node {node} on this datastore already (it holds {}): stop it, have this one take over \
         its sessions (--take-over), or set NODENAME to another name",
        path.display()
    )]
    Taken {
        /// The name.
        node: String,
        /// The lock.
        path: PathBuf,
    },
    /// The lock itself cannot be used.
    #[error("cannot lock {}: {source}", path.display())]
    Io {
        /// The lock.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The name of a process that starts, which has it, or takes it over from another one.
#[derive(Debug)]
pub(crate) struct NameClaim {
    datastore: PathBuf,
    node: String,
    lock: Option<NameLock>,
}

impl NameClaim {
    /// Takes the name at once, unless a process that runs has it and gives it away.
    ///
    /// # Errors
    /// As [`NameLock::take`].
    pub(crate) fn new(datastore: &Path, node: &str, is_given: bool) -> Result<Self, NameError> {
        let lock = if is_given { None } else { Some(NameLock::take(datastore, node)?) };
        Ok(Self { datastore: datastore.to_owned(), node: node.to_owned(), lock })
    }

    /// The name: as before, as the other process has given it, or anew once that has ended.
    ///
    /// # Errors
    /// As [`NameLock::take`].
    pub(crate) fn settle(self, given: Option<OwnedFd>) -> Result<NameLock, NameError> {
        match (self.lock, given) {
            (Some(lock), _) => Ok(lock),
            // It was never free.
            (None, Some(file)) => Ok(NameLock(file.into())),
            (None, None) => NameLock::take_soon(&self.datastore, &self.node),
        }
    }
}

impl NameLock {
    /// It, for another process: it is free when nobody has it open any more.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.0.try_clone().map(OwnedFd::from)
    }

    /// As [`NameLock::take`], for a name whose process has just ended.
    ///
    /// # Errors
    /// Likewise.
    fn take_soon(datastore: &Path, node: &str) -> Result<Self, NameError> {
        let deadline = Instant::now() + SOON;
        loop {
            match Self::take(datastore, node) {
                Err(NameError::Taken { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                outcome => return outcome,
            }
        }
    }

    /// Takes the name of a node on an embedded datastore.
    ///
    /// # Errors
    /// Another process has it, or the lock's file cannot be made.
    fn take(datastore: &Path, node: &str) -> Result<Self, NameError> {
        let mut path = datastore.as_os_str().to_owned();
        path.push(format!("-node-{node}.lock"));
        let path = PathBuf::from(path);
        let io = |source| NameError::Io { path: path.clone(), source };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(NameError::Taken { node: node.to_owned(), path }),
            Err(error) => Err(io(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_held_once_and_is_free_again_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let datastore = folder.path().join("tortie.db");
        let first = NameLock::take(&datastore, "node-1").unwrap();
        let error = NameLock::take(&datastore, "node-1").unwrap_err().to_string();
        assert!(error.contains("another process runs node node-1") && error.contains("NODENAME"), "{error}");
        NameLock::take(&datastore, "node-2").unwrap();
        drop(first);
        NameLock::take(&datastore, "node-1").unwrap();
    }
}
