//! Random clusters and packets: the evaluator and the kernel agree, at rest and while the cluster changes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use calc::cluster::{Found, Place};
use calc::evaluator::Packet;
use calc::explain::{Explainer, Question, Ruling};
use serde_json::{Value, json};
use testkit::clusters::{Case, Cluster, Generator, HOST, HOST_ADDRESSES, node};
use testkit::objects;

use super::reference::Reference;
use super::stage::{BACKENDS, Probe, Spot, Stage, on_a_stage};

/// So many clusters, each but the first of some by a change of the one before.
const CLUSTERS: usize = 60;
/// A cluster is made anew after so many changes.
const CHANGES: usize = 4;
const PACKETS: usize = 100;
pub(crate) const WORKLOADS: usize = 5;
/// Of so many packets one is explained too.
const EXPLAINED: usize = 10;
/// How much is tried to make a failing case small.
const TRIES: usize = 400;

#[test]
fn the_kernel_and_the_evaluator_agree_on_random_clusters() {
    let given = std::env::var("TORTIE_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("seed {seed} (repeat with TORTIE_SEED={seed})");
    for backend in &BACKENDS {
        on_a_stage(backend, WORKLOADS, |mut stage| random_clusters(&mut stage, seed));
    }
}

/// What runs have found; and a file of the same form that `TORTIE_CASE` names.
#[test]
fn what_once_went_wrong_does_not_again() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proof/found");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).collect();
    files.extend(std::env::var_os("TORTIE_CASE").map(Into::into));
    assert!(!files.is_empty());
    for backend in &BACKENDS {
        on_a_stage(backend, WORKLOADS, |mut stage| {
            for file in &files {
                let case = Case::from_yaml(&std::fs::read_to_string(file).unwrap());
                play(&mut stage, &case).unwrap();
                let outcome = compare(&mut stage, &case, &mut BTreeMap::new());
                assert!(outcome.is_ok(), "{}: {outcome:?}", file.display());
            }
        });
    }
}

fn random_clusters(stage: &mut Stage, seed: u64) {
    let mut generator = Generator::new(seed);
    let mut cluster = Cluster::default();
    let mut counts = BTreeMap::from([(true, 0), (false, 0)]);
    for round in 0..CLUSTERS {
        if round % (CHANGES + 1) == 0 {
            cluster = generator.cluster();
        } else {
            generator.mutate(&mut cluster);
        }
        let case = case(&cluster, (0..PACKETS).map(|_| generator.probe(&cluster)).collect());
        match play(stage, &case).and_then(|()| compare(stage, &case, &mut counts)) {
            Ok(()) => {}
            Err(wrong) => {
                let (case, small) = smallest(stage, case);
                panic!("seed {seed}, cluster {round}: {wrong}\nsmallest: {small}\n{}", case.to_yaml());
            }
        }
    }
    println!("{counts:?}");
    // A generator that only makes closed (or open) clusters would prove nothing.
    assert!(counts.values().all(|count| *count > CLUSTERS * PACKETS / 10), "{counts:?}");
}

pub(crate) fn case(cluster: &Cluster, probes: Vec<Value>) -> Case {
    Case { objects: cluster.objects(), probes }
}

/// Makes the host what the case's objects say; it has its own addresses besides.
pub(crate) fn play(stage: &mut Stage, case: &Case) -> Result<(), String> {
    let objects: Vec<Value> = case.objects.iter().cloned().chain([node()]).collect();
    stage.play(objects::rows(&json!(objects))?);
    Ok(())
}

