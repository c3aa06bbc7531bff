//! An opened datastore.

use std::sync::Arc;

use ::ipam::Ipam;
use anyhow::{Context, Result, bail};
use api::{Kind, Resource};
use datastore::resources::Resources;
use datastore::{DatastoreConfig, Store};

use crate::Console;
use crate::cli::Global;

/// Whether a datastore that is not there is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// It is: what is to be read or changed cannot be in it.
    Existing,
    /// It is made.
    MayCreate,
}

/// An opened datastore.
pub(crate) struct Session {
    store: Arc<dyn Store>,
}

impl Session {
    /// Opens the datastore and refuses a cluster of another version, unless that is allowed.
    pub(crate) fn open(global: &Global, console: &Console<'_>, access: Access) -> Result<Self> {
        let session = Self::open_any_version(global, console, access)?;
        let client = env!("CARGO_PKG_VERSION");
        if let (false, Some(cluster)) = (global.allow_version_mismatch, session.cluster_version()?)
            && cluster.trim_start_matches('v') != client
        {
            bail!(
                "Version mismatch.\nClient Version:   {client}\nCluster Version:  {cluster}\n\
                 Use the calicoctl of that version, or --allow-version-mismatch to override."
            );
        }
        Ok(session)
    }

    pub(crate) fn open_any_version(global: &Global, console: &Console<'_>, access: Access) -> Result<Self> {
        let config = DatastoreConfig::load(global.config.as_deref(), console.variable)?;
        if let Some(context) = &global.context {
            bail!(
                "--context {context} chooses a Kubernetes cluster, and the embedded datastore is none; remove it"
            );
        }
        tracing::debug!(?config, ?access, "opening the datastore");
        let store = match access {
            Access::Existing => config.open_existing(),
            Access::MayCreate => config.open(),
        }?;
        Ok(Self { store })
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub(crate) fn resources(&self) -> Resources<'_> {
        Resources::new(&*self.store)
    }

    pub(crate) fn ipam(&self) -> Ipam {
        Ipam::new(self.store.clone())
    }

    /// What the nodes say of the cluster; `None` when none has started yet.
    pub(crate) fn cluster(&self) -> Result<Option<api::ClusterInformation>> {
        match self.resources().get(Kind::ClusterInformation, None, "default") {
            Ok(Resource::ClusterInformation(information)) => Ok(Some(*information)),
            Ok(_) => Ok(None),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error).context("the cluster's version cannot be read"),
        }
    }

    fn cluster_version(&self) -> Result<Option<String>> {
        let version = self.cluster()?.map(|information| information.spec.calico_version);
        Ok(version.filter(|version| !version.is_empty()))
    }
}
