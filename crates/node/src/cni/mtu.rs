//! The MTU of pods (control-plane.md 2.1): the configuration's, else that of the `mtu` file that nodes write beside
//! `nodename`, else what the node has found itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use api::cni::{CalicoConfig, code};
use api::wire::WireError;

use super::{Cni, refuse};

/// The file, beside the one with the node's name.
pub(crate) fn file(nodename_file: &Path) -> PathBuf {
    nodename_file.with_file_name("mtu")
}

/// The MTU for a pod; none leaves the kernel's default.
pub(super) fn of_pod(cni: &Cni, config: &CalicoConfig) -> Result<Option<u32>, WireError> {
    if config.mtu != 0 {
        return Ok(Some(config.mtu));
    }
    let file = file(&cni.nodename_file);
    match fs::read_to_string(&file) {
        Ok(text) => match text.trim().parse() {
            Ok(mtu) => Ok(Some(mtu)),
            Err(_) => {
                let msg = format!(
                    "{} holds {text:?}, not an MTU; restart the node, which writes it",
                    file.display()
                );
                Err(refuse(code::INVALID_CONFIG, msg))
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound && !config.require_mtu_file => Ok(cni.mtu),
        Err(error) => {
            let msg = format!("{}: {error}; the node writes it when it starts", file.display());
            Err(refuse(code::TRY_AGAIN_LATER, msg))
        }
    }
}
