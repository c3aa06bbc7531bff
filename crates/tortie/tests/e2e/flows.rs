//! `calicoctl flows` and `policy plan`: what pods try is seen with the rule that decides, and a plan knows it.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::host::reaches;
use crate::lab::{Lab, SOON, eventually, failed, succeeded, when};

const POLICY: &str = "\
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: closed, namespace: default}
spec:
  selector: app == 'closed'
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, destination: {ports: [80]}}
  - {action: Deny, protocol: TCP, destination: {ports: [81]}}
";

const STAGED: &str = "\
apiVersion: projectcalico.org/v3
kind: StagedNetworkPolicy
metadata: {name: closed, namespace: default}
spec: {stagedAction: Delete}
";

/// How long one attempt to reach a closed port takes.
const ATTEMPT: Duration = Duration::from_millis(100);

#[test]
fn what_is_denied_is_seen_as_it_happens_and_a_plan_says_what_would_open_it() {
    let lab = Lab::up(1, &[]);
    succeeded(&lab.lab(&["pod", "add", "closed", "--node", "node-1", "--label", "app=closed"]));
    lab.apply(POLICY);
    let (from, to) = (lab.pod("pod-1"), lab.addresses("closed")[0]);
    let attempt = || assert!(!reaches(&from, to, 81, ATTEMPT));

    // What is followed is what comes from then on: it is tried until the follower has seen it.
    let words = ["ctl", "--", "flows", "--follow", "--denied", "--lines", "1", "-o", "json"];
    let line = std::thread::scope(|scope| {
        let follower = scope.spawn(|| succeeded(&lab.lab(&words)));
        let deadline = Instant::now() + SOON;
        while !follower.is_finished() && Instant::now() < deadline {
            attempt();
        }
        assert!(follower.is_finished(), "nothing was seen: {}", lab.log("node-1"));
        follower.join().expect("the follower")
    });
    let flow: Value = serde_json::from_str(&line).expect("a line is a flow");
    assert_eq!((&flow["action"], &flow["destination"]["port"]), (&"deny".into(), &81.into()), "{flow}");
    assert_eq!(flow["destination"]["name"], "default/closed", "{flow}");
    let denied = &flow["policies"][1];
    assert_eq!(denied["endpoint"], "default/closed", "{flow}");
    assert_eq!(denied["rule"], "NetworkPolicy/default/closed ingress 1", "{flow}");

    let file = lab.folder().join("document.yaml");
    let plan = lab.lab(&["ctl", "--", "policy", "plan", "--delete", "-f", &file.display().to_string()]);
    failed(&plan, 4);
    let text = String::from_utf8_lossy(&plan.stdout);
    assert!(text.contains("newly allowed") && text.contains("default/closed:81"), "{text}");

    lab.apply(STAGED);
    eventually(SOON, || {
        attempt();
        let flows = lab.ctl("flows --pod default/closed");
        when(flows.contains("staged: would allow: Profile/kns.default ingress 0"), &flows)
    });
    attempt();
}
