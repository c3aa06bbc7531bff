//! Every kind of policy, from the file to the row: applied, shown, changed and deleted by the same file.

use crate::world::{World, resource};

/// A Kubernetes policy of the cluster's: `apiVersion`, `kind`, name, and the inside of `spec` in flow style.
fn cluster_policy(version: &str, kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n"
    )
}

fn admin(name: &str, spec: &str) -> String {
    cluster_policy("v1alpha2", "ClusterNetworkPolicy", name, spec)
}

const DENY_GUESTS: &str = "tier: Admin, priority: 5, subject: {pods: {podSelector: {matchLabels: {app: db}}}}, \
    ingress: [{name: no-guests, action: Deny, from: [{namespaces: {matchLabels: {team: guests}}}], \
    protocols: [{sctp: {destinationPort: {range: {start: 80, end: 90}}}}]}]";

#[test]
fn a_cluster_network_policy_is_kept_as_a_global_policy_of_its_tier() {
    let world = World::new();
    let line = world.run_with_input(&["apply", "-f", "-"], &admin("a.b", DENY_GUESTS)).succeeded();
    assert_eq!(line, "Successfully applied 1 'ClusterNetworkPolicy' resource(s)\n");
    assert_eq!(
        world.run(&["get", "gnp", "-o", "wide"]).succeeded(),
        "NAME       TIER         ORDER   SELECTOR\n\
         kcnp.a.b   kube-admin   5       projectcalico.org/orchestrator == 'k8s' && app == 'db'\n"
    );
    let shown = world.run(&["get", "gnp", "kcnp.a.b", "-o", "yaml"]).succeeded();
    for part in ["namespaceSelector: all()", "protocol: SCTP", "80:90", "name: no-guests"] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    // What was shown can be written back.
    world.run_with_input(&["replace", "-f", "-"], &shown).succeeded();
    world.run_with_input(&["delete", "-f", "-"], &admin("a.b", DENY_GUESTS)).succeeded();
    assert_eq!(world.run(&["get", "gnp", "-o", "name"]).succeeded(), "");
}

#[test]
fn a_cluster_network_policy_that_moves_to_the_other_tier_is_still_the_same() {
    let world = World::with(&admin("p", DENY_GUESTS));
    let moved = DENY_GUESTS.replace("Admin", "Baseline");
    world.run_with_input(&["apply", "-f", "-"], &admin("p", &moved)).succeeded();
    assert_eq!(world.run(&["get", "gnp"]).succeeded(), "NAME     TIER\nkcnp.p   kube-baseline\n");
}

#[test]
fn the_older_kinds_are_kept_as_cluster_network_policies_are() {
    let world = World::new();
    let rules = "subject: {namespaces: {}}, egress: [{action: Allow, to: [{networks: [10.0.0.0/8, 'fd00::/8']}], \
                 ports: [{portNumber: {protocol: UDP, port: 53}}, {portRange: {protocol: TCP, start: 1, end: 9}}]}], \
                 ingress: [{action: Deny, from: [{pods: {namespaceSelector: {}, podSelector: {}}}], ports: [{namedPort: web}]}]";
    let text = cluster_policy("v1alpha1", "AdminNetworkPolicy", "a", &format!("priority: 7, {rules}"))
        + &cluster_policy("v1alpha1", "BaselineAdminNetworkPolicy", "default", rules);
    let line = world.run_with_input(&["apply", "-f", "-"], &text).succeeded();
    assert_eq!(line, "Successfully applied 2 resource(s)\n");
    assert_eq!(
        world.run(&["get", "gnp", "-o", "custom-columns=NAME,TIER,ORDER"]).succeeded(),
        "NAME            TIER            ORDER\n\
         kanp.a          kube-admin      7\n\
         kbanp.default   kube-baseline   0\n"
    );
    let shown = world.run(&["get", "gnp", "kanp.a", "-o", "yaml"]).succeeded();
    for part in ["protocol: UDP", "1:9", "10.0.0.0/8", "fd00::/8", "- web"] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    world.run_with_input(&["delete", "-f", "-"], &text).succeeded();
    assert_eq!(world.run(&["get", "gnp", "-o", "name"]).succeeded(), "");
}

