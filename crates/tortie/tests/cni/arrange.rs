//! Vectors' `given`: the state before a call, and the faults during it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use api::{Kind, Metadata};
use ipam::AutoAssign;
use serde_json::{Value, json};
use testkit::vectors::Case;

use crate::outcome::Outcome;
use crate::plugin::{Call, Input, pod_arguments};
use crate::pods::PodNamespace;
use crate::world::World;

/// Pods when a vector does not say.
const POOL: &str = "192.168.0.0/16";

/// A case that has been set up.
pub(crate) struct Scene {
    /// The call that the case is about.
    pub(crate) call: Call,
    /// The pods' namespaces, that of the call first; empty if it is gone.
    pub(crate) pods: Vec<PodNamespace>,
    /// Calls that were made before and succeeded.
    pub(crate) before: Vec<(Call, Outcome)>,
    /// What happens while the call runs.
    pub(crate) fault: String,
    /// Whether the host can be used for other cases afterwards.
    pub(crate) reusable: bool,
}

/// NODENAME that a case needs; none: any.
pub(crate) fn node_name(case: &Case) -> Option<String> {
    let config = &case.when["stdin"];
    let file = &case.given["files"]["/var/lib/calico/nodename"];
    [&config["nodename"], &config["hostname"], file].into_iter().find_map(Value::as_str).map(str::to_owned)
}

/// Words that every one of some groups has one of.
fn says(text: &str, groups: &[&[&str]]) -> bool {
    groups.iter().all(|words| words.iter().any(|word| text.contains(word)))
}

const GONE: &[&str] = &["gone", "deleted", "removed", "does not exist"];
const LINK: &[&str] = &["interface", "link", "veth"];

impl Scene {
    /// Sets a case up.
    pub(crate) fn new(world: &mut World, case: &Case) -> Result<Self, String> {
        let (given, when) = (&case.given, &case.when);
        let pod = PodNamespace::new(world, "pod");
        let fill = |text: &str| fill(text, world, given, &when["env"], &pod.path());
        let environment = when["env"].as_object().into_iter().flatten();
        let environment =
            environment.map(|(name, value)| (name.clone(), fill(value.as_str().unwrap_or_default())));
        let mut call = Call {
            line: when["argv0"].as_str().unwrap_or("calico").to_owned(),
            environment: environment.collect(),
            input: match &when["stdin"] {
                Value::Null => Input::Unreadable,
                Value::String(text) => Input::Text(text.clone()),
                object => Input::Text(completed(object, given, world).to_string()),
            },
        };
        let history = ["state", "sandbox"].map(|field| given[field].as_str().unwrap_or_default()).join(" ");
        if history.contains("pod") && call.variable("CNI_ARGS").is_empty() {
            let arguments = pod_arguments("default", "p", call.variable("CNI_CONTAINERID"));
            call.environment.insert("CNI_ARGS".to_owned(), arguments);
        }
        let fault = given["fault"].as_str().unwrap_or_default().to_owned();
        let mut scene = Self { call, pods: vec![pod], before: Vec::new(), fault, reusable: true };
        scene.set_objects_up(world, given)?;
        if let Some(sandboxes) = given["sandboxes"].as_array() {
            scene.add_sandboxes(world, sandboxes)?;
        }
        scene.live_through(world, history.trim())?;
        scene.fill_previous_result();
        scene.break_before(world)?;
        Ok(scene)
    }

    fn set_objects_up(&mut self, world: &World, given: &Value) -> Result<(), String> {
        for (field, value) in given.as_object().into_iter().flatten() {
            match field.as_str() {
                "pools" => add_pools(world, value),
                "namespace_annotations" | "namespace_labels" => make_namespace(world, given),
                "cluster_information" => world.set_ready(value["datastoreReady"].as_bool()),
                "files" => self.place_files(world, value),
                "http" => serve_all(world, value),
                "node_pod_cidr" => world.set_pod_cidrs(&cidrs(value)),
                // Read where they are needed.
                "node" | "pod" | "stdin" | "fault" | "state" | "sandbox" | "sandboxes" => {}
                field if field.starts_with("pod_") => {}
                _ => return Err(format!("the runner does not know given.{field}")),
            }
        }
        let earlier = ["state", "sandbox", "sandboxes", "fault"].map(|field| &given[field]);
        if given["pools"].is_null() && earlier.iter().any(|field| !field.is_null()) {
            add_pools(world, &json!([{ "cidr": POOL }]));
        }
        if matches!(&self.call.input, Input::Text(text) if text.contains("host-local")) {
            world.install("host-local");
        }
        Ok(())
    }

