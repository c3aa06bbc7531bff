//! Which nodes reflect.

use std::collections::{BTreeMap, BTreeSet};

use super::{Member, hash};

struct Candidate<'a> {
    name: &'a str,
    domains: &'a [String],
}

/// Chooses so many of the members that may reflect, or all if there are not more: as evenly from each of the widest domains
/// as can be, within them likewise from the narrower ones, and where there are none left by the hash of the name.
///
/// Where the numbers do not come out even, the hash of a domain's name says which has one more. So a node that comes takes
/// at most the place of one other; a domain that comes takes its share from the others.
pub(super) fn choose(members: &BTreeMap<String, Member>, count: usize) -> BTreeSet<&str> {
    let candidates = members.iter().filter(|(_, member)| member.may_reflect);
    let candidates = candidates.map(|(name, member)| Candidate { name, domains: &member.domains });
    let mut chosen = BTreeSet::new();
    choose_from(candidates.collect(), 0, count, &mut chosen);
    chosen
}

fn choose_from<'a>(
    mut group: Vec<Candidate<'a>>,
    depth: usize,
    count: usize,
    chosen: &mut BTreeSet<&'a str>,
) {
    if group.iter().all(|candidate| candidate.domains.len() <= depth) {
        group.sort_by_key(|candidate| (hash(candidate.name), candidate.name));
        chosen.extend(group.iter().take(count).map(|candidate| candidate.name));
        return;
    }
    let mut parts: BTreeMap<&str, Vec<Candidate<'a>>> = BTreeMap::new();
    for candidate in group {
        let domain = candidate.domains.get(depth).map_or("", String::as_str);
        parts.entry(domain).or_default().push(candidate);
    }
    let mut parts: Vec<_> = parts.into_iter().collect();
    parts.sort_by_key(|(domain, _)| (hash(domain), *domain));
    let sizes: Vec<usize> = parts.iter().map(|(_, part)| part.len()).collect();
    for ((_, part), share) in parts.into_iter().zip(shares(&sizes, count)) {
        choose_from(part, depth + 1, share, chosen);
    }
}

/// Deals out so many places, one after another, to whoever has room left.
fn shares(sizes: &[usize], count: usize) -> Vec<usize> {
    let mut shares = vec![0; sizes.len()];
    let mut left = count.min(sizes.iter().sum());
    while left > 0 {
        for (share, size) in shares.iter_mut().zip(sizes) {
            if *share < *size && left > 0 {
                *share += 1;
                left -= 1;
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_dealt_out_evenly_as_far_as_there_is_room() {
        assert_eq!(shares(&[9, 9, 9], 5), [2, 2, 1]);
        assert_eq!(shares(&[1, 9, 9], 7), [1, 3, 3]);
        assert_eq!(shares(&[1, 1], 5), [1, 1]);
        assert_eq!(shares(&[], 5), [0; 0]);
    }
}
