//! The suite `policy.truth` on the real kernel.

use std::net::IpAddr;

use calc::evaluator::Packet;
use serde_json::{Map, Value};
use testkit::objects;
use testkit::vectors::{Case, load};

use super::stage::{BACKENDS, Probe, Spot, Stage, on_a_stage};

/// More than the largest case has.
const WORKLOADS: usize = 22;

fn cases() -> Vec<Case> {
    let cases = load("policy-truth.jsonl").into_iter().filter(|case| case.suite == "policy.truth");
    cases.collect()
}

#[test]
fn every_probe_of_policy_truth_gets_its_verdict_from_the_kernel() {
    for backend in &BACKENDS {
        on_a_stage(backend, WORKLOADS, |mut stage| check_all(&mut stage, &cases()));
    }
}

#[test]
fn so_it_does_when_all_addresses_are_of_ipv6() {
    let cases: Vec<Case> = cases().iter().filter(|case| !speaks_ipv6(case)).map(in_ipv6).collect();
    assert!(cases.len() > 300, "{}", cases.len());
    for backend in &BACKENDS {
        on_a_stage(backend, WORKLOADS, |mut stage| check_all(&mut stage, &cases));
    }
}

fn check_all(stage: &mut Stage, cases: &[Case]) {
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in cases {
        stage.play(objects::rows(&case.given["objects"]).unwrap());
        let given = case.when["probes"].as_array().expect("a case has probes");
        let verdicts = case.then["verdicts"].as_array().expect("a case has verdicts");
        let probes: Vec<(Probe, bool)> = given
            .iter()
            .zip(verdicts)
            .map(|(probe, verdict)| (read(stage, probe), verdict == "allow"))
            .collect();
        let arrived = stage.send(&probes);
        for ((probe, (_, expected)), arrived) in given.iter().zip(&probes).zip(arrived) {
            count += 1;
            if arrived != *expected {
                wrong.push(format!("{}: {probe}: expected {expected}, arrived {arrived}", case.id));
            }
        }
    }
    println!("{count} packets");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

/// A probe as the vectors write it, in the stage's words.
fn read(stage: &Stage, probe: &Value) -> Probe {
    let end = |name: &str| {
        let name = probe[name].as_str().expect("an end");
        match name.parse::<IpAddr>() {
            Ok(address) => {
                let mut workloads = stage.cluster().workloads().filter_map(calc::cluster::WorkloadPlace::new);
                assert!(!workloads.any(|place| place.addresses.contains(&address)), "{name} is a workload's");
                (Spot::Outside, vec![address])
            }
            Err(_) => stage.workload(name).unwrap_or_else(|| panic!("no pod {name}")),
        }
    };
    let ((from, sources), (to, destinations)) = (end("from"), end("to"));
    let pairs = sources.iter().flat_map(|source| destinations.iter().map(move |to| (*source, *to)));
    let (source, destination) =
        pairs.into_iter().find(|(a, b)| a.is_ipv4() == b.is_ipv4()).expect("a family that both have");
    let number = |name: &str| probe[name].as_u64().map(|number| u16::try_from(number).unwrap());
    let protocol = match &probe["protocol"] {
        Value::Number(number) => u8::try_from(number.as_u64().unwrap()).unwrap(),
        name => name.as_str().unwrap().parse::<api::scalars::Protocol>().unwrap().number(),
    };
    let mut packet = Packet::new(source, destination, protocol, number("port").unwrap_or(0));
    packet.source_port = number("sport").unwrap_or(packet.source_port);
    let byte = |name: &str| number(name).map(|number| u8::try_from(number).unwrap());
    packet.icmp = (byte("icmpType").unwrap_or(packet.icmp.0), byte("icmpCode").unwrap_or(packet.icmp.1));
    Probe { from, to, packet }
}

/// Whether it has anything to do with IPv6 itself; every address has a pair of colons.
fn speaks_ipv6(case: &Case) -> bool {
    case.given.to_string().contains("::") || case.when.to_string().contains("::")
}

/// The same case with every IPv4 address, network and ICMP message in IPv6.
fn in_ipv6(case: &Case) -> Case {
    Case { given: translated(&case.given), when: translated(&case.when), ..case.clone() }
}

fn translated(value: &Value) -> Value {
    match value {
        Value::String(text) => translated_text(text).into(),
        Value::Array(list) => list.iter().map(translated).collect(),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                let value = match (name.as_str(), value.as_u64()) {
                    ("type" | "icmpType", Some(8)) => 128.into(),
                    ("type" | "icmpType", Some(13)) => 139.into(),
                    _ => translated(value),
                };
                (name.clone(), value)
            };
            Value::Object(fields.iter().map(field).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

fn translated_text(text: &str) -> String {
    match text.split_once('/').unwrap_or((text, "")) {
        ("ICMP", "") => "ICMPv6".to_owned(),
        (address, length) if address.parse::<std::net::Ipv4Addr>().is_ok() => match length.parse::<u8>() {
            Ok(length) => format!("fd00:a::{address}/{}", length + 96),
            Err(_) => format!("fd00:a::{address}"),
        },
        _ => text.to_owned(),
    }
}
