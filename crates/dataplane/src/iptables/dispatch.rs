//! From an interface to its chain: a tree over the characters of names, so that a packet meets few rules whatever the number
//! of interfaces (datapath.md 4.12).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names::dispatch_name;
use super::rule::Rule;

/// So many interfaces are asked for one after the other.
const LEAF: usize = 8;

/// Which interface of a packet is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// That it came in by.
    In,
    /// That it leaves by.
    Out,
}

impl End {
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::In => "-i",
            Self::Out => "-o",
        }
    }
}

/// Whether iptables takes it for the name of one interface.
pub(super) fn is_plain(interface: &str) -> bool {
    !interface.is_empty()
        && interface.len() <= 15
        && !interface.starts_with(['-', '!'])
        && interface.chars().all(|c| c.is_ascii_alphanumeric() || "_.:@-".contains(c))
}

/// The chains of the tree. `first` begins the root, and `last` ends each of them: what no interface of ours is.
pub(super) fn tree(
    root: &Arc<str>,
    end: End,
    interfaces: &BTreeMap<Arc<str>, Arc<str>>,
    first: Vec<Rule>,
    last: &[Rule],
) -> BTreeMap<Arc<str>, Vec<Rule>> {
    let all: Vec<(&str, &str)> = interfaces.iter().map(|(name, chain)| (&**name, &**chain)).collect();
    let mut tree = Tree { root, end, last, chains: BTreeMap::new() };
    tree.node(root.clone(), &all, first);
    tree.chains
}

struct Tree<'a> {
    root: &'a str,
    end: End,
    last: &'a [Rule],
    chains: BTreeMap<Arc<str>, Vec<Rule>>,
}

impl Tree<'_> {
    fn node(&mut self, name: Arc<str>, interfaces: &[(&str, &str)], mut rules: Vec<Rule>) {
        let option = self.end.option();
        let prefix = common_prefix(interfaces);
        for group in interfaces.chunk_by(|a, b| a.0.get(..=prefix) == b.0.get(..=prefix)) {
            match group[0].0.get(..=prefix).filter(|_| interfaces.len() > LEAF && group.len() > 1) {
                Some(common) => {
                    let child = dispatch_name(self.root, common);
                    rules.push(Rule::new(format!("{option} {common}+ -g {child}")));
                    self.node(child, group, Vec::new());
                }
                None => rules.extend(
                    group
                        .iter()
                        .map(|(interface, chain)| Rule::new(format!("{option} {interface} -g {chain}"))),
                ),
            }
        }
        rules.extend(self.last.iter().cloned());
        self.chains.insert(name, rules);
    }
}

/// How many characters all names have in common. They are in order, and ASCII.
fn common_prefix(interfaces: &[(&str, &str)]) -> usize {
    let (Some((first, _)), Some((last, _))) = (interfaces.first(), interfaces.last()) else { return 0 };
    first.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count()
}
