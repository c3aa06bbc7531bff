//! The server on a store and a kernel of the test's own, with a fault at every step. (With the real plugins and a real
//! dataplane: `crates/tortie/tests/cni`.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use api::wire::{Answer, CniCommand, CniRequest, WireError};
use api::{ClusterInformation, ClusterInformationSpec, IPPool, IPPoolSpec, Kind, Metadata};
use datastore::{FaultStore, Memory, Moment, Outcome, Scope, Store, objects};
use ipam::Ipam;
use kernel::Rtnetlink;
use kernel::pod::Remover;
use serde_json::{Value, json};
use testkit::TestNamespace;

use super::{Cni, Parts};
use crate::agent::waiters::Condition;
use crate::agent::{self, AgentHandle, Event};
use crate::health::Health;

/// A host, a pod's namespace, and a datastore with a pool.
struct World {
    host: TestNamespace,
    pod: TestNamespace,
    store: Arc<Memory>,
    files: tempfile::TempDir,
}

/// What the kernel does with endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    Programs,
    NeverPrograms,
}

impl World {
    fn new() -> Self {
        let (host, pod) = (TestNamespace::new(), TestNamespace::new());
        host.command("ip link set lo up");
        let store = Arc::new(Memory::new());
        let ready = ClusterInformationSpec { datastore_ready: Some(true), ..Default::default() };
        objects::create_if_absent(&store, ClusterInformation::new(Metadata::named("default"), ready))
            .unwrap();
        let pool = IPPoolSpec::new("10.65.0.0/24".parse().unwrap());
        objects::create_if_absent(&store, IPPool::new(Metadata::named("v4"), pool)).unwrap();
        Self { host, pod, store, files: tempfile::tempdir().unwrap() }
    }

    /// Runs something with a server on this host, over a store of this datastore.
    fn with<T: Send>(&self, store: Arc<dyn Store>, kernel: Kernel, work: impl FnOnce(&Cni) -> T + Send) -> T {
        self.host.run(|| {
            let cni = Cni::new(Parts {
                node_name: "n1".to_owned(),
                nodename_file: self.files.path().join("nodename"),
                interface_prefixes: "cali".to_owned(),
                mtu: Some(1500),
                ipam: Ipam::new(store.clone()),
                store,
                agent: fake_agent(kernel),
                health: Health::default(),
                remover: Remover::start(Rtnetlink::open().unwrap()).unwrap(),
                programming_limit: Duration::from_millis(300),
            });
            work(&cni)
        })
    }

    fn request(&self, command: CniCommand) -> CniRequest {
        CniRequest {
            command,
            container_id: "c1".to_owned(),
            netns: Some(self.pod.path().to_string_lossy().into_owned()),
            interface: "eth0".to_owned(),
            args: [("K8S_POD_NAME".to_owned(), "p1".to_owned())].into(),
            config: json!({
                "cniVersion": "1.0.0", "name": "net", "nodename": "n1", "ipam": {"type": "calico-ipam"},
            }),
            delegated: None,
        }
    }

