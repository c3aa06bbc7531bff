//! What an ADD has to pass before anything is made.

use api::cni::{CalicoConfig, code};
use api::wire::WireError;
use datastore::objects;

use super::sandbox::Sandbox;
use super::{Cni, gates, later, refuse};

/// Refuses what this node cannot or must not serve.
pub(super) fn admit(cni: &Cni, sandbox: &Sandbox) -> Result<(), WireError> {
    check_dataplane(&sandbox.config)?;
    check_node_name(cni, &sandbox.config)?;
    check_datastore_ready(cni)?;
    gates::wait(&sandbox.config.readiness_gates)
}

fn check_dataplane(config: &CalicoConfig) -> Result<(), WireError> {
    let dataplane = config.dataplane_options.get("type").and_then(|kind| kind.as_str()).unwrap_or_default();
    let device = config.device_type.as_deref().unwrap_or_default();
    let only = |field: &str, value: &str, good: &str| {
        if value == good || value.is_empty() {
            return Ok(());
        }
        let msg = format!("{field} {value:?} is not supported; leave it out, or set it to {good:?}");
        Err(refuse(code::UNSUPPORTED_FIELD, msg))
    };
    only("dataplane_options.type", dataplane, "default")?;
    only("device_type", device, "veth")
}

/// The configuration's idea of this node has to be ours; one that has none relies on the file that we wrote.
fn check_node_name(cni: &Cni, config: &CalicoConfig) -> Result<(), WireError> {
    match config.nodename.as_ref().or(config.hostname.as_ref()).filter(|name| !name.is_empty()) {
        Some(name) if name.eq_ignore_ascii_case(&cni.node_name) => Ok(()),
        Some(name) => {
            let msg = format!(
                "nodename {name:?} is not this node, which is {:?}; correct nodename in the CNI configuration, or NODENAME \
                 of the node",
                cni.node_name
            );
            Err(refuse(code::INVALID_CONFIG, msg))
        }
        None => {
            let file = config.nodename_file.as_ref().unwrap_or(&cni.nodename_file);
            if config.nodename_file_optional || file.exists() {
                return Ok(());
            }
            let msg = format!(
                "{} does not exist; the node writes it when it starts: check that `tortie node` runs with the same \
                 CALICO_NODENAME_FILE, or set nodename",
                file.display()
            );
            Err(refuse(code::TRY_AGAIN_LATER, msg))
        }
    }
}

/// A datastore that says it is not ready (an upgrade, a migration) must not be written to.
fn check_datastore_ready(cni: &Cni) -> Result<(), WireError> {
    let found =
        objects::read::<api::ClusterInformationSpec>(cni.store.as_ref(), &api::Metadata::named("default"));
    match found {
        Ok(Some((information, _))) if information.spec.datastore_ready == Some(true) => Ok(()),
        Ok(Some(_)) => Err(later(
            "the datastore is not ready to process requests: datastoreReady of ClusterInformation default is not true \
             (a migration or upgrade sets it back when it is done)",
        )),
        Ok(None) => Err(later(
            "the datastore is not ready to process requests: there is no ClusterInformation default; a node makes it when \
             it starts",
        )),
        Err(error) => Err(later(error)),
    }
}
