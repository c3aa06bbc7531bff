//! The profile that a sandbox's endpoint relies on.
//!
//! On a cluster, controllers make `kns.` profiles from namespaces, with the annotations that concern CNI. Without them a
//! pod's namespace has to be known all the same, or its traffic would be denied.

use api::kubernetes::{self, Namespace};
use api::wire::WireError;
use api::{Action, EntityRule, Metadata, Profile, ProfileSpec, Rule};
use datastore::{Store, StoreError, objects};

use super::failed;
use super::sandbox::Sandbox;

/// What is there of the profiles of a sandbox, read once.
#[derive(Debug)]
pub(super) struct Profiles {
    /// The profile of the pod's namespace.
    namespace: Option<Profile>,
}

impl Profiles {
    /// Reads what is there.
    pub(super) fn read(store: &dyn Store, sandbox: &Sandbox) -> Result<Self, WireError> {
        if sandbox.pod.is_none() {
            return Ok(Self { namespace: None });
        }
        let name = Metadata::named(kubernetes::namespace_profile_name(sandbox.namespace()));
        let found = objects::read::<ProfileSpec>(store, &name).map_err(failed)?;
        Ok(Self { namespace: found.map(|(profile, _)| profile) })
    }

    /// An annotation of the pod's namespace.
    pub(super) fn namespace_annotation(&self, name: &str) -> Option<&str> {
        self.namespace.as_ref()?.metadata.annotations.get(name).map(String::as_str)
    }

    /// Makes the profile of the endpoint, when there is none.
    pub(super) fn ensure(&self, store: &dyn Store, sandbox: &Sandbox) -> Result<(), StoreError> {
        if sandbox.uses_kubernetes_policy() {
            return match (&self.namespace, of_namespace(sandbox)) {
                (None, Some(profile)) => objects::create_if_absent(store, profile).map(drop),
                // There is one; or the name is no namespace's, which the endpoint's own validation says.
                _ => Ok(()),
            };
        }
        let profile = of_network(sandbox);
        // Reading is cheaper than a write that is refused.
        match objects::read::<ProfileSpec>(store, &profile.metadata)? {
            Some(_) => Ok(()),
            None => objects::create_if_absent(store, profile).map(drop),
        }
    }
}

fn of_namespace(sandbox: &Sandbox) -> Option<Profile> {
    let mut namespace = Namespace { metadata: Metadata::named(sandbox.namespace()) };
    let label = ("kubernetes.io/metadata.name".to_owned(), sandbox.namespace().to_owned());
    namespace.metadata.labels.extend([label]);
    kubernetes::namespace_profile(&namespace).ok()
}

/// The network's: for pods it allows everything (a network without Kubernetes' policy); for other containers it lets
/// members of the network in, and everything out.
fn of_network(sandbox: &Sandbox) -> Profile {
    let network = sandbox.config.name();
    let mut incoming = Rule::new(Action::Allow);
    let mut spec = ProfileSpec { egress: vec![Rule::new(Action::Allow)], ..ProfileSpec::default() };
    if sandbox.pod.is_none() {
        incoming.source = EntityRule { selector: format!("has({network})"), ..EntityRule::default() };
        spec.labels_to_apply = [(network.to_owned(), String::new())].into();
    }
    spec.ingress = vec![incoming];
    Profile::new(Metadata::named(network), spec)
}
