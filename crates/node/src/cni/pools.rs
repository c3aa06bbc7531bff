//! Which pools a sandbox's addresses come from: the pod's annotation says so before the namespace's, and that before the
//! configuration; each by names or CIDRs (control-plane.md 2.2).

use api::wire::WireError;
use api::{Kind, Resource, Row};
use datastore::Scope;
use ipnet::IpNet;

use super::addresses::strings;
use super::profile::Profiles;
use super::sandbox::Sandbox;
use super::{Cni, failed};

/// Chooses the pools of a sandbox.
pub(super) struct Chooser<'a> {
    pub(super) cni: &'a Cni,
    pub(super) sandbox: &'a Sandbox,
    pub(super) profiles: &'a Profiles,
}

impl Chooser<'_> {
    /// The pools of one family; none: all.
    pub(super) fn wanted(&self, name: &str, configured: &[String]) -> Result<Vec<IpNet>, WireError> {
        let key = format!("cni.projectcalico.org/{name}");
        let annotated = self.sandbox.annotation(&key).or_else(|| self.profiles.namespace_annotation(&key));
        let words = match annotated {
            Some(text) => strings(self.sandbox, name, text)?,
            None => configured.to_vec(),
        };
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let known = known_pools(self.cni)?;
        words
            .iter()
            .map(|word| find(&known, word).ok_or_else(|| unknown(self.sandbox, word, &known)))
            .collect()
    }
}

fn known_pools(cni: &Cni) -> Result<Vec<(String, IpNet)>, WireError> {
    let entries = cni.store.list(&Scope::all(Kind::IPPool)).map_err(failed)?.entries;
    let pools = entries.iter().filter_map(|entry| match Row::decode(&entry.key, &entry.value) {
        Ok(Row::Resource(Resource::IPPool(pool))) => Some((pool.metadata.name.clone(), pool.spec.cidr.net())),
        _ => None,
    });
    Ok(pools.collect())
}

fn find(known: &[(String, IpNet)], word: &str) -> Option<IpNet> {
    let cidr = word.parse::<IpNet>().ok().map(|cidr| cidr.trunc());
    known.iter().find(|(name, net)| name == word || Some(*net) == cidr).map(|(_, net)| *net)
}

fn unknown(sandbox: &Sandbox, word: &str, known: &[(String, IpNet)]) -> WireError {
    let names: Vec<_> = known.iter().map(|(name, cidr)| format!("{name} ({cidr})")).collect();
    let there_are = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    sandbox.invalid(format!("there is no IPPool {word:?}; there are: {there_are}"))
}