    fn add(&self, cni: &Cni) -> Result<Value, WireError> {
        match cni.handle(&self.request(CniCommand::Add)) {
            Answer::Result(result) => Ok(result),
            Answer::Error(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    fn delete(&self, cni: &Cni) -> Result<(), WireError> {
        match cni.handle(&self.request(CniCommand::Del)) {
            Answer::Done => Ok(()),
            Answer::Error(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    fn addresses(&self) -> Vec<std::net::IpAddr> {
        let assignments = Ipam::new(self.store.clone()).assignments().unwrap();
        assignments.iter().map(|assignment| assignment.address).collect()
    }

    fn endpoints(&self) -> usize {
        self.store.list(&Scope::all(Kind::WorkloadEndpoint)).unwrap().entries.len()
    }

    /// Waits until there is nothing of the sandbox: address, endpoint, link (which goes in the background), route.
    #[track_caller]
    fn assert_clean(&self, after: &str) {
        assert_eq!((self.addresses(), self.endpoints()), (Vec::new(), 0), "{after}");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let links =
                [&self.host, &self.pod].map(|namespace| namespace.command("ip -oneline link")).concat();
            let routes = self.host.command("ip route");
            if !links.contains("cali") && !links.contains("eth0") && routes.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{after}: {links}{routes}");
            thread::park_timeout(Duration::from_millis(2));
        }
    }
}

/// Answers those who wait for the kernel.
fn fake_agent(kernel: Kernel) -> AgentHandle {
    let (handle, events) = agent::queue();
    thread::spawn(move || {
        let mut waiting = Vec::new();
        for event in events {
            let Event::Wait(waiter) = event else { continue };
            if waiter.condition == Condition::Withdrawn || kernel == Kernel::Programs {
                let _ = waiter.told.try_send(());
            } else {
                // Kept, or it would learn at once that nobody answers.
                waiting.push(waiter);
            }
        }
    });
    handle
}

/// A store of which one operation fails: before or after it was done.
fn failing(store: &Arc<Memory>, nth: u64, moment: Moment) -> (Arc<dyn Store>, Arc<AtomicU64>) {
    let seen = Arc::new(AtomicU64::new(0));
    let count = seen.clone();
    let store = FaultStore::new(store.clone(), move |call| {
        count.fetch_max(call.nth, Ordering::SeqCst);
        if call.nth == nth && call.moment == moment { Outcome::Fail } else { Outcome::Go }
    });
    (Arc::new(store), seen)
}

#[test]
fn an_add_that_fails_at_any_call_of_the_store_leaves_nothing_and_the_next_succeeds() {
    let world = World::new();
    for moment in [Moment::Before, Moment::After] {
        for nth in 1.. {
            assert!(nth < 100, "an ADD does not take a hundred calls");
            let after = format!("after a fault {moment:?} call {nth}");
            let (store, seen) = failing(&world.store, nth, moment);
            let outcome = world.with(store, Kernel::Programs, |cni| world.add(cni));
            let happened = seen.load(Ordering::SeqCst) >= nth;
            match outcome {
                Err(_) => world.assert_clean(&after),
                Ok(_) => assert_eq!((world.addresses().len(), world.endpoints()), (1, 1), "{after}"),
            }
            world.with(world.store.clone(), Kernel::Programs, |cni| {
                world.add(cni).unwrap_or_else(|error| panic!("{after}: {error:?}"));
                assert_eq!((world.addresses().len(), world.endpoints()), (1, 1), "{after}");
                world.delete(cni).unwrap();
                world.assert_clean(&after);
            });
            if !happened {
                break;
            }
        }
    }
}

#[test]
fn a_del_that_fails_at_any_call_of_the_store_is_completed_by_the_next() {
    let world = World::new();
    for moment in [Moment::Before, Moment::After] {
        for nth in 1.. {
            assert!(nth < 100, "a DEL does not take a hundred calls");
            let after = format!("after a fault {moment:?} call {nth}");
            world.with(world.store.clone(), Kernel::Programs, |cni| world.add(cni)).unwrap();
            let (store, seen) = failing(&world.store, nth, moment);
            let outcome = world.with(store, Kernel::Programs, |cni| world.delete(cni));
            if outcome.is_err() && world.endpoints() == 1 {
                assert_eq!(world.addresses().len(), 1, "an endpoint keeps its address, {after}");
            }
            world.with(world.store.clone(), Kernel::Programs, |cni| world.delete(cni)).unwrap();
            world.assert_clean(&after);
            if seen.load(Ordering::SeqCst) < nth {
                break;
            }
        }
    }
}

#[test]
fn an_add_that_the_kernel_does_not_program_is_undone_and_says_try_again() {
    let world = World::new();
    let error = world.with(world.store.clone(), Kernel::NeverPrograms, |cni| world.add(cni)).unwrap_err();
    assert_eq!(error.code, api::cni::code::TRY_AGAIN_LATER);
    assert!(error.msg.contains("pod default/p1"), "{}", error.msg);
    world.assert_clean("after an ADD without programming");
}

#[test]
fn an_add_into_an_interface_of_someone_else_is_undone_and_leaves_that_alone() {
    let world = World::new();
    world.pod.command("ip link add eth0 type veth peer name stranger");
    let error = world.with(world.store.clone(), Kernel::Programs, |cni| world.add(cni)).unwrap_err();
    assert!(error.msg.contains("eth0"), "{}", error.msg);
    assert!(world.pod.command("ip -oneline link").contains("stranger"), "the other's pair is still there");
    world.pod.command("ip link delete eth0");
    world.assert_clean("after an ADD that found its interface taken");
}

#[test]
fn a_repeated_add_that_fails_takes_nothing_away() {
    let world = World::new();
    world.with(world.store.clone(), Kernel::Programs, |cni| world.add(cni)).unwrap();
    let before = world.addresses();
    let outcome = world.with(world.store.clone(), Kernel::NeverPrograms, |cni| world.add(cni));
    assert!(outcome.is_err());
    assert_eq!((world.addresses(), world.endpoints()), (before, 1));
    assert!(world.pod.command("ip -oneline link").contains("eth0"));
}

#[test]
fn check_finds_whatever_is_taken_away() {
    let world = World::new();
    let result = world.with(world.store.clone(), Kernel::Programs, |cni| world.add(cni)).unwrap();
    let mut request = world.request(CniCommand::Check);
    request.config["prevResult"] = result.clone();
    let check_with = |kernel| {
        world.with(world.store.clone(), kernel, |cni| match cni.handle(&request) {
            Answer::Done => None,
            Answer::Error(error) => Some(error.msg),
            other => panic!("{other:?}"),
        })
    };
    let check = || check_with(Kernel::Programs);
    let address = world.addresses()[0];
    let link = result["interfaces"][0]["name"].as_str().unwrap();
    assert!(check().unwrap().contains(&format!("route {address}/32 dev {link} is missing")));
    // Routes on the host are the dataplane's, which is not real here, and so are most settings.
    let host_route = format!("{address} dev {link} scope link");
    world.host.command(&format!("ip route add {host_route}"));
    assert!(check().unwrap().contains(&format!("sysctl net/ipv4/conf/{link}/forwarding is 0 instead of 1")));
    let forwarding = format!("/proc/sys/net/ipv4/conf/{link}/forwarding");
    world.host.run(|| std::fs::write(forwarding, "1")).unwrap();
    assert_eq!(check(), None);
    assert!(check_with(Kernel::NeverPrograms).unwrap().contains("policy"));

    let route = ["ip route del default", "ip route add default via 169.254.1.1 dev eth0"];
    let gateway = ["ip route del 169.254.1.1", "ip route add 169.254.1.1 dev eth0 scope link"];
    for [take, give] in [route, gateway] {
        world.pod.command(take);
        assert!(check().unwrap().contains("is missing"), "{take}");
        world.pod.command(give);
        assert_eq!(check(), None, "{give}");
    }
    let set_proxy = |value: &str| {
        let file = format!("/proc/sys/net/ipv4/conf/{link}/proxy_arp");
        world.host.run(|| std::fs::write(file, value).unwrap());
    };
    set_proxy("0");
    assert!(check().unwrap().contains("proxy_arp"));
    set_proxy("1");
    world.pod.command("ip link set eth0 mtu 1400");
    assert_eq!(check(), None, "plugins further down the chain may do that");
    world.pod.command("ip address flush dev eth0");
    assert!(check().unwrap().contains(&format!("address {address} is not on eth0")));
    world.pod.command("ip link delete eth0");
    assert!(check().unwrap().contains("interface eth0 does not exist"));
}