#[test]
fn mistakes_in_cluster_network_policies_are_found_before_anything_is_written() {
    let rule =
        |rule: &str| format!("tier: Admin, priority: 1, subject: {{namespaces: {{}}}}, ingress: [{rule}]");
    let from = "from: [{namespaces: {}}]";
    let cases = [
        (DENY_GUESTS.replace("Admin", "Top"), "spec.tier: \"Top\" is not one of Admin, Baseline"),
        (DENY_GUESTS.replace("priority: 5", "priority: 1001"), "spec.priority: \"1001\" is out of range"),
        (DENY_GUESTS.replace("end: 90", "end: 70000"), "sctp.destinationPort.range.end: \"70000\" is above 65535"),
        (rule("{action: Allow, from: [{namespaces: {}}]}"), "is not one of Accept, Deny, Pass"),
        (rule("{action: Deny, from: []}"), "spec.ingress[0].from must not be empty"),
        (rule("{action: Deny, from: [{networks: [10.0.0.0/8]}]}"), "exactly one of namespaces and pods"),
        (rule(&format!("{{action: Deny, {from}, protocol: TCP}}")), "did you mean \"protocols\"?"),
        (rule(&vec![format!("{{action: Deny, {from}}}"); 26].join(", ")), "has 26 entries, but may have 25"),
        ("tier: Admin, priority: 1".to_owned(), "spec.subject has none of namespaces and pods"),
        (
            "tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: \
             [10.0.0.0/8]}], protocols: [{destinationNamedPort: web}]}]"
                .to_owned(),
            "spec.egress[0].protocols[0] names a port, which networks do not have",
        ),
        (
            "tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{nodes: {}}]}]"
                .to_owned(),
            "spec.egress[0].to[0].nodes is not supported; use networks, namespaces or pods",
        ),
    ];
    for (spec, words) in cases {
        let world = World::new();
        world
            .run_with_input(&["apply", "-f", "-"], &admin("p", &spec))
            .failed(&["ClusterNetworkPolicy p", words]);
        assert_eq!(world.snapshot(), [], "{words}");
    }
}

#[test]
fn mistakes_in_the_older_kinds_are_named_in_their_own_words() {
    let rule = |action: &str, port: &str| {
        format!(
            "subject: {{namespaces: {{}}}}, ingress: [{{action: {action}, from: [{{namespaces: {{}}}}], ports: [{port}]}}]"
        )
    };
    let cases = [
        ("AdminNetworkPolicy", "p", rule("Accept", "{namedPort: a}"), "is not one of Allow, Deny, Pass"),
        (
            "BaselineAdminNetworkPolicy",
            "default",
            rule("Pass", "{namedPort: a}"),
            "is not one of Allow, Deny",
        ),
        ("BaselineAdminNetworkPolicy", "p", rule("Deny", "{namedPort: a}"), "has to be \"default\""),
        (
            "AdminNetworkPolicy",
            "p",
            rule("Deny", "{portNumber: {protocol: TCP, port: 0}}"),
            "spec.ingress[0].ports[0].portNumber.port: \"0\" is not a port number",
        ),
        (
            "AdminNetworkPolicy",
            "p",
            rule("Deny", "{portRange: {protocol: TCP, start: 9, end: 2}}"),
            "spec.ingress[0].ports[0].portRange.end: \"2\" is less than the first port",
        ),
        (
            "AdminNetworkPolicy",
            "p",
            rule("Deny", "{portNumber: {protocol: ICMP, port: 1}}"),
            "spec.ingress[0].ports[0].portNumber.protocol: \"ICMP\" is not one of TCP, UDP, SCTP",
        ),
    ];
    for (kind, name, spec, words) in cases {
        let world = World::new();
        let text = cluster_policy("v1alpha1", kind, name, &spec);
        world.run_with_input(&["apply", "-f", "-"], &text).failed(&[kind, words]);
        assert_eq!(world.snapshot(), [], "{words}");
    }
}

#[test]
fn calicos_own_tiers_are_made_when_a_policy_needs_them() {
    let world = World::new();
    for tier in ["kube-admin", "adminnetworkpolicy", "baselineadminnetworkpolicy"] {
        let policy = resource("GlobalNetworkPolicy", &format!("name: {tier}.p"), &format!("tier: {tier}"));
        world.run_with_input(&["apply", "-f", "-"], &policy).succeeded();
    }
    assert_eq!(
        world.run(&["get", "tiers", "-o", "custom-columns=NAME,ORDER,DEFAULTACTION"]).succeeded(),
        "NAME                         ORDER      DEFAULTACTION\n\
         adminnetworkpolicy           1000       Pass\n\
         baselineadminnetworkpolicy   10000000   Pass\n\
         kube-admin                   1000       Pass\n"
    );
}

