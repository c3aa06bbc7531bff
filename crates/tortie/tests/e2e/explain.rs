//! `calicoctl explain` on a host of a lab: what it says of a packet is what becomes of it, and what the kernel holds.

use serde_json::Value;

use crate::host::{Server, reaches};
use crate::lab::{Lab, SOON, eventually, when};

const POLICY: &str = "\
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: one-port, namespace: default}
spec:
  selector: all()
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, destination: {ports: [80]}, source: {selector: all()}}
";

fn explain(lab: &Lab, port: u16) -> Value {
    let words = format!("--from pod-1 --to pod-2 --protocol TCP --port {port} -o json");
    let text = lab.exec("node-2", &format!("calicoctl explain {words}"));
    let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    answer["answers"][0].clone()
}

#[test]
fn the_model_is_what_the_kernel_holds_and_does() {
    let lab = Lab::up(2, &[]);
    lab.apply(POLICY);
    let (from, to) = (lab.pod("pod-1"), lab.pod("pod-2"));
    let _servers = [80, 81].map(|port| Server::start(&to, port));
    for (port, verdict, origin) in [
        (80, "allow", "NetworkPolicy/default/one-port ingress 0"),
        (81, "deny", "end of tier default ingress"),
    ] {
        let answer = eventually(SOON, || {
            let answer = explain(&lab, port);
            when(answer["kernel"]["modelIsKernel"] == true, &answer.to_string()).map(|_| answer)
        });
        assert_eq!(
            (&answer["verdict"], &answer["stages"][1]["decidedBy"]["origin"]),
            (&verdict.into(), &origin.into())
        );
        let before = decided(&answer);
        assert_eq!(reaches(&from, lab.address("pod-2"), port, SOON / 10), verdict == "allow", "port {port}");
        let after = explain(&lab, port);
        assert!(decided(&after) > before, "the deciding rule counts: {after}");
        let known = after["kernel"]["connections"].to_string().contains(&format!(":{port}\""));
        assert_eq!(known, verdict == "allow", "{after}");
    }
}

/// Packets that the deciding rule at the receiver's has decided on.
fn decided(answer: &Value) -> u64 {
    let packets = &answer["kernel"]["stages"][0]["rule"]["packets"];
    packets.as_u64().unwrap_or_else(|| panic!("no counter: {answer}"))
}
