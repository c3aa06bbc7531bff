//! Ports of rules: the fewest ranges that say the same.

use crate::scalars::Port;

/// The same ports in fewer words: names first, as they came, then numbers in order, with ranges that touch or overlap made
/// one. With at most one number in it, a list stays as it is.
pub fn simplify_ports(ports: Vec<Port>) -> Vec<Port> {
    let mut ranges: Vec<(u16, u16)> = ports.iter().filter_map(Port::range).collect();
    if ranges.len() <= 1 {
        return ports;
    }
    ranges.sort_unstable();
    let mut simplified: Vec<Port> = ports.into_iter().filter(|port| port.range().is_none()).collect();
    simplified.extend(merged(ranges).into_iter().map(|(first, last)| port_range(first, last)));
    simplified
}

fn merged(sorted: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in sorted {
        match merged.last_mut() {
            Some(open) if u32::from(first) <= u32::from(open.1) + 1 => open.1 = open.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// A range, or a single port if it is no more than that.
pub(super) fn port_range(first: u16, last: u16) -> Port {
    if first == last { Port::Number(first) } else { Port::Range(first, last) }
}
