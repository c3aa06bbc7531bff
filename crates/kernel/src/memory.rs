//! How the process uses its memory.
//!
//! A node takes in the whole cluster at start-up and keeps a small part of it. With glibc's defaults every thread has a
//! heap of its own, so that what the reading thread has freed is never used again by the calculating one, and both stay
//! resident: more than twice what is in use. Other C libraries have one heap; there is nothing to be done there.
#![allow(unsafe_code, reason = "mallopt(3) and malloc_trim(3) have no safe wrappers")]

/// Lets all threads share one heap. Call it before the first thread is started; threads that allocate all the time would
/// pay for it, ours mostly wait.
pub fn share_one_heap() {
    // SAFETY: glibc allows it at any time; the parameter only limits how many heaps are made from now on. When it is
    // refused (0), the heap is merely larger.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives memory that is free, but still resident, back to the kernel: after a peak that will not soon come again.
/// Takes a few milliseconds.
pub fn give_back() {
    // SAFETY: it takes the allocator's own locks and touches free memory only.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