/// Sends the probes of the case that is played. The first that the evaluator judges otherwise than the kernel, or than its own
/// explanation, is an error.
fn compare(stage: &mut Stage, case: &Case, counts: &mut BTreeMap<bool, usize>) -> Result<(), String> {
    let reference = Reference::new(stage);
    let read = |probe| read(stage, probe).ok_or_else(|| format!("no such end: {probe}"));
    let probes: Vec<Probe> = case.probes.iter().map(read).collect::<Result<_, _>>()?;
    let probes: Vec<(Probe, bool)> = probes
        .into_iter()
        .map(|probe| {
            let expected = reference.allows(&probe);
            (probe, expected)
        })
        .collect();
    for (given, (probe, expected)) in case.probes.iter().zip(&probes).step_by(EXPLAINED) {
        explained(stage, given, probe, *expected)?;
    }
    let arrived = stage.send(&probes);
    for ((given, (_, expected)), arrived) in case.probes.iter().zip(&probes).zip(arrived) {
        if arrived != *expected {
            return Err(format!("{given}: expected {expected}, arrived {arrived}"));
        }
        *counts.entry(*expected).or_default() += 1;
    }
    Ok(())
}

/// What `calicoctl explain` would say comes to the same.
fn explained(stage: &Stage, given: &Value, probe: &Probe, expected: bool) -> Result<(), String> {
    let place = |spot: Spot, address: IpAddr| match spot {
        Spot::Outside => Place::Outside { address },
        Spot::Host | Spot::Workload(_) => match stage.cluster().find(&address.to_string()) {
            Ok(Found::Place(place)) => place,
            other => panic!("{address}: {other:?}"),
        },
    };
    let question = Question {
        from: place(probe.from, probe.packet.source),
        to: place(probe.to, probe.packet.destination),
        packet: probe.packet.clone(),
    };
    let explanation = Explainer::new(stage.cluster()).explain(&question);
    if (explanation.verdict == Ruling::Deny) == expected {
        let because = explanation.because;
        return Err(format!("{given}: expected {expected}, explained as {}: {because}", explanation.verdict));
    }
    Ok(())
}

/// What is left of a failing case: one packet, and the objects that it takes; and what is wrong with it then.
fn smallest(stage: &mut Stage, case: Case) -> (Case, String) {
    let mut wrong = "it takes more than one packet, or what was there before".to_owned();
    let mut fails = |case: &Case| {
        let ready = play(stage, case).is_ok() && case.probes.iter().all(|probe| read(stage, probe).is_some());
        let outcome = if ready { compare(stage, case, &mut BTreeMap::new()) } else { Ok(()) };
        let error = outcome.err();
        wrong = error.clone().unwrap_or_else(|| wrong.clone());
        error.is_some()
    };
    let singles = case.probes.iter().map(|probe| Case { probes: vec![probe.clone()], ..case.clone() });
    let small = match singles.into_iter().find(|single| fails(single)) {
        Some(single) => single.shrink(TRIES, fails),
        None => case,
    };
    (small, wrong)
}

/// A probe as the generator makes it, in the stage's words; nothing if an end is not there or has no such address.
pub(crate) fn read(stage: &Stage, probe: &Value) -> Option<Probe> {
    let end = |name: &str, address: &str| {
        let address: IpAddr = probe[address].as_str()?.parse().ok()?;
        let name = probe[name].as_str()?;
        let (spot, addresses) = match name {
            HOST => (Spot::Host, HOST_ADDRESSES.iter().filter_map(|own| own.parse().ok()).collect()),
            _ if name.contains('/') => stage.workload(name)?,
            _ => (Spot::Outside, vec![address]),
        };
        addresses.contains(&address).then_some((spot, address))
    };
    let ((from, source), (to, destination)) = (end("from", "source")?, end("to", "destination")?);
    let number = |name: &str| u16::try_from(probe[name].as_u64()?).ok();
    let byte = |name: &str| u8::try_from(probe[name].as_u64()?).ok();
    let mut packet = Packet::new(source, destination, byte("protocol")?, number("port")?);
    packet.source_port = number("sport")?;
    packet.icmp = (byte("icmpType")?, byte("icmpCode")?);
    Some(Probe { from, to, packet })
}