    fn place_files(&mut self, world: &World, files: &Value) {
        self.reusable = false;
        for (path, content) in files.as_object().into_iter().flatten() {
            let file = world.host_file(path.rsplit('/').next().unwrap_or_default());
            match content.as_str() {
                Some(content) => std::fs::write(&file, content).expect("our own folder"),
                None => {
                    let _ = std::fs::remove_file(&file);
                }
            }
        }
    }

    fn add_sandboxes(&mut self, world: &World, names: &[Value]) -> Result<(), String> {
        for name in names.iter().filter_map(Value::as_str) {
            let pod = PodNamespace::new(world, name);
            let mut add = self.earlier("ADD");
            for (variable, value) in
                [("CNI_CONTAINERID", name), ("CNI_NETNS", &pod.path()), ("CNI_IFNAME", "eth0")]
            {
                add.environment.insert(variable.to_owned(), value.to_owned());
            }
            self.pods.push(pod);
            self.succeed(world, add)?;
        }
        Ok(())
    }

    /// The call as it was made earlier: with another command, and without what only this one has.
    fn earlier(&self, command: &str) -> Call {
        let mut config = self.call.config().unwrap_or_default();
        if let Some(config) = config.as_object_mut() {
            config.remove("prevResult");
            config.remove("cni.dev/valid-attachments");
        }
        self.call.clone().with_command(command).with_config(&config)
    }

    fn succeed(&mut self, world: &World, call: Call) -> Result<(), String> {
        let outcome = call.run(world);
        if outcome.exit != 0 {
            return Err(format!("set-up: {} failed: {outcome:?}", call.variable("CNI_COMMAND")));
        }
        self.before.push((call, outcome));
        Ok(())
    }

    /// `given.state` and `given.sandbox`: what has happened to the sandbox before.
    fn live_through(&mut self, world: &World, history: &str) -> Result<(), String> {
        if history.is_empty() {
            // The fault of a call on something that is there.
            if !self.fault.is_empty() && self.call.variable("CNI_COMMAND") == "DEL" {
                let add = self.earlier("ADD");
                self.succeed(world, add)?;
            }
            return Ok(());
        }
        if history.contains("never added") {
            if says(history, &[GONE]) {
                self.pods.clear();
            }
            return Ok(());
        }
        if says(history, &[&["name of this endpoint's host veth"]]) {
            let (namespace, name) = ("default", "p");
            let link = api::kubernetes::interface_name("cali", namespace, name);
            world.host.command(&format!("ip link add {link} type veth peer name stale"));
            return Ok(());
        }
        if says(history, &[&["in use", "exhausted"]]) {
            return self.fill_pools(world);
        }
        let mut add = self.earlier("ADD");
        if says(history, &[&["another container", "re-created"]]) {
            return self.replace_container(world, add, history);
        }
        if history.contains("on eth0") {
            add.environment.insert("CNI_IFNAME".to_owned(), "eth0".to_owned());
        }
        self.succeed(world, add)?;
        if says(history, &[&["DEL done", "then DEL"]]) {
            let delete = self.earlier("DEL");
            self.succeed(world, delete)?;
        } else if says(history, &[&["address"], &["released"]]) {
            self.release_address(world);
        } else if says(history, &[&["pool"], GONE]) {
            world.delete(&api::Key::cluster(Kind::IPPool, "pool-0"));
        } else if says(history, &[&["namespace", "netns"], GONE]) {
            self.pods.clear();
        } else if says(history, &[LINK, GONE]) {
            self.pods[0].command("ip link delete eth0");
        } else if !says(history, &[&["ADD done", "added before", "pod object", "unchanged"]]) {
            return Err(format!("the runner does not know the state {history:?}"));
        }
        Ok(())
    }

