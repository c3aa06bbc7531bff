//! Network namespaces for tests: fresh, private, gone on drop.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// Says clearly that a test needs root, instead of letting it fail somewhere inside.
///
/// # Panics
/// When the process does not run as root.
pub fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes network namespaces and needs root: run it as root (`sudo -E make test`)"
    );
}

/// A fresh network namespace with nothing in it but a loopback that is down. It vanishes, with everything in it,
/// when this is dropped (also by a panic) and the processes in it have ended.
#[derive(Debug)]
pub struct TestNamespace {
    handle: OwnedFd,
}

impl AsFd for TestNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl Default for TestNamespace {
    fn default() -> Self {
        Self::new()
    }
}

impl TestNamespace {
    /// Makes one.
    ///
    /// # Panics
    /// When not root, or the kernel refuses.
    pub fn new() -> Self {
        require_root();
        let made = std::thread::spawn(|| {
            // What is unsound about this function is CLONE_FILES; a new network namespace is not.
            #[allow(deprecated)]
            rustix::thread::unshare(UnshareFlags::NEWNET).expect("root can make a network namespace");
            File::open("/proc/thread-self/ns/net").expect("/proc is mounted")
        });
        let handle = made.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Self { handle: handle.into() }
    }

    /// A path by which any process can open the namespace while this exists.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.handle.as_raw_fd()).into()
    }

    /// Runs code inside, on a thread of its own. A panic goes on in the caller.
    ///
    /// # Panics
    /// When the namespace cannot be entered.
    pub fn run<T: Send>(&self, code: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                rustix::thread::move_into_link_name_space(self.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("a namespace that we hold open can be entered");
                code()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a program inside and gives all that it said.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Output {
        self.run(|| {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null());
            command.output().unwrap_or_else(|error| panic!("{program}: {error}"))
        })
    }

    /// Runs a program inside, given as one line split at spaces, and gives its standard output.
    ///
    /// # Panics
    /// When it cannot be started or fails; the message holds what it said.
    pub fn command(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let program = words.next().expect("a command has a program");
        let output = self.output(program, &words.collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {}: {said}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_fresh_private_and_runs_commands_inside() {
        let (one, other) = (TestNamespace::new(), TestNamespace::new());
        one.command("ip link add probe type veth peer name probe-peer");
        assert!(one.command("ip -brief link").contains("probe"));
        assert!(!other.command("ip -brief link").contains("probe"));
        assert_eq!(
            one.run(|| std::fs::read_to_string("/proc/sys/net/ipv4/conf/probe/proxy_arp").unwrap()),
            "0\n"
        );
        assert!(File::open(one.path()).is_ok());
    }
}
