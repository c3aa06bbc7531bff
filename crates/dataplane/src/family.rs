//! One family: its managers over its backend.

use std::time::Instant;

use calc::contract::{Change, IpVersion};
use kernel::nft::Transport;

use crate::backend::BackendError;
use crate::choice::{Backends, HasSink, Kind};
use crate::config::Parameters;
use crate::model::Model;
use crate::rules::FamilyRules;

/// The managers of a family and the backend that they write to.
#[derive(Debug)]
pub(crate) struct Family<B> {
    pub(crate) rules: FamilyRules,
    pub(crate) backend: B,
    version: IpVersion,
}

impl<B: HasSink> Family<B> {
    pub(crate) fn new(version: IpVersion, backend: B) -> Self {
        Self { rules: FamilyRules::new(version), backend, version }
    }

    pub(crate) fn version(&self) -> IpVersion {
        self.version
    }

    /// Takes in a change of an IP set.
    pub(crate) fn on_ip_set(&mut self, change: &Change, model: &Model) {
        match change {
            Change::IpSetUpdate { id, kind, members } => {
                self.rules.set_ip_set(id, *kind, members, model, self.backend.sink());
            }
            Change::IpSetDelta { id, added, removed } => {
                self.rules.change_ip_set(id, removed, added, model, self.backend.sink());
            }
            Change::IpSetRemove { id } => self.rules.remove_ip_set(id, self.backend.sink()),
            _ => {}
        }
    }
}

impl<N: Transport> Family<Backends<N>> {
    /// Another backend enforces from now on: everything is written to it, which has nothing of it yet.
    pub(crate) fn activate(&mut self, kind: Kind, model: &Model) {
        self.backend.activate(kind);
        let rules = std::mem::replace(&mut self.rules, FamilyRules::new(self.version));
        self.rules = rules.begun_anew(model);
    }

    /// Brings the kernel to what is wanted. Gives what cannot be programmed.
    pub(crate) fn apply(
        &mut self,
        model: &Model,
        parameters: &Parameters,
        now: Instant,
    ) -> Result<Vec<String>, BackendError> {
        let backend = self.backend.backend();
        self.rules.render(model, parameters, backend);
        backend.apply(now)?;
        Ok(backend.faults())
    }
}
