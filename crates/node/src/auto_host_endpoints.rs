//! Automatic host endpoints: what KubeControllersConfiguration asks for under `controllers.node.hostEndpoint`.
//!
//! Calico's node controller makes them for all nodes. Here each node makes its own, from its Node resource, and takes away
//! those that are no longer asked for; whether one is automatic is said by a label. Nothing is done before the datastore is in
//! sync: a configuration that has not arrived yet must not look like none.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use api::selector::Selector;
use api::{
    AutoHostEndpointConfig, CREATED_BY_LABEL, HostEndpoint, HostEndpointSpec, HostEndpointTemplate, Key,
    Kind, KubeControllersConfiguration, Metadata, Node, Resource, Row, Switch,
};
use datastore::resources::{ResourceError, Resources};
use datastore::{Scope, Store, StoreError, SyncEvent, Update};

/// The end of every name.
const SUFFIX: &str = "auto-hep";
/// Allows what no policy denies.
const PROFILE: &str = "projectcalico-default-allow";
/// The pause after the datastore could not be written.
const RETRY: Duration = Duration::from_secs(5);
/// How long to sleep when there is nothing to try again.
const IDLE: Duration = Duration::from_secs(3600);

/// The rows that are followed here besides the agent's.
pub(crate) fn scope() -> Scope {
    Scope::all(Kind::KubeControllersConfiguration)
}

/// Where news goes. The endpoints stay as they are after the last of these has gone.
#[derive(Debug, Clone)]
pub(crate) struct News(Sender<Told>);

#[derive(Debug)]
enum Told {
    Rows(Vec<Update>),
    InSync,
}

impl News {
    /// Looks at what goes to the agent too.
    pub(crate) fn look(&self, event: &SyncEvent) {
        let told = match event {
            SyncEvent::InSync => Told::InSync,
            SyncEvent::Updates(updates) => {
                let rows: Vec<Update> =
                    updates.iter().filter(|update| matters(&update.key)).cloned().collect();
                if rows.is_empty() {
                    return;
                }
                Told::Rows(rows)
            }
        };
        // A thread that has panicked makes no more; the node goes on.
        let _ = self.0.send(told);
    }
}

fn matters(key: &Key) -> bool {
    let Key::Resource { kind, name, .. } = key else { return false };
    match kind {
        Kind::Node | Kind::KubeControllersConfiguration => true,
        Kind::HostEndpoint => name.ends_with(SUFFIX),
        _ => false,
    }
}

/// Starts the thread.
///
/// # Errors
/// No thread.
pub(crate) fn start(node: &str, store: Arc<dyn Store>) -> io::Result<News> {
    let (sender, news) = channel();
    let mut keeper = Keeper {
        node_name: node.to_owned(),
        store,
        in_sync: false,
        node: None,
        configuration: Configuration::Absent,
        existing: BTreeMap::new(),
    };
    std::thread::Builder::new().name("auto-endpoints".to_owned()).spawn(move || keeper.run(&news))?;
    Ok(News(sender))
}

/// What is asked for. Without a word about it there are no automatic host endpoints; where the word cannot be read, those that are
/// there stay, because without them hosts would be open.
enum Configuration {
    Absent,
    Unreadable,
    Read(Box<KubeControllersConfiguration>),
}

struct Keeper {
    node_name: String,
    store: Arc<dyn Store>,
    in_sync: bool,
    node: Option<Node>,
    configuration: Configuration,
    /// Host endpoints of this node with such names, whoever made them.
    existing: BTreeMap<String, HostEndpoint>,
}

