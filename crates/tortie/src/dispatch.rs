//! Which program runs: decided by the name under which the binary is called.

use std::ffi::OsStr;
use std::path::Path;

use cni::Plugin;

/// What the binary can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// `tortie`: everything, by subcommand.
    Tortie,
    /// `calicoctl`.
    Calicoctl,
    /// A CNI plugin.
    Plugin(Plugin),
}

/// The program that `argv[0]` asks for: by its file name, whatever folder it is called from.
pub(crate) fn program(argv0: Option<&OsStr>) -> Program {
    let name = argv0.map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str);
    match name {
        Some("calicoctl") => Program::Calicoctl,
        Some("calico") => Program::Plugin(Plugin::Calico),
        Some("calico-ipam") => Program::Plugin(Plugin::CalicoIpam),
        _ => Program::Tortie,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(argv0: &str) -> Program {
        program(Some(OsStr::new(argv0)))
    }

    #[test]
    fn the_file_name_decides() {
        assert_eq!(called("calicoctl"), Program::Calicoctl);
        assert_eq!(called("calico"), Program::Plugin(Plugin::Calico));
        assert_eq!(called("calico-ipam"), Program::Plugin(Plugin::CalicoIpam));
        assert_eq!(called("tortie"), Program::Tortie);
    }

    #[test]
    fn folders_do_not_matter() {
        assert_eq!(called("/opt/cni/bin/calico"), Program::Plugin(Plugin::Calico));
        assert_eq!(called("./calico-ipam"), Program::Plugin(Plugin::CalicoIpam));
        assert_eq!(called("/calico/tortie"), Program::Tortie);
    }

    #[test]
    fn any_other_name_is_tortie() {
        assert_eq!(called("tortie-0.1.0"), Program::Tortie);
        assert_eq!(called("calico.bak"), Program::Tortie);
        assert_eq!(called(""), Program::Tortie);
        assert_eq!(program(None), Program::Tortie);
    }
}
