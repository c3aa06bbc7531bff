//! The cluster that a question is about: what the datastore holds, or what files say.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use api::documents::{self, Observed};
use api::kubernetes::{
    DEFAULT_INTERFACE_PREFIX, NAMESPACE_LABEL_PREFIX, Namespace, Pod, ServiceAccount, namespace_profile,
    namespace_profile_name, pod_endpoint, service_account_profile,
};
use api::{Kind, Metadata, Resource, Row};
use calc::cluster::Cluster;
use clap::Args;
use datastore::{Scope, Store};

use crate::Console;
use crate::cli::Global;
use crate::files::FileArgs;
use crate::session::{Access, Session};

/// Pods of files that say neither node nor address are put here.
const NO_NODE: &str = "(no node)";

/// Which cluster.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Look at this file (or folder, or - for standard input) of resources, Kubernetes NetworkPolicies, Namespaces and
    /// Pods, instead of the datastore (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
}

impl ClusterArgs {
    /// Everything that decides on packets. What had to be assumed goes to standard error.
    pub(crate) fn load(&self, global: &Global, console: &mut Console<'_>) -> Result<Cluster> {
        if self.file.is_empty() {
            let session = Session::open(global, console, Access::Existing)?;
            let (cluster, notes) = of_store(session.store())?;
            return noted(cluster, &notes, console);
        }
        let (cluster, notes) = of_files(&FileArgs::of(self.file.clone()), console)?;
        noted(cluster, &notes, console)
    }
}

/// The cluster, when what there is to say of it is said.
fn noted(cluster: Cluster, notes: &[String], console: &mut Console<'_>) -> Result<Cluster> {
    for note in notes {
        writeln!(console.errors, "{note}")?;
    }
    Ok(cluster)
}

/// All rows of a datastore that have a say, and what of them cannot be read.
pub(crate) fn of_store(store: &dyn Store) -> Result<(Cluster, Vec<String>)> {
    let kinds = Cluster::KINDS.into_iter().map(Scope::all);
    let scopes: Vec<Scope> = kinds.chain([Scope::Blocks, Scope::BlockAffinities { host: None }]).collect();
    let (mut cluster, mut notes) = (Cluster::default(), Vec::new());
    for entry in store.list_scopes(&scopes)?.entries {
        // As a node takes it: what it cannot read opens nothing.
        match Row::decode_closed(&entry.key, &entry.value) {
            Ok((row, problems)) => {
                let problem = |problem| format!("{}: {problem}; nothing is allowed by that", entry.key);
                notes.extend(problems.iter().map(problem));
                cluster.set(entry.key.clone(), Some(Arc::new(row)));
            }
            Err(error) => notes.push(format!("{error}; it counts as not there")),
        }
    }
    Ok((cluster, notes))
}

/// What files say, and what had to be assumed: Kubernetes would have filled it in.
fn of_files(files: &FileArgs, console: &mut Console<'_>) -> Result<(Cluster, Vec<String>)> {
    let mut reader = Reader::default();
    for (source, text) in files.texts(console)? {
        let (documents, observed) = documents::load_cluster(&text).map_err(|errors| {
            let lines: Vec<_> = errors.0.iter().map(|error| format!("{source}: {error}")).collect();
            anyhow!(lines.join("\n"))
        })?;
        documents.into_iter().for_each(|document| reader.cluster.put(labelled(document.into_resource())));
        for object in observed {
            match object {
                Observed::Pod(pod) => reader.pod(*pod).with_context(|| source.clone())?,
                Observed::Service(service) => reader.cluster.put_service(service),
                Observed::EndpointSlice(slice) => reader.cluster.put_endpoint_slice(slice),
            }
        }
    }
    reader.namespaces()?;
    Ok((reader.cluster, reader.notes))
}

#[derive(Default)]
struct Reader {
    cluster: Cluster,
    notes: Vec<String>,
    /// Namespaces of pods, and their accounts.
    accounts: BTreeSet<(String, String)>,
    /// Pods that got an address here.
    addressed: u16,
}

impl Reader {
    fn pod(&mut self, mut pod: Pod) -> Result<()> {
        let namespace = pod.metadata.namespace.get_or_insert_with(|| "default".to_owned()).clone();
        let name = format!("Pod {namespace}/{}", pod.metadata.name);
        if pod.spec.host_network {
            self.notes.push(format!("{name} is on its host's network; policy sees the host instead"));
            return Ok(());
        }
        if pod.spec.node_name.is_empty() {
            pod.spec.node_name = NO_NODE.to_owned();
        }
        if pod.spec.service_account_name.is_empty() {
            pod.spec.service_account_name = "default".to_owned();
        }
        if pod.status.pod_ip.is_empty() && pod.status.pod_ips.is_empty() {
            let address = self.made_up_address();
            self.notes.push(format!("{name} has no status.podIP; it is taken to have {address}"));
            pod.status.pod_ip = address.to_string();
        }
        self.accounts.insert((namespace, pod.spec.service_account_name.clone()));
        let converted =
            pod_endpoint(&pod, DEFAULT_INTERFACE_PREFIX).map_err(|error| anyhow!("{name}: {error}"))?;
        self.cluster.put(converted.endpoint.into());
        Ok(())
    }

    /// One of 198.18.0.0/15, which no cluster has (RFC 2544).
    fn made_up_address(&mut self) -> IpAddr {
        self.addressed += 1;
        let [high, low] = self.addressed.to_be_bytes();
        Ipv4Addr::new(198, 18, high, low).into()
    }

    /// Pods are in namespaces that exist, and run as accounts that do.
    fn namespaces(&mut self) -> Result<()> {
        let there: BTreeSet<String> =
            self.cluster.resources(Kind::Profile).map(|profile| profile.metadata().name.clone()).collect();
        for (namespace, account) in std::mem::take(&mut self.accounts) {
            if !there.contains(&namespace_profile_name(&namespace)) {
                let made = Namespace { metadata: Metadata::named(&namespace) };
                self.cluster.put(labelled(namespace_profile(&made)?.into()));
                let note = format!("Namespace {namespace} is in no file; it is taken to have no labels");
                if !self.notes.contains(&note) {
                    self.notes.push(note);
                }
            }
            let metadata = Metadata { namespace: Some(namespace), ..Metadata::named(account) };
            let profile = service_account_profile(&ServiceAccount { metadata })?;
            if !there.contains(&profile.metadata.name) {
                self.cluster.put(profile.into());
            }
        }
        Ok(())
    }
}

/// A namespace has its name as a label; Kubernetes sees to that.
fn labelled(mut resource: Resource) -> Resource {
    if let Resource::Profile(profile) = &mut resource
        && let Some(namespace) = api::kubernetes::namespace_of_profile(&profile.metadata.name)
    {
        let label = format!("{NAMESPACE_LABEL_PREFIX}kubernetes.io/metadata.name");
        let namespace = namespace.to_owned();
        profile.spec.labels_to_apply.entry(label).or_insert(namespace);
    }
    resource
}
