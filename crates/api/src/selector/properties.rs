//! Random selectors against a second, naive reading of the language.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::expression::Expression;
use super::{Selector, tokens};

fn label() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a"),
        Just("b"),
        Just("c"),
        Just("in"),
        Just("not"),
        Just("has"),
        Just("all"),
        Just("pcns.a/b-c_d"),
        Just("starts"),
        Just("contains"),
    ]
    .prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = String> {
    let plain =
        prop_oneof![Just(""), Just("x"), Just("xy"), Just("yx"), Just("it's"), Just("\"q\""), Just(" && é")];
    plain.prop_map(str::to_owned)
}

fn values() -> impl Strategy<Value = BTreeSet<String>> {
    prop::collection::btree_set(value(), 0..3)
}

fn leaf() -> impl Strategy<Value = Expression> {
    prop_oneof![
        Just(Expression::All),
        Just(Expression::Global),
        label().prop_map(Expression::Has),
        (label(), value()).prop_map(|(l, v)| Expression::Equal(l, v)),
        (label(), value()).prop_map(|(l, v)| Expression::NotEqual(l, v)),
        (label(), values()).prop_map(|(l, v)| Expression::In(l, v)),
        (label(), values()).prop_map(|(l, v)| Expression::NotIn(l, v)),
        (label(), value()).prop_map(|(l, v)| Expression::Contains(l, v)),
        (label(), value()).prop_map(|(l, v)| Expression::StartsWith(l, v)),
        (label(), value()).prop_map(|(l, v)| Expression::EndsWith(l, v)),
    ]
}

fn expression() -> impl Strategy<Value = Expression> {
    leaf().prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(Expression::negated),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::And),
            prop::collection::vec(inner, 2..4).prop_map(Expression::Or),
        ]
    })
}

fn label_map() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(label(), value(), 0..5)
}

/// The meaning once more, written as the reference's table of operators rather than as the code under test.
fn naive(expression: &Expression, labels: &BTreeMap<String, String>) -> bool {
    let test = |label: &str, absent: bool, present: &dyn Fn(&str) -> bool| match labels.get(label) {
        None => absent,
        Some(value) => present(value),
    };
    match expression {
        Expression::All | Expression::Global => true,
        Expression::Has(l) => labels.contains_key(l),
        Expression::Equal(l, v) => test(l, false, &|actual| actual == v),
        Expression::NotEqual(l, v) => test(l, true, &|actual| actual != v),
        Expression::In(l, vs) => test(l, false, &|actual| vs.iter().any(|v| v == actual)),
        Expression::NotIn(l, vs) => test(l, true, &|actual| vs.iter().all(|v| v != actual)),
        Expression::Contains(l, v) => test(l, false, &|actual| actual.split(v.as_str()).count() > 1),
        Expression::StartsWith(l, v) => test(l, false, &|actual| actual.strip_prefix(v.as_str()).is_some()),
        Expression::EndsWith(l, v) => test(l, false, &|actual| actual.strip_suffix(v.as_str()).is_some()),
        Expression::Not(inner) => !naive(inner, labels),
        Expression::And(parts) => parts.iter().fold(true, |result, part| result & naive(part, labels)),
        Expression::Or(parts) => parts.iter().fold(false, |result, part| result | naive(part, labels)),
    }
}

proptest! {
    #[test]
    fn the_canonical_text_parses_to_the_same_expression(expression in expression()) {
        let text = expression.to_string();
        let parsed = Selector::parse(&text).unwrap();
        prop_assert_eq!(&parsed.0.expression, &expression);
        prop_assert_eq!(parsed.as_str(), text);
    }

    #[test]
    fn blanks_between_tokens_change_nothing(expression in expression(), tabs in any::<bool>()) {
        let text = expression.to_string();
        let blank = if tabs { "\t" } else { "  " };
        let spaced: Vec<&str> = tokens(&text).unwrap().into_iter().map(|token| &text[token.span]).collect();
        prop_assert_eq!(&Selector::parse(&spaced.join(blank)).unwrap().0.expression, &expression);
    }

    #[test]
    fn matching_agrees_with_the_naive_reading(expression in expression(), labels in label_map()) {
        let selector = Selector::new(expression);
        prop_assert_eq!(selector.matches(&labels), naive(&selector.0.expression, &labels));
    }

    #[test]
    fn whatever_matches_meets_the_label_restrictions(expression in expression(), labels in label_map()) {
        let selector = Selector::new(expression);
        if selector.matches(&labels) {
            for (label, restriction) in selector.label_restrictions() {
                let value = labels.get(&label).map(String::as_str);
                prop_assert!(restriction.allows(value), "{selector}: {label} = {value:?} against {restriction:?}");
            }
        }
    }

    #[test]
    fn a_prefix_moves_the_match_to_prefixed_labels(expression in expression(), labels in label_map()) {
        let selector = Selector::new(expression);
        let prefixed: BTreeMap<_, _> = labels.iter().map(|(l, v)| (format!("p.{l}"), v.clone())).collect();
        prop_assert_eq!(selector.matches(&labels), selector.with_label_prefix("p.").matches(&prefixed));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[-!()a{}'\"=&|, \tinhas.é]{0,60}") {
        if let Err(error) = Selector::parse(&text) {
            prop_assert!(error.position() <= text.len());
        }
    }

    #[test]
    fn nesting_of_any_depth_ends_in_an_answer(
        opening in prop::sample::select(vec!["(", "!(", "(has(a)&&", "!!(all()||has(b)&&(", "!"]),
        depth in 0usize..20_000,
        closing in 0usize..20_000,
    ) {
        let text = format!("{}has(a){}", opening.repeat(depth), ")".repeat(closing));
        if let Ok(selector) = Selector::parse(&text) {
            prop_assert_eq!(Selector::parse(selector.as_str()).unwrap(), selector);
        }
    }
}
