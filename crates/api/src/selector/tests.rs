use std::collections::BTreeMap;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn parse(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

fn message(text: &str) -> String {
    Selector::parse(text).unwrap_err().to_string()
}

#[test]
fn an_error_says_where_what_and_what_instead() {
    assert_eq!(message("a = 'x'"), "selector, position 2: found \"=\", expected `==`");
    assert_eq!(message("a == b"), "selector, position 5: found label b, expected a string in quotes");
    assert_eq!(
        message("has(a) && (b == 'x'"),
        "selector, position 19: found the end, expected `&&`, `||` or `)`"
    );
    assert_eq!(message("a == 'x"), "selector, position 5: the string that starts here lacks its closing '");
    assert_eq!(
        message("has(a) has(b)"),
        "selector, position 7: found has(b), expected `&&`, `||` or the end"
    );
    assert_eq!(message("a in {'x' 'y'}"), "selector, position 10: found string \"y\", expected `,` or `}`");
}

#[test]
fn positions_count_bytes() {
    assert_eq!(Selector::parse("a == 'é' = 'x'").unwrap_err().position(), 10);
}

#[test]
fn nested_negation_collapses_so_that_the_canonical_text_parses_to_itself() {
    assert_eq!(parse("!(!has(a))").to_string(), "has(a)");
    assert_eq!(parse("!(!(!has(a)))").to_string(), "!has(a)");
}

#[test]
fn brackets_have_a_bound_that_a_policy_selector_cannot_reach() {
    let nested = |depth: usize| format!("{}has(a){}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(parse(&nested(508)).to_string(), "has(a)");
    assert_eq!(
        Selector::parse(&nested(parser::MAX_DEPTH + 1)),
        Err(SelectorError::TooDeep { position: parser::MAX_DEPTH })
    );
    let two_for_one =
        |depth: usize| format!("{}has(a){}", "(has(a) && has(b) || ".repeat(depth), ")".repeat(depth));
    assert_eq!(Selector::parse(&two_for_one(300)), Ok(parse(&two_for_one(300))));
    assert_eq!(
        Selector::parse(&format!("{}has(a){}", "(".repeat(200_000), ")".repeat(200_000))),
        Err(SelectorError::TooDeep { position: parser::MAX_DEPTH })
    );
}

#[test]
fn an_endpoint_s_own_labels_win_over_inherited_ones() {
    let own = labels(&[("a", "own")]);
    let inherited = [labels(&[("a", "first"), ("b", "first")]), labels(&[("b", "second"), ("c", "second")])];
    let view = Layered { own: &own, inherited: &inherited[..] };
    assert!(parse("a == 'own' && b == 'first' && c == 'second' && !has(d)").matches(&view));
}

#[test]
fn a_namespace_selector_speaks_of_prefixed_labels() {
    assert_eq!(
        parse("env == 'x' || all()").for_namespaces().as_str(),
        "(pcns.env == \"x\" || has(projectcalico.org/namespace))"
    );
    assert_eq!(parse("global()").for_namespaces().as_str(), "!has(projectcalico.org/namespace)");
    assert_eq!(parse("!global()").for_namespaces().as_str(), "has(projectcalico.org/namespace)");
}

#[test]
fn a_policy_stays_in_its_namespace() {
    assert_eq!(policy_selector(None, None, None, None).as_str(), "all()");
    assert_eq!(policy_selector(Some("n"), None, None, None).as_str(), "projectcalico.org/namespace == \"n\"");
    assert_eq!(
        policy_selector(Some("n"), Some(&parse("a == 'x'")), None, Some(&parse("has(b)"))).as_str(),
        "((a == \"x\" && projectcalico.org/namespace == \"n\") && has(pcsa.b))"
    );
}

#[test]
fn a_rule_is_bound_to_the_namespace_only_if_it_selects_endpoints() {
    assert_eq!(PeerSelector::default().compile(Some("n")), None);
    let only_not = PeerSelector { has_not_selector: true, ..PeerSelector::default() };
    assert_eq!(only_not.compile(Some("n")), Some(parse("projectcalico.org/namespace == 'n'")));
    assert_eq!(only_not.compile(None), None);
    let (selector, names) = (parse("a == 'x'"), ["s".to_owned()]);
    let peer =
        PeerSelector { selector: Some(&selector), service_account_names: &names, ..PeerSelector::default() };
    assert_eq!(
        peer.compile(Some("n")),
        Some(parse(
            "projectcalico.org/namespace == 'n' && (projectcalico.org/serviceaccount in {'s'} && a == 'x')"
        ))
    );
    let elsewhere = parse("env == 'p'");
    let peer = PeerSelector { namespace_selector: Some(&elsewhere), ..PeerSelector::default() };
    assert_eq!(peer.compile(Some("n")), Some(parse("pcns.env == 'p'")));
}

#[test]
fn global_is_recognised_wherever_it_stands() {
    assert!(parse("global()").is_global());
    assert!(parse("has(a) && !global()").mentions_global());
    assert!(!parse("has(global)").mentions_global());
}