    /// The pod has had another container before, or gets another after the one that the call names.
    fn replace_container(&mut self, world: &World, mut add: Call, history: &str) -> Result<(), String> {
        let ours = self.call.variable("CNI_CONTAINERID").to_owned();
        let newer = history.rsplit("container ID ").next().filter(|_| history.contains("re-created"));
        let pod = PodNamespace::new(world, "other");
        let mut other = add.clone();
        other.environment.insert("CNI_NETNS".to_owned(), pod.path());
        let id = newer.unwrap_or("earlier-container").to_owned();
        let arguments = other.variable("CNI_ARGS").replace(&ours, &id);
        other.environment.insert("CNI_ARGS".to_owned(), arguments);
        other.environment.insert("CNI_CONTAINERID".to_owned(), id);
        self.pods.push(pod);
        if newer.is_some() {
            add.environment.insert("CNI_CONTAINERID".to_owned(), ours);
            self.succeed(world, add)?;
        }
        self.succeed(world, other)
    }

    fn fill_pools(&mut self, world: &World) -> Result<(), String> {
        for _ in 0..2 {
            let request = AutoAssign { num4: 1, ..AutoAssign::new(world.node()) };
            world.ipam().auto_assign_all(&request).map_err(|error| format!("set-up: {error}"))?;
        }
        self.reusable = false;
        Ok(())
    }

    fn release_address(&self, world: &World) {
        let handle = format!("k8s-pod-network.{}", self.call.variable("CNI_CONTAINERID"));
        world.ipam().release_by_handle(&handle).expect("it has an address");
    }

    /// `prevResult: "<result of ADD>"`.
    fn fill_previous_result(&mut self) {
        let Some(mut config) = self.call.config() else { return };
        if config["prevResult"].is_string()
            && let Some((_, outcome)) = self.before.last()
        {
            config["prevResult"] = outcome.json();
            self.call.input = Input::Text(config.to_string());
        }
    }

    /// Faults that are there when the call begins.
    fn break_before(&mut self, world: &mut World) -> Result<(), String> {
        let fault = self.fault.clone();
        let fault = fault.as_str();
        if fault.is_empty() || says(fault, &[&["socket appears"]]) {
            return Ok(());
        }
        if says(fault, &[&["not running", "daemon down"]]) {
            world.kill_node();
            self.reusable = false;
        } else if says(fault, &[&["datastore"]]) {
            self.reusable = false;
        } else if says(fault, &[&["killed"]]) {
            self.kill_half_way(world)?;
        } else if says(fault, &[&["internal failure"]]) {
            self.pods[0].occupy("eth0");
        } else if says(fault, &[&["rigged to fail"]]) {
            self.pods[0].command("ip link delete eth0");
            self.pods[0].occupy("eth0");
        } else if says(fault, &[&["MTU"]]) {
            self.pods[0].command("ip link set eth0 mtu 1280");
        } else if says(fault, &[&["host route"], GONE]) {
            let route = world.links_and_routes().into_iter().find(|line| line.contains("scope link"));
            let route = route.ok_or("set-up: no host route")?;
            world.host.command(&format!("ip route del {route}"));
        } else if says(fault, &[&["route"], GONE]) {
            self.pods[0].command("ip route del default");
        } else if says(fault, &[&["address"], GONE]) {
            self.pods[0].command("ip address flush dev eth0");
        } else if says(fault, &[&["namespace", "netns"], GONE]) {
            self.pods.clear();
        } else if says(fault, &[LINK, GONE]) {
            self.pods[0].command("ip link delete eth0");
        } else {
            return Err(format!("the runner does not know the fault {fault:?}"));
        }
        Ok(())
    }

    /// Leaves what a process leaves that dies between the assignment of the address and the making of the link, and kills a
    /// plugin as early as can be.
    fn kill_half_way(&mut self, world: &World) -> Result<(), String> {
        let handle = format!("k8s-pod-network.{}", self.call.variable("CNI_CONTAINERID"));
        let request = AutoAssign { num4: 1, handle: Some(handle), ..AutoAssign::new(world.node()) };
        world.ipam().auto_assign_all(&request).map_err(|error| format!("set-up: {error}"))?;
        let mut child = self.call.spawn(world);
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        Ok(())
    }

