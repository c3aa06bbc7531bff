//! `host-local` with the addresses that Kubernetes gave to the node: `"subnet": "usePodCidr"` (control-plane.md 1.6).

use serde_json::{Map, Value};

/// The words that stand for the node's IPv4 and IPv6 CIDR. Their case does not matter.
const WORDS: [(&str, Family); 2] = [("usePodCidr", Family::V4), ("usePodCidrIPv6", Family::V6)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// The CIDRs that a node's pods get their addresses from, one of a family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodCidrs {
    ipv4: Option<String>,
    ipv6: Option<String>,
}

impl PodCidrs {
    /// The first of each family in a list, such as a Node's `status.podCIDRs`.
    pub fn of(cidrs: &[String]) -> Self {
        let first = |is_v6: bool| cidrs.iter().find(|cidr| cidr.contains(':') == is_v6).cloned();
        Self { ipv4: first(false), ipv6: first(true) }
    }

    /// All addresses: `host-local` needs a subnet also where it only looks at what it has assigned (DEL, CHECK), whatever
    /// the subnet is.
    pub fn any() -> Self {
        Self { ipv4: Some("0.0.0.0/0".to_owned()), ipv6: Some("::/0".to_owned()) }
    }

    fn of_family(&self, family: Family) -> Option<&str> {
        match family {
            Family::V4 => self.ipv4.as_deref(),
            Family::V6 => self.ipv6.as_deref(),
        }
    }
}

/// The configuration asks for a CIDR that the node does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ipam.subnet {0} asks for the node's pod CIDR, and the node has none of that family")]
pub struct NoPodCidr(&'static str);

/// Whether the `ipam` part of a configuration asks for the node's CIDRs. That of a pod does also when it names no subnet.
pub fn wants_pod_cidr(config: &Value, is_pod: bool) -> bool {
    let mut wants = false;
    let mut copy = config.clone();
    visit(&mut copy, is_pod, |_, _| {
        wants = true;
        Ok::<_, NoPodCidr>(None)
    })
    .map_or(true, |()| wants)
}

/// Puts the CIDRs where a configuration asks for them.
///
/// # Errors
/// [`NoPodCidr`]; the configuration is of no use then.
pub fn replace_pod_cidrs(config: &mut Value, is_pod: bool, cidrs: &PodCidrs) -> Result<(), NoPodCidr> {
    visit(config, is_pod, |word, family| {
        cidrs.of_family(family).map(str::to_owned).map(Some).ok_or(NoPodCidr(word))
    })
}

/// Calls for every subnet that is one of the words; what is returned replaces it.
fn visit<E>(
    config: &mut Value,
    is_pod: bool,
    mut cidr: impl FnMut(&'static str, Family) -> Result<Option<String>, E>,
) -> Result<(), E> {
    let Some(ipam) = config.get_mut("ipam").and_then(Value::as_object_mut) else { return Ok(()) };
    let has_ranges = ipam.get("ranges").and_then(Value::as_array).is_some_and(|ranges| !ranges.is_empty());
    let has_subnet = ipam.get("subnet").and_then(Value::as_str).is_some_and(|subnet| !subnet.is_empty());
    if is_pod && !has_ranges && !has_subnet {
        ipam.insert("subnet".to_owned(), WORDS[0].0.into());
    }
    replace(ipam, &mut cidr)?;
    let sets = ipam.get_mut("ranges").and_then(Value::as_array_mut).into_iter().flatten();
    let ranges = sets.filter_map(Value::as_array_mut).flatten().filter_map(Value::as_object_mut);
    for range in ranges {
        replace(range, &mut cidr)?;
    }
    Ok(())
}

fn replace<E>(
    range: &mut Map<String, Value>,
    cidr: &mut impl FnMut(&'static str, Family) -> Result<Option<String>, E>,
) -> Result<(), E> {
    let subnet = range.get("subnet").and_then(Value::as_str).unwrap_or_default();
    let found = WORDS.into_iter().find(|(word, _)| word.eq_ignore_ascii_case(subnet));
    if let Some((word, family)) = found
        && let Some(cidr) = cidr(word, family)?
    {
        range.insert("subnet".to_owned(), cidr.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn replaced(ipam: &Value, is_pod: bool, cidrs: &[&str]) -> Result<Value, String> {
        let mut config = json!({ "ipam": ipam });
        let cidrs: Vec<_> = cidrs.iter().map(|cidr| (*cidr).to_owned()).collect();
        replace_pod_cidrs(&mut config, is_pod, &PodCidrs::of(&cidrs)).map_err(|error| error.to_string())?;
        Ok(config["ipam"].clone())
    }

    #[test]
    fn the_words_are_replaced_at_the_top_and_in_ranges_whatever_their_case() {
        let ipam = json!({"subnet": "usepodcidr", "ranges": [[{"subnet": "usePodCidrIPv6"}], [{"subnet": "10.1.0.0/24"}]]});
        let wanted = json!({"subnet": "10.0.0.0/24", "ranges": [[{"subnet": "fd00::/64"}], [{"subnet": "10.1.0.0/24"}]]});
        assert_eq!(replaced(&ipam, false, &["10.0.0.0/24", "fd00::/64"]), Ok(wanted));
        assert!(wants_pod_cidr(&json!({ "ipam": ipam }), false));
    }

    #[test]
    fn only_a_pod_without_any_subnet_means_the_nodes() {
        assert_eq!(
            replaced(&json!({"subnet": ""}), true, &["10.0.0.0/24"]),
            Ok(json!({"subnet": "10.0.0.0/24"}))
        );
        assert_eq!(replaced(&json!({}), false, &["10.0.0.0/24"]), Ok(json!({})));
        let own = json!({"ranges": [[{"subnet": "10.1.0.0/24"}]]});
        assert_eq!(replaced(&own, true, &[]), Ok(own.clone()));
        assert!(!wants_pod_cidr(&json!({ "ipam": own }), true));
        assert!(!wants_pod_cidr(&json!({}), true), "no ipam at all");
    }

    #[test]
    fn a_family_that_the_node_does_not_have_is_named() {
        let error = replaced(&json!({"subnet": "usePodCidrIPv6"}), true, &["10.0.0.0/24"]).unwrap_err();
        assert!(error.contains("usePodCidrIPv6"), "{error}");
    }
}
