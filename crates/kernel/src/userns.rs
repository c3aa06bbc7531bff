//! User namespaces: root over namespaces of one's own, without being root.
//!
//! Whoever makes a user namespace has every capability in it, so network and mount namespaces that belong to it can be
//! used as root uses the host's. Unlike everything in [`crate::netns`] this moves the whole process, which is allowed only
//! while it has one thread: so it is the first thing that a program does, or it is not done.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::ThreadNameSpaceType;

use crate::sys;

/// What can go wrong with a user namespace. Nothing has changed then, but for a half-made map of [`enter_new`], after
/// which the process can do nothing but end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system has none for us, or the process has threads already.
    #[error("cannot make a user namespace: {0}")]
    Make(io::Error),
    /// Root inside cannot be mapped to the user outside.
    #[error("cannot map the user namespace ({file}): {source}")]
    Map {
        /// The file that could not be written.
        file: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The namespaces of a process cannot be entered: it has ended, or is another user's.
    #[error("cannot enter the namespaces of process {process}: {source}")]
    Enter {
        /// Its number.
        process: u32,
        /// The system's error.
        source: io::Error,
    },
}

/// Moves this process, which must have one thread, into a user, mount and network namespace of its own, as root. Files
/// that it makes belong to the user outside; mounts that it makes are seen by it and its children only.
///
/// # Errors
/// [`Error::Make`], [`Error::Map`].
pub fn enter_new() -> Result<(), Error> {
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    sys::unshare_user_mount_network().map_err(|errno| Error::Make(errno.into()))?;
    // user_namespaces(7): groups can be mapped by the unprivileged only once setgroups(2) is given up.
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {user} 1"))?;
    write("/proc/self/gid_map", &format!("0 {group} 1"))
}

fn write(file: &'static str, text: &str) -> Result<(), Error> {
    fs::write(file, text).map_err(|source| Error::Map { file, source })
}

/// Moves this process, which must have one thread, into the user, mount and network namespaces of another one.
///
/// # Errors
/// [`Error::Enter`].
pub fn enter_of(process: u32) -> Result<(), Error> {
    let refused = |errno: rustix::io::Errno| Error::Enter { process, source: errno.into() };
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).ok_or(rustix::io::Errno::SRCH);
    let handle = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty())).map_err(refused)?;
    let kinds = ThreadNameSpaceType::USER | ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::NETWORK;
    rustix::thread::move_into_thread_name_spaces(handle.as_fd(), kinds).map_err(refused)
}
