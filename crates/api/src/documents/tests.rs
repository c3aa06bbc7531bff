use serde_json::json;

use super::*;

fn names(documents: &[Document]) -> Vec<String> {
    documents.iter().map(|document| document.key().to_string()).collect()
}

fn refusals(text: &str) -> Vec<String> {
    load(text).unwrap_err().0.iter().map(ToString::to_string).collect()
}

const POOL: &str =
    "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  name: pool\nspec:\n  cidr: 10.0.0.0/16\n";

#[test]
fn a_file_may_hold_many_documents_of_both_worlds() {
    let text = format!(
        "{POOL}---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: web\nspec:\n  podSelector: {{}}\n---\n"
    );
    let documents = load(&text).unwrap();
    assert_eq!(names(&documents), ["IPPool pool", "NetworkPolicy default/knp.default.web"]);
    let Document::Kubernetes(policy) = &documents[1] else { panic!("{documents:?}") };
    assert_eq!((policy.kind.as_str(), policy.name.as_str()), ("NetworkPolicy", "web"));
    assert_eq!(policy.namespace.as_deref(), Some("default"));
}

#[test]
fn lists_of_any_kind_and_of_one_kind_are_taken_apart() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: projectcalico.org/v3\n  kind: Tier\n  metadata: {name: a}\n\
                - apiVersion: projectcalico.org/v3\n  kind: TierList\n  metadata: {resourceVersion: '7'}\n  items:\n  - metadata: {name: b}\n";
    assert_eq!(names(&load(text).unwrap()), ["Tier a", "Tier b"]);
}

#[test]
fn json_is_read_too() {
    let text = r#"{"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy", "metadata": {"name": "a"}, "spec": {"order": 1.5}}"#;
    assert_eq!(names(&load(text).unwrap()), ["NetworkPolicy default/a"]);
}

#[test]
fn numbers_that_yaml_would_change_are_read_as_written() {
    let text = "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {name: p, labels: {build: 0755, answer: yes}}\n\
                spec: {asNumber: 64512.10, peerIP: 10.0.0.1}\n";
    let documents = load(text).unwrap();
    let Resource::BGPPeer(peer) = documents[0].resource() else { panic!("{documents:?}") };
    assert_eq!(peer.spec.as_number, Some(crate::scalars::AsNumber(64512 * 65536 + 10)));
    assert_eq!(peer.metadata.labels["build"], "0755");
    assert_eq!(peer.metadata.labels["answer"], "yes");
}

#[test]
fn defaults_are_filled_in_by_load_alone() {
    let block_size = |documents: Vec<Document>| match documents[0].resource() {
        Resource::IPPool(pool) => pool.spec.block_size,
        other => panic!("{other:?}"),
    };
    assert_eq!((block_size(read(POOL).unwrap()), block_size(load(POOL).unwrap())), (None, Some(26)));
}

#[test]
fn unknown_fields_are_errors_that_say_where_and_what_was_meant() {
    let text = format!("---\n{POOL}  natOutgoin: true\n  spam: 1\n");
    assert_eq!(
        refusals(&text),
        [
            "document 1, line 8: IPPool pool: spec.natOutgoin: \"true\" is not a field here; did you mean \"natOutgoing\"?",
            "document 1, line 9: IPPool pool: spec.spam: \"1\" is not a field here; known are cidr, vxlanMode, ipipMode, \
             natOutgoing, disabled, disableBGPExport, blockSize, nodeSelector, namespaceSelector, allowedUses, assignmentMode",
        ]
    );
}

#[test]
fn broken_rules_say_the_line_of_their_field() {
    let text = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata:\n  name: web\nspec:\n  ingress:\n  - action: Allow\n\
                \x20   protocol: ICMP\n    destination:\n      ports:\n      - 80\n      - 0\n";
    assert_eq!(
        refusals(text),
        [
            "document 1, line 11: NetworkPolicy web: spec.ingress[0].destination.ports[0]: \"80\" means nothing: protocol \
             ICMP has no ports; only TCP, UDP and SCTP have",
            "document 1, line 12: NetworkPolicy web: spec.ingress[0].destination.ports[1]: \"0\" includes port 0; ports are \
             1..65535",
            "document 1, line 12: NetworkPolicy web: spec.ingress[0].destination.ports[1]: \"0\" means nothing: protocol \
             ICMP has no ports; only TCP, UDP and SCTP have",
        ]
    );
}

