//! How rules on resources are checked: where the checks of all kinds meet.
//!
//! Each kind implements [`Rules`] beside its spec, and says what it dislikes to a [`Place`]. What several kinds demand is
//! here: names and labels, selectors, communities, ….

mod community;
mod interface;
mod metadata;
mod names;
mod place;
mod selectors;

pub(crate) use community::check_community;
pub(crate) use interface::{check_interface, check_interface_pattern, is_interface_glob, is_interface_name};
pub(crate) use metadata::{check_annotation_keys, check_labels, check_metadata};
pub(crate) use names::{
    check_label_name, check_policy_name, check_port_name, check_subdomain, is_container_id, is_dns_label,
};
pub(crate) use place::Place;
pub(crate) use selectors::{check_namespace_selector, check_selector};

use crate::{Object, Spec};

/// Defaults and rules of a kind.
pub(crate) trait Rules: Spec {
    /// Fills in what the user left out and Calico stores with its default.
    fn apply_defaults(_object: &mut Object<Self>) {}

    /// Checks the name; DNS subdomains unless the kind says otherwise.
    fn check_name(name: &str, at: &Place<'_>) {
        check_subdomain(name, at);
    }

    /// Checks everything but the metadata.
    fn check(object: &Object<Self>, at: &Place<'_>);
}

/// The name that the only object of a kind has.
pub(crate) const SINGLETON: &str = "default";

/// Checks the name of a kind of which only one object is of use.
pub(crate) fn check_singleton_name(name: &str, at: &Place<'_>) {
    if name != SINGLETON {
        at.refuse(name, "has to be \"default\": there is only one of this kind");
    }
}

/// Checks that a number is in a range, both ends included.
pub(crate) fn check_range(number: i64, first: i64, last: i64, at: &Place<'_>) {
    if !(first..=last).contains(&number) {
        at.refuse(number, format!("is out of range: {first}..{last}"));
    }
}

/// Checks that there are at most so many.
pub(crate) fn check_count<T>(items: &[T], most: usize, at: &Place<'_>) {
    if items.len() > most {
        at.refuse_all(format!("has {} entries, but may have {most} at most", items.len()));
    }
}

/// Checks that nothing is there twice.
pub(crate) fn check_unique<T: PartialEq + ToString>(items: &[T], at: &Place<'_>) {
    for (index, item) in items.iter().enumerate() {
        if items[..index].contains(item) {
            at.index(index).refuse(item.to_string(), "is there twice");
        }
    }
}

/// Checks that a duration is not negative.
pub(crate) fn check_duration(duration: Option<crate::scalars::GoDuration>, at: &Place<'_>) {
    if let Some(duration) = duration.filter(|duration| duration.nanos() < 0) {
        at.refuse(duration, "is negative");
    }
}

/// Checks that a text is a regular expression.
pub(crate) fn check_regex(text: &str, at: &Place<'_>) {
    if let Err(error) = regex::Regex::new(text) {
        let cause = error.to_string();
        let cause = cause.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        at.refuse(text, format!("is not a regular expression: {cause}"));
    }
}

/// Metrics of routes: what the kernel's 32 bits and the complement that BGP makes of them leave.
pub(crate) const ROUTE_PRIORITIES: (i64, i64) = (1, 2_147_483_646);