impl Keeper {
    fn run(&mut self, news: &Receiver<Told>) {
        let mut wait = IDLE;
        loop {
            match news.recv_timeout(wait) {
                Ok(Told::Rows(updates)) => updates.iter().for_each(|update| self.on_update(update)),
                Ok(Told::InSync) => self.in_sync = true,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            wait = match self.reconcile() {
                Ok(()) => IDLE,
                Err(error) => {
                    tracing::warn!(%error, "an automatic host endpoint cannot be written; it is tried again");
                    RETRY
                }
            };
        }
    }

    fn on_update(&mut self, update: &Update) {
        let Key::Resource { kind, name, .. } = &update.key else { return };
        let resource = update.row.as_deref().and_then(|row| match row {
            Row::Resource(resource) => Some(resource),
            _ => None,
        });
        match (kind, resource) {
            (Kind::Node, resource) if *name == self.node_name => {
                self.node = resource.and_then(|resource| match resource {
                    Resource::Node(node) => Some((**node).clone()),
                    _ => None,
                });
            }
            (Kind::KubeControllersConfiguration, resource) => {
                self.configuration = self.configuration(&update.key, resource);
            }
            (Kind::HostEndpoint, Some(Resource::HostEndpoint(endpoint)))
                if endpoint.spec.node == self.node_name =>
            {
                self.existing.insert(name.clone(), (**endpoint).clone());
            }
            (Kind::HostEndpoint, _) => drop(self.existing.remove(name)),
            _ => {}
        }
    }

    fn configuration(&self, key: &Key, resource: Option<&Resource>) -> Configuration {
        match resource {
            Some(Resource::KubeControllersConfiguration(found)) if has_good_selectors(found) => {
                return Configuration::Read(found.clone());
            }
            None if self.store.get(key).is_err_and(|error| matches!(error, StoreError::NotFound(_))) => {
                return Configuration::Absent;
            }
            _ => {}
        }
        tracing::error!("{key} cannot be read: the automatic host endpoints stay as they are");
        Configuration::Unreadable
    }

    /// Writes what is different. What was written comes back as a row, and is the same then.
    fn reconcile(&mut self) -> Result<(), ResourceError> {
        let Some(node) = self.node.as_ref().filter(|_| self.in_sync) else { return Ok(()) };
        let config = match &self.configuration {
            Configuration::Unreadable => return Ok(()),
            Configuration::Absent => None,
            Configuration::Read(configuration) => host_endpoint_config(configuration),
        };
        let wanted = config.map(|config| wanted(node, config)).unwrap_or_default();
        let resources = Resources::new(&*self.store);
        let mut outcome = Ok(());
        for endpoint in &wanted {
            let found = self.existing.get(&endpoint.metadata.name);
            if found.is_some_and(|found| !found.is_automatic() || is_same(found, endpoint)) {
                continue;
            }
            match resources.apply(&endpoint.clone().into()) {
                Ok(_) => {
                    tracing::info!(endpoint = endpoint.metadata.name, "wrote an automatic host endpoint")
                }
                // The others do not wait for it.
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        let is_wanted = |name: &str| wanted.iter().any(|endpoint| endpoint.metadata.name == name);
        let gone = self.existing.iter().filter(|(name, found)| found.is_automatic() && !is_wanted(name));
        for (name, _) in gone {
            match resources.delete(Kind::HostEndpoint, None, name, None) {
                Ok(_) => tracing::info!(endpoint = name, "deleted an automatic host endpoint"),
                Err(error) if error.is_not_found() => {}
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    }
}

fn host_endpoint_config(configuration: &KubeControllersConfiguration) -> Option<&AutoHostEndpointConfig> {
    let config = configuration.spec.controllers.node.as_ref()?.host_endpoint.as_ref()?;
    (config.auto_create == Some(Switch::Enabled)).then_some(config)
}

fn has_good_selectors(configuration: &KubeControllersConfiguration) -> bool {
    let templates = host_endpoint_config(configuration).into_iter().flat_map(|config| &config.templates);
    templates.into_iter().all(|template| Selector::parse(&template.node_selector).is_ok())
}

fn is_same(found: &HostEndpoint, wanted: &HostEndpoint) -> bool {
    found.spec == wanted.spec
        && found.metadata.labels == wanted.metadata.labels
        && found.metadata.annotations == wanted.metadata.annotations
}

/// The host endpoints that a node is to have.
fn wanted(node: &Node, config: &AutoHostEndpointConfig) -> Vec<HostEndpoint> {
    let with_default = config.create_default_host_endpoint.unwrap_or(Switch::Enabled) == Switch::Enabled;
    let default = with_default.then(|| for_all_interfaces(node));
    let templates = config.templates.iter().filter_map(|template| of_template(node, template));
    default.into_iter().chain(templates).collect()
}

fn for_all_interfaces(node: &Node) -> HostEndpoint {
    let name = format!("{}-{SUFFIX}", node.metadata.name);
    let spec = HostEndpointSpec {
        interface_name: api::ALL_INTERFACES.to_owned(),
        expected_ips: addresses(node),
        ..spec(node)
    };
    HostEndpoint::new(metadata(node, name), spec)
}

/// For the addresses of the node in the template's networks; `None` if there are none, or if the node is not selected.
fn of_template(node: &Node, template: &HostEndpointTemplate) -> Option<HostEndpoint> {
    let selector = Selector::parse(&template.node_selector).ok()?;
    if !selector.matches(&node.metadata.labels) {
        return None;
    }
    if !template.interface_pattern.is_empty() {
        tracing::warn!(
            template = template.generate_name,
            "a template of host endpoints with interfacePattern is not followed; use interfaceCIDRs"
        );
        return None;
    }
    let name = format!("{}-{}-{SUFFIX}", node.metadata.name, template.generate_name);
    let mut metadata = metadata(node, name);
    metadata.labels.extend(template.labels.clone());
    mark(&mut metadata);
    metadata.annotations.clone_from(&template.annotations);
    let is_in = |address: &IpAddr| template.interface_cidrs.iter().any(|net| net.net().contains(address));
    let expected_ips: Vec<IpAddr> = addresses(node).into_iter().filter(is_in).collect();
    (!expected_ips.is_empty())
        .then(|| HostEndpoint::new(metadata, HostEndpointSpec { expected_ips, ..spec(node) }))
}

fn spec(node: &Node) -> HostEndpointSpec {
    HostEndpointSpec {
        node: node.metadata.name.clone(),
        profiles: vec![PROFILE.to_owned()],
        ..HostEndpointSpec::default()
    }
}

fn metadata(node: &Node, name: String) -> Metadata {
    let mut metadata = Metadata { labels: node.metadata.labels.clone(), ..Metadata::named(name) };
    mark(&mut metadata);
    metadata
}

fn mark(metadata: &mut Metadata) {
    let (name, value) = CREATED_BY_LABEL;
    metadata.labels.insert(name.to_owned(), value.to_owned());
}

/// The node's own addresses and those of its tunnels, each once.
fn addresses(node: &Node) -> Vec<IpAddr> {
    let spec = &node.spec;
    let (bgp, wireguard) = (spec.bgp.as_ref(), spec.wireguard.as_ref());
    let own = bgp.map(|bgp| [bgp.ipv4_address, bgp.ipv6_address]).unwrap_or_default();
    let own = own.into_iter().flatten().map(|net| net.addr());
    let others = spec.addresses.iter().map(|address| address.address.addr());
    let tunnels = [
        bgp.and_then(|bgp| bgp.ipv4_ipip_tunnel_addr).map(IpAddr::V4),
        spec.ipv4_vxlan_tunnel_addr.map(IpAddr::V4),
        spec.ipv6_vxlan_tunnel_addr.map(IpAddr::V6),
        wireguard.and_then(|of| of.interface_ipv4_address).map(IpAddr::V4),
        wireguard.and_then(|of| of.interface_ipv6_address).map(IpAddr::V6),
    ];
    let mut addresses = Vec::new();
    for address in own.chain(others).chain(tunnels.into_iter().flatten()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use datastore::{Memory, Syncer};
    use serde_json::{Value, json};

    use super::*;

    fn resource(kind: &str, name: &str, labels: Value, spec: Value) -> Resource {
        let metadata = json!({ "name": name, "labels": labels });
        let value =
            json!({ "apiVersion": api::API_VERSION, "kind": kind, "metadata": metadata, "spec": spec });
        Resource::from_value(&value).expect("a resource")
    }

    fn node() -> Resource {
        let spec = json!({
            "bgp": { "ipv4Address": "172.30.0.1/24", "ipv6Address": "fd00::1/64", "ipv4IPIPTunnelAddr": "10.65.0.1" },
            "addresses": [{ "address": "172.30.0.1", "type": "CalicoNodeIP" }, { "address": "192.0.2.1" }],
        });
        resource("Node", "n", json!({ "rack": "r1" }), spec)
    }

    fn configuration(host_endpoint: Value) -> Resource {
        let spec = json!({ "controllers": { "node": { "hostEndpoint": host_endpoint } } });
        resource("KubeControllersConfiguration", "default", json!({}), spec)
    }

    fn endpoints(store: &dyn Store) -> Vec<Value> {
        let list = Resources::new(store).list(Kind::HostEndpoint, None).expect("memory is always available");
        let shown = |endpoint: &Resource| {
            let value = endpoint.to_value();
            json!({ "name": value["metadata"]["name"], "labels": value["metadata"]["labels"], "spec": value["spec"] })
        };
        list.items.iter().map(shown).collect()
    }

    #[test]
    fn a_node_makes_changes_and_deletes_its_own_endpoints_and_leaves_others_alone() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let resources = Resources::new(&*store);
        let apply =
            |resource: Resource| drop(resources.apply(&resource).expect("memory is always available"));
        apply(node());
        let foreign = |name: &str, node: &str| {
            resource("HostEndpoint", name, json!({}), json!({ "node": node, "interfaceName": "eth0" }))
        };
        apply(foreign("by-hand-auto-hep", "n"));
        apply(foreign("m-auto-hep", "m"));
        let news = start("n", store.clone()).expect("a thread");
        let scopes = [Kind::Node, Kind::HostEndpoint].map(Scope::all).into_iter().chain([scope()]).collect();
        let _syncer = Syncer::spawn(store.clone(), scopes, move |event: SyncEvent| {
            news.look(&event);
            ControlFlow::Continue(())
        });
        let others = endpoints(&*store);
        let ours =
            || endpoints(&*store).into_iter().filter(|found| !others.contains(found)).collect::<Vec<_>>();

        apply(configuration(json!({ "autoCreate": "Enabled" })));
        let labels = json!({ "projectcalico.org/created-by": "calico-kube-controllers", "rack": "r1" });
        let all = json!(["172.30.0.1", "fd00::1", "192.0.2.1", "10.65.0.1"]);
        let profiles = json!([PROFILE]);
        let default = json!({ "name": "n-auto-hep", "labels": labels,
            "spec": { "node": "n", "interfaceName": "*", "expectedIPs": all, "profiles": profiles } });
        testkit::eventually("the endpoint for all interfaces is there", || ours() == [default.clone()]);

        // It follows the node, and what others do to it does not last.
        apply(resource(
            "Node",
            "n",
            json!({ "rack": "r2" }),
            json!({ "bgp": { "ipv4Address": "172.30.0.1/24" } }),
        ));
        testkit::eventually("it follows the node", || {
            ours().first().is_some_and(|found| {
                found["labels"]["rack"] == "r2" && found["spec"]["expectedIPs"] == json!(["172.30.0.1"])
            })
        });
        resources.delete(Kind::HostEndpoint, None, "n-auto-hep", None).expect("it is there");
        testkit::eventually("it comes back", || ours().len() == 1);

        apply(node());
        let template = |selector: &str| {
            json!({ "autoCreate": "Enabled", "createDefaultHostEndpoint": "Disabled", "templates": [
                { "generateName": "out", "interfaceCIDRs": ["192.0.2.0/24"], "labels": { "to": "internet" }, "nodeSelector": selector },
                { "generateName": "none", "interfaceCIDRs": ["198.51.100.0/24"], "nodeSelector": "all()" },
            ] })
        };
        apply(configuration(template("rack == 'r1'")));
        testkit::eventually("templates are followed", || {
            let found = ours();
            found.len() == 1
                && found[0]["name"] == "n-out-auto-hep"
                && found[0]["labels"]["to"] == "internet"
                && found[0]["spec"]
                    == json!({ "node": "n", "expectedIPs": ["192.0.2.1"], "profiles": profiles })
        });
        apply(configuration(template("rack == 'r2'")));
        testkit::eventually("the node is not selected any more", || ours().is_empty());
        apply(configuration(json!({ "autoCreate": "Enabled" })));
        testkit::eventually("it is there again", || ours().len() == 1);
        resources.delete(Kind::KubeControllersConfiguration, None, "default", None).expect("it is there");
        testkit::eventually("nothing is asked for any more", || ours().is_empty());
        assert_eq!(endpoints(&*store), others);
    }

    #[test]
    fn what_is_asked_for_and_cannot_be_read_changes_nothing() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let mut keeper = Keeper {
            node_name: "n".to_owned(),
            store: store.clone(),
            in_sync: true,
            node: None,
            configuration: Configuration::Absent,
            existing: BTreeMap::new(),
        };
        let told = |keeper: &mut Keeper, key: &Key, resource: Option<Resource>| {
            let row = resource.map(|resource| Arc::new(Row::Resource(resource)));
            keeper.on_update(&Update { key: key.clone(), row });
        };
        let key = Key::cluster(Kind::KubeControllersConfiguration, "default");
        let selecting = |selector: &str| {
            let template = json!({ "generateName": "out", "interfaceCIDRs": ["192.0.2.0/24"], "nodeSelector": selector });
            configuration(json!({ "autoCreate": "Enabled", "templates": [template] }))
        };
        told(&mut keeper, &key, Some(selecting("all()")));
        assert!(matches!(keeper.configuration, Configuration::Read(_)));
        told(&mut keeper, &key, Some(selecting("all(")));
        assert!(matches!(keeper.configuration, Configuration::Unreadable));
        store.create(&key, r#"{"spec": 1}"#).expect("there is none");
        told(&mut keeper, &key, None);
        assert!(matches!(keeper.configuration, Configuration::Unreadable), "the row is there");
        told(&mut keeper, &Key::cluster(Kind::KubeControllersConfiguration, "gone"), None);
        assert!(matches!(keeper.configuration, Configuration::Absent), "there is no such row");
    }
}