#[test]
fn every_document_of_a_file_is_looked_at() {
    let bad = POOL.replace("10.0.0.0/16", "10.0.0.0/33");
    let errors = refusals(&format!("{POOL}---\n{bad}---\n{bad}"));
    assert_eq!(errors.len(), 2);
    assert!(
        errors[0].starts_with("document 2, line 13: IPPool pool: spec.cidr: \"10.0.0.0/33\" is not"),
        "{errors:?}"
    );
}

#[test]
fn what_is_no_resource_is_named() {
    let cases = [
        ("just text\n", "document 1, line 1: has to be an object with apiVersion, kind, metadata and spec"),
        ("a: [1\n", "document 1, line 1: is not YAML at column"),
        ("kind: IPPool\n", "apiVersion is required: projectcalico.org/v3"),
        (
            "apiVersion: projectcalico.org/v3\nkind: IPPol\n",
            "\"IPPol\" is not a kind of projectcalico.org/v3; did you mean IPPool?",
        ),
        (
            "apiVersion: projectcalico.org/v1\nkind: IPPool\n",
            "line 1: IPPool: apiVersion: \"projectcalico.org/v1\" is not projectcalico.org/v3",
        ),
        ("apiVersion: apps/v1\nkind: Deployment\n", "is not a Kubernetes kind that can be stored"),
        ("apiVersion: v1\nkind: List\nitem: []\n", "item is not a field of a list"),
        ("apiVersion: v1\nkind: List\nitems: 3\n", "items has to be a list"),
        ("apiVersion: v1\nkind: List\nitems: [3]\n", "items[0] has to be an object"),
    ];
    for (text, expected) in cases {
        let errors = refusals(text);
        assert!(errors[0].contains(expected), "{text:?}: {errors:?}");
    }
}

#[test]
fn a_missing_required_field_is_named() {
    let errors = refusals("apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\n");
    assert_eq!(errors, ["document 1, line 1: IPPool p: spec.cidr is required"]);
}

#[test]
fn output_can_be_read_again() {
    let documents = load(POOL).unwrap();
    let resources: Vec<Resource> = documents.iter().map(|document| document.resource().clone()).collect();
    let list = list_value(crate::Kind::IPPool, Some("12"), &resources);
    assert_eq!(list["metadata"], json!({"resourceVersion": "12"}));
    assert_eq!(load(&to_yaml(&list)).unwrap(), documents);
    assert_eq!(load(&to_json(&list)).unwrap(), documents);
}

#[test]
fn yaml_output_is_sorted_and_quotes_what_could_be_taken_for_something_else() {
    let mut pool = load(POOL).unwrap().remove(0).into_resource();
    pool.metadata_mut().labels.insert("answer".to_owned(), "yes".to_owned());
    assert_eq!(
        to_yaml(&pool.to_value()),
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  labels:\n    answer: \"yes\"\n  name: pool\nspec:\n  \
         allowedUses:\n  - Workload\n  - Tunnel\n  assignmentMode: Automatic\n  blockSize: 26\n  cidr: 10.0.0.0/16\n  \
         ipipMode: Never\n  nodeSelector: all()\n  vxlanMode: Never\n"
    );
}

#[test]
fn what_names_no_namespace_goes_into_the_one_that_was_asked_for() {
    let text = "apiVersion: projectcalico.org/v3\nkind: NetworkSet\nmetadata: {name: a}\n---\n\
                apiVersion: projectcalico.org/v3\nkind: NetworkSet\nmetadata: {name: b, namespace: own}\n---\n\
                apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: c}\nspec: {podSelector: {}}\n---\n\
                apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: d, namespace: null}\n---\n\
                apiVersion: v1\nkind: Namespace\nmetadata: {name: e}\n---\n\
                apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: f}\n";
    let expected = [
        "NetworkSet prod/a",
        "NetworkSet own/b",
        "NetworkPolicy prod/knp.default.c",
        "Profile ksa.prod.d",
        "Profile kns.e",
        "Tier f",
    ];
    assert_eq!(names(&load_into(text, "prod").unwrap()), expected);
}

#[test]
fn pods_and_services_are_read_where_a_cluster_is_asked_for_and_refused_elsewhere() {
    let text = format!(
        "{POOL}---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {{name: p, uid: x}}\n  \
         spec: {{nodeName: n, unknown: 1}}\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec: {{ports: [{{port: 80}}]}}\n"
    );
    let (documents, observed) = load_cluster(&text).unwrap();
    assert_eq!(names(&documents), ["IPPool pool"]);
    let [Observed::Pod(pod), Observed::Service(service)] = &observed[..] else { panic!("{observed:?}") };
    assert_eq!((pod.spec.node_name.as_str(), service.spec.ports[0].port), ("n", 80));
    assert!(refusals(&text)[0].contains("is not a Kubernetes kind that can be stored"));
}
