//! Network namespaces of pods.

use std::path::PathBuf;

use kernel::netns::{self, Netns};

use crate::world::World;

/// A named namespace, as container runtimes make them. Dropping it removes the name.
pub(crate) struct PodNamespace {
    path: PathBuf,
}

impl PodNamespace {
    /// Makes one.
    pub(crate) fn new(world: &World, name: &str) -> Self {
        let path = world.path("netns").join(name);
        Netns::make_named(&path).unwrap_or_else(|error| panic!("{error}"));
        Self { path }
    }

    /// CNI_NETNS.
    pub(crate) fn path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Runs a program inside and gives its standard output.
    pub(crate) fn command(&self, line: &str) -> String {
        let namespace = Netns::open(&self.path).expect("our own namespace");
        let mut words = line.split_whitespace();
        let program = words.next().expect("a command has a program");
        let run = || std::process::Command::new(program).args(words).output();
        let output = namespace.run(run).expect("our own namespace").unwrap_or_else(|e| panic!("{line}: {e}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {}: {said}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A setting inside.
    pub(crate) fn sysctl(&self, name: &str) -> String {
        let file = format!("/proc/sys/{}", name.replace('.', "/"));
        let namespace = Netns::open(&self.path).expect("our own namespace");
        let read = || std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        namespace.run(read).expect("our own namespace").trim().to_owned()
    }

    /// Puts an interface of somebody else in the way of `eth0`.
    pub(crate) fn occupy(&self, interface: &str) {
        self.command(&format!("ip link add {interface} type veth peer name stranger"));
    }
}

impl Drop for PodNamespace {
    fn drop(&mut self) {
        let _ = netns::remove_named(&self.path);
        if let Some(folder) = self.path.parent() {
            // Fails while there are others in it; the last one succeeds.
            let _ = netns::remove_directory(folder);
        }
    }
}