#[test]
fn staged_policies_are_written_shown_and_deleted() {
    let world = World::new();
    let text =
        resource(
            "StagedNetworkPolicy",
            "name: s, namespace: prod",
            "selector: app == 'db', ingress: [{action: Deny}]",
        ) + &resource("StagedGlobalNetworkPolicy", "name: s", "stagedAction: Set, egress: [{action: Allow}]")
            + &resource(
                "StagedKubernetesNetworkPolicy",
                "name: s, namespace: prod",
                "podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], \
             ports: [{protocol: SCTP, port: 80, endPort: 90}]}]",
            )
            + &resource("StagedGlobalNetworkPolicy", "name: gone", "stagedAction: Delete");
    world.run_with_input(&["apply", "-f", "-"], &text).succeeded();
    for (kind, names) in [
        ("snp", "stagednetworkpolicy/prod/s\n"),
        ("sgnp", "stagedglobalnetworkpolicy/gone\nstagedglobalnetworkpolicy/s\n"),
        ("sknp", "stagedkubernetesnetworkpolicy/prod/s\n"),
    ] {
        let all: &[&str] = if kind == "sgnp" { &[] } else { &["-A"] };
        let arguments = [&["get", kind, "-o", "name"], all].concat();
        assert_eq!(world.run(&arguments).succeeded(), names);
        let shown = world.run(&[&["get", kind, "-o", "yaml"], all].concat()).succeeded();
        world.run_with_input(&["apply", "-f", "-"], &shown).succeeded();
    }
    world
        .run_with_input(
            &["apply", "-f", "-"],
            &resource("StagedGlobalNetworkPolicy", "name: x", "stagedAction: Delete, order: 1"),
        )
        .failed(&["StagedGlobalNetworkPolicy x", "spec.order", "absent when stagedAction is Delete"]);
    world.run_with_input(&["delete", "-f", "-"], &text).succeeded();
    assert_eq!(world.run(&["get", "sgnp", "-o", "name"]).succeeded(), "");
}

#[test]
fn endpoint_slices_are_kept_for_rules_that_name_their_service() {
    let world = World::new();
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-x\n  namespace: shop\n  \
                 labels: {kubernetes.io/service-name: web}\naddressType: IPv4\nendpoints:\n- addresses: [10.65.0.7]\n  \
                 conditions: {ready: true, serving: true}\n  nodeName: node-1\n  targetRef: {kind: Pod, name: web}\nports:\n\
                 - {name: http, port: 8080, protocol: TCP, appProtocol: http}\n- {port: 53, protocol: UDP}\n";
    let line = world.run_with_input(&["apply", "-f", "-"], slice).succeeded();
    assert_eq!(line, "Successfully applied 1 'EndpointSlice' resource(s)\n");
    assert_eq!(
        world.run(&["get", "endpointslices", "-n", "shop", "-o", "wide"]).succeeded(),
        "NAME    SERVICE   ADDRESSES   PORTS\nweb-x   web       10.65.0.7   8080/TCP,53/UDP\n"
    );
    let shown = world.run(&["get", "endpointslices", "-A", "-o", "yaml"]).succeeded();
    world.run_with_input(&["apply", "-f", "-"], &shown).succeeded();
    for (from, to, words) in [
        ("10.65.0.7", "web.example", "endpoints[0].addresses[0]: \"web.example\" is not an IP address"),
        ("port: 53, ", "", "ports[1].port is required"),
        ("labels: {kubernetes.io/service-name: web}", "labels: {a: b}", "kubernetes.io/service-name"),
        ("addresses:", "address:", "did you mean \"addresses\"?"),
    ] {
        world
            .run_with_input(&["apply", "-f", "-"], &slice.replace(from, to))
            .failed(&["EndpointSlice shop/web-x", words]);
    }
    world.run_with_input(&["delete", "-f", "-"], slice).succeeded();
    assert_eq!(world.run(&["get", "endpointslices", "-A", "-o", "name"]).succeeded(), "");
}

#[test]
fn words_for_kinds_of_kubernetes_say_where_to_look() {
    let world = World::new();
    for (word, hint) in [
        ("clusternetworkpolicies", "ClusterNetworkPolicy NAME is kept as GlobalNetworkPolicy kcnp.NAME"),
        ("adminnetworkpolicy", "GlobalNetworkPolicy kanp.NAME: calicoctl get globalnetworkpolicies"),
        ("namespaces", "Namespace NAME is kept as Profile kns.NAME: calicoctl get profiles"),
    ] {
        world.run(&["get", word]).failed(&[hint]);
        world.run(&["delete", word, "a"]).failed(&[hint]);
    }
}
