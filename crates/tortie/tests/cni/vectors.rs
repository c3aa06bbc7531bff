//! `cni-exec.jsonl`.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;

use testkit::vectors::{Case, Runner, load};

use crate::arrange::{self, Scene};
use crate::expect;
use crate::world::World;

const FILE: &str = "cni-exec.jsonl";
/// Hosts at the same time.
const WORKERS: usize = 6;

/// Every case on a host with a running node. Hosts are used again when a case has left nothing behind, which is checked
/// after each: so every vector is also a test that DEL leaves nothing.
#[test]
fn every_vector_holds_with_the_real_plugins_and_a_real_node() {
    testkit::require_root();
    let cases = load(FILE);
    let queue = Mutex::new(cases.iter());
    let verdicts = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let mut shared = None;
                while let Some(case) = next(&queue) {
                    let verdict = run(&mut shared, case);
                    verdicts.lock().expect("no thread panics with it").insert(case.id.clone(), verdict);
                }
            });
        }
    });
    let verdicts = verdicts.into_inner().expect("no thread panics with it");
    Runner::new(FILE).suite("cni.exec", |case| verdicts[&case.id].clone()).run();
}

fn next<'a>(queue: &Mutex<std::slice::Iter<'a, Case>>) -> Option<&'a Case> {
    queue.lock().expect("no thread panics with it").next()
}

/// Runs a case on the worker's own host, or on one that is made for it.
fn run(shared: &mut Option<World>, case: &Case) -> Result<(), String> {
    if case.suite != "cni.exec" {
        return Ok(());
    }
    let name = arrange::node_name(case);
    let mut world = match shared.take().filter(|_| name.is_none()) {
        Some(world) => world,
        None => World::new(name.as_deref()),
    };
    let attempt = || {
        let scene = Scene::new(&mut world, case)?;
        let outcome = scene.run(&mut world);
        expect::check(&world, case, &scene, &outcome)?;
        clean_up(&world, scene).map(|reusable| reusable && name.is_none())
    };
    match catch_unwind(AssertUnwindSafe(attempt)) {
        Ok(Ok(reusable)) => {
            *shared = reusable.then_some(world);
            Ok(())
        }
        Ok(Err(error)) => Err(error),
        Err(panic) => Err(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "panicked".to_owned())),
    }
}

/// Deletes all sandboxes, and makes sure that nothing of them stays; whether the host can be used again.
fn clean_up(world: &World, scene: Scene) -> Result<bool, String> {
    if !scene.reusable || scene.fault.contains("socket appears") {
        return Ok(false);
    }
    let calls = scene.before.iter().map(|(call, _)| call).chain([&scene.call]);
    for call in calls.filter(|call| call.config().is_some_and(|config| config["name"].is_string())) {
        if call.variable("CNI_CONTAINERID").is_empty() || call.variable("CNI_IFNAME").is_empty() {
            continue;
        }
        let outcome = call.clone().with_command("DEL").run(world);
        // A call that was refused for its names or version is refused as a DEL too; it has made nothing.
        if outcome.exit != 0 && !matches!(outcome.code(), Some(1 | 4 | 7)) {
            return Err(format!("DEL afterwards: {outcome:?}"));
        }
    }
    world.assert_clean();
    drop(scene);
    world.reset_store();
    Ok(true)
}

/// The runner itself: an expectation that does not hold is told.
#[test]
fn a_vector_that_does_not_hold_fails() {
    testkit::require_root();
    let cases = load(FILE);
    let mut shared = None;
    for (id, field, wrong) in [
        ("cni/result/add-1.0.0", "exit", "non-zero".into()),
        ("cni/result/add-1.0.0", "ips_version_field", true.into()),
        ("cni/calico/add/named-ports", "endpoint", serde_json::json!({"ports": []})),
        ("cni/calico/pools/pod-annotation-by-name", "ips_within", serde_json::json!(["60.70.0.0/24"])),
        ("cni/calico/add/ip-forwarding", "container_sysctl", serde_json::json!({"net.ipv4.ip_forward": "0"})),
        ("cni/stdin/add-empty", "stdout_json", serde_json::json!({"code": 7})),
        ("cni/check/link-gone", "exit", 0.into()),
        ("cni/result/gc-key-absent", "allocated_after", 0.into()),
    ] {
        let mut case = cases.iter().find(|case| case.id == id).expect("a vector of that name").clone();
        case.then = serde_json::json!({ field: wrong });
        let verdict = run(&mut shared, &case);
        assert!(verdict.is_err(), "{id} passes with {}", case.then);
    }
}