    /// Makes the call, with what goes wrong meanwhile.
    pub(crate) fn run(&self, world: &mut World) -> Outcome {
        let _away = self.fault.contains("datastore").then(|| world.take_datastore_away());
        if self.fault.contains("datastore") && self.call.line.contains("-t") {
            world.wait_for("the node to notice", || match world.ask(&api::wire::Request::NodeStatus) {
                Ok(api::wire::Answer::NodeStatus(status)) if !status.not_ready.is_empty() => Ok(()),
                other => Err(format!("{other:?}")),
            });
        }
        if !self.fault.contains("socket appears") {
            return self.call.run(world);
        }
        world.kill_node();
        let child = self.call.spawn(world);
        std::thread::sleep(Duration::from_millis(300));
        world.launch_node();
        Outcome::new(&child.wait_with_output().expect("our own child"))
    }
}

/// Placeholders of a vector.
fn fill(text: &str, world: &World, given: &Value, environment: &Value, netns: &str) -> String {
    let pod = &given["pod"];
    text.replace("{netns}", netns)
        .replace("{bin}", &world.bin().to_string_lossy())
        .replace("{ns}", pod["namespace"].as_str().unwrap_or("default"))
        .replace("{pod}", pod["name"].as_str().unwrap_or("p"))
        .replace("{cid}", environment["CNI_CONTAINERID"].as_str().unwrap_or_default())
}

/// With what a runtime that knows the pod passes on of it (see the plugin's documentation of `args.tortie.pod`), and a folder
/// of the test's own for what `host-local` remembers.
fn completed(config: &Value, given: &Value, world: &World) -> Value {
    let mut config = config.clone();
    if config["ipam"]["type"] == "host-local" {
        config["ipam"]["dataDir"] = world.path("networks").to_string_lossy().into();
    }
    let pod = json!({
        "metadata": {
            "labels": given["pod_labels"],
            "generateName": given["pod_generate_name"],
        },
        "spec": {
            "serviceAccountName": given["pod_service_account"],
            "containers": [{ "ports": given["pod_container_ports"] }],
        },
    });
    if given["pod"].is_object() {
        config["args"]["tortie"]["pod"] = pod;
    }
    if given["pod_annotations"].is_object() {
        config["runtimeConfig"]["io.kubernetes.cri.pod-annotations"] = given["pod_annotations"].clone();
    }
    config
}

fn add_pools(world: &World, pools: &Value) {
    for (index, pool) in pools.as_array().into_iter().flatten().enumerate() {
        let mut spec = pool.clone();
        let name = pool["name"].as_str().map_or_else(|| format!("pool-{index}"), str::to_owned);
        spec.as_object_mut().expect("a pool is an object").remove("name");
        world.add_resource(Kind::IPPool, &json!({ "name": name }), &spec);
    }
}

/// A namespace's labels and annotations are its profile's.
fn make_namespace(world: &World, given: &Value) {
    let name = given["pod"]["namespace"].as_str().unwrap_or("default");
    let mut namespace = api::kubernetes::Namespace { metadata: Metadata::named(name) };
    let texts = |value: &Value| {
        let entries = value.as_object().into_iter().flatten();
        entries.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
    };
    namespace.metadata.annotations = texts(&given["namespace_annotations"]);
    namespace.metadata.labels = texts(&given["namespace_labels"]);
    let profile = api::kubernetes::namespace_profile(&namespace).expect("a valid namespace");
    world.put(profile.into());
}

fn cidrs(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => text.split(',').collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn serve_all(world: &World, urls: &Value) {
    urls.as_object().into_iter().flatten().for_each(|(url, status)| serve(world, url, status));
}

/// Serves a URL on the host with one status; what the node itself serves is left to it.
fn serve(world: &World, url: &str, status: &Value) {
    let authority = url.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned();
    if authority.ends_with(":9099") {
        return;
    }
    let listener = world.host.run(|| TcpListener::bind(&authority)).expect("a free port");
    let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    std::thread::spawn(move || {
        for stream in listener.incoming().take(16).flatten() {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
}
