//! The few calls that cannot be made without `unsafe`.
#![allow(
    unsafe_code,
    reason = "unshare(2) has no safe wrapper: it may take a file table from under other threads"
)]

use rustix::thread::UnshareFlags;

/// Moves the calling thread into a network namespace that nobody else has.
pub(crate) fn unshare_network() -> rustix::io::Result<()> {
    // SAFETY: the danger is in CLONE_FILES, which makes descriptors of other threads invalid here. CLONE_NEWNET
    // changes only the calling thread's network namespace.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
}

/// Moves the calling process, if it has a single thread, into user, mount and network namespaces that nobody else has.
pub(crate) fn unshare_user_mount_network() -> rustix::io::Result<()> {
    let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNS | UnshareFlags::NEWNET;
    // SAFETY: as above, CLONE_FILES is not among the flags. CLONE_NEWUSER fails when there are other threads, so no
    // other thread's credentials or working directory change either.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}
