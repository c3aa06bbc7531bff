//! The tables of a family: what is wanted, what is there, and the `iptables-restore` input that leads from one to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use kernel::nft::{Count, RuleCount};
use kernel::ownership::{CHAIN_PREFIX, COMMENT_PREFIX};

use super::rule::Rule;
use crate::backend::Stage;
use crate::nft::hash;

/// A table of iptables, in the order in which they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TableName {
    Raw,
    Mangle,
    Nat,
    Filter,
}

impl TableName {
    pub(super) const ALL: [Self; 4] = [Self::Raw, Self::Mangle, Self::Nat, Self::Filter];

    /// The table of a stage.
    pub(super) fn of(stage: Stage) -> Self {
        match stage {
            Stage::Untracked => Self::Raw,
            Stage::PreDnat => Self::Mangle,
            Stage::Filter => Self::Filter,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Filter => "filter",
        }
    }
}

/// Our rules in one of the kernel's chains.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Hook {
    /// At its beginning, or where `append` says so at its end.
    pub(super) first: Vec<Rule>,
    /// `ChainInsertMode`.
    pub(super) append: bool,
    /// At its end.
    pub(super) last: Vec<Rule>,
}

/// A rule with its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hashed {
    hash: String,
    text: String,
}

impl Hashed {
    fn line(&self) -> String {
        format!("-m comment --comment \"{COMMENT_PREFIX}{}\" {}", self.hash, self.text)
    }
}

/// Characters of a rule's hash.
const HASH: usize = 16;

/// The hash says which rule of which chain it is: one that goes on with the rule before it, whose that is; and of equal ones,
/// the how manieth.
fn hashed(chain: &str, rules: &[Rule]) -> Vec<Hashed> {
    let mut before = String::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all = Vec::with_capacity(rules.len());
    for rule in rules {
        let text = match rule.follows {
            true => format!("{chain} {} after {before}", rule.text),
            false => {
                let number = seen.entry(&rule.text).or_insert(0);
                *number += 1;
                format!("{chain} {} {number}", rule.text)
            }
        };
        before = hash(&text, HASH);
        all.push(Hashed { hash: before.clone(), text: rule.text.clone() });
    }
    all
}

/// What a table is to hold of ours.
#[derive(Debug, Clone, Default)]
struct Wanted {
    chains: BTreeMap<Arc<str>, Vec<Hashed>>,
    targets: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// By chain of the kernel.
    hooks: BTreeMap<&'static str, HashedHook>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct HashedHook {
    first: Vec<Hashed>,
    append: bool,
    last: Vec<Hashed>,
}

/// The hashes of a chain's rules, in order; none where a rule has none of ours.
type Hashes = Vec<Option<String>>;

/// What is in a table: our chains, and chains of others that lead to them or have rules of ours.
pub(super) type Actual = BTreeMap<TableName, BTreeMap<String, Hashes>>;

/// The tables of a family.
#[derive(Debug, Default)]
pub(super) struct Tables {
    wanted: BTreeMap<TableName, Wanted>,
}

impl Tables {
    /// The chain has exactly these rules. Gives whether that is news.
    pub(super) fn set_chain(
        &mut self,
        table: TableName,
        name: &Arc<str>,
        rules: &[Rule],
        targets: BTreeSet<Arc<str>>,
    ) -> bool {
        let rules = hashed(name, rules);
        let wanted = self.wanted.entry(table).or_default();
        if targets.is_empty() {
            wanted.targets.remove(name);
        } else {
            wanted.targets.insert(name.clone(), targets);
        }
        match wanted.chains.get_mut(name) {
            Some(known) if *known == rules => false,
            Some(known) => {
                *known = rules;
                true
            }
            None => {
                wanted.chains.insert(name.clone(), rules);
                true
            }
        }
    }

    /// There is no such chain. Gives whether that is news.
    pub(super) fn remove_chain(&mut self, table: TableName, name: &str) -> bool {
        let Some(wanted) = self.wanted.get_mut(&table) else { return false };
        wanted.targets.remove(name);
        wanted.chains.remove(name).is_some()
    }

    /// These, and no others, are our rules in the kernel's chains of a table.
    pub(super) fn set_hooks(&mut self, table: TableName, hooks: BTreeMap<&'static str, Hook>) {
        let hashed = |(chain, hook): (&'static str, Hook)| {
            let hook = HashedHook {
                first: hashed(chain, &hook.first),
                append: hook.append,
                last: hashed(&format!("{chain} end"), &hook.last),
            };
            (chain, hook)
        };
        self.wanted.entry(table).or_default().hooks = hooks.into_iter().map(hashed).collect();
    }

    /// The input that leads from what is there to what is wanted; empty when nothing differs. Then `actual` is what will be
    /// there.
    pub(super) fn plan(&self, actual: &mut Actual) -> String {
        let mut input = String::new();
        for table in TableName::ALL {
            let nothing = Wanted::default();
            let wanted = self.wanted.get(&table).unwrap_or(&nothing);
            let plan = TablePlan::new(wanted).make(actual.entry(table).or_default());
            if !plan.is_empty() {
                let _ = write!(input, "*{}\n{plan}COMMIT\n", table.name());
            }
        }
        input
    }
}

/// A chain that something jumps to and that is not there drops: a packet must not come past what was to judge it.
fn closed(name: &Arc<str>) -> Vec<Hashed> {
    hashed(name, &[Rule::because("closed: a chain is missing", "-j DROP")])
}

struct TablePlan<'a> {
    wanted: &'a Wanted,
    closed: BTreeMap<Arc<str>, Vec<Hashed>>,
    declared: String,
    rules: String,
    deleted: String,
}

impl<'a> TablePlan<'a> {
    fn new(wanted: &'a Wanted) -> Self {
        let missing = wanted.targets.values().flatten().filter(|name| !wanted.chains.contains_key(*name));
        let closed = missing.map(|name| (name.clone(), closed(name))).collect();
        Self { wanted, closed, declared: String::new(), rules: String::new(), deleted: String::new() }
    }

    fn make(mut self, actual: &mut BTreeMap<String, Hashes>) -> String {
        let gone: Vec<String> =
            actual.keys().filter(|name| is_ours(name) && !self.is_wanted(name)).cloned().collect();
        for (name, rules) in self.wanted.chains.iter().chain(&self.closed.clone()) {
            self.chain(name, rules, actual);
        }
        let kernel: Vec<String> = actual.keys().filter(|name| !is_ours(name)).cloned().collect();
        for name in kernel {
            let nothing = HashedHook::default();
            let hook = self.wanted.hooks.get(&*name).unwrap_or(&nothing);
            if let Some(hashes) = actual.get_mut(&name) {
                self.hook(&name, hook, hashes);
            }
        }
        for (name, hook) in &self.wanted.hooks {
            if !actual.contains_key(*name) {
                let mut hashes = Hashes::new();
                self.hook(name, hook, &mut hashes);
                actual.insert((*name).to_owned(), hashes);
            }
        }
        for name in gone {
            let _ = writeln!(self.declared, ":{name} - [0:0]");
            let _ = writeln!(self.deleted, "-X {name}");
            actual.remove(&name);
        }
        self.declared + &self.rules + &self.deleted
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.wanted.chains.contains_key(name) || self.closed.contains_key(name)
    }

    fn chain(&mut self, name: &Arc<str>, wanted: &[Hashed], actual: &mut BTreeMap<String, Hashes>) {
        let same = |(known, rule): (&Option<String>, &Hashed)| known.as_ref() == Some(&rule.hash);
        match actual.get(&**name) {
            Some(known) if known.len() == wanted.len() && known.iter().zip(wanted).all(same) => return,
            Some(known) => self.change(name, wanted, known),
            None => self.write(name, wanted),
        }
        actual.insert(name.to_string(), wanted.iter().map(|rule| Some(rule.hash.clone())).collect());
    }

    /// A chain that is new, or was emptied by its declaration.
    fn write(&mut self, name: &str, wanted: &[Hashed]) {
        let _ = writeln!(self.declared, ":{name} - [0:0]");
        for rule in wanted {
            let _ = writeln!(self.rules, "-A {name} {}", rule.line());
        }
    }

    /// The rules at both ends that stay keep their counters.
    fn change(&mut self, name: &str, wanted: &[Hashed], known: &Hashes) {
        let same = |known: &Option<String>, rule: &Hashed| known.as_ref() == Some(&rule.hash);
        let before = known.iter().zip(wanted).take_while(|(known, rule)| same(known, rule)).count();
        let (known, wanted) = (&known[before..], &wanted[before..]);
        let after =
            known.iter().rev().zip(wanted.iter().rev()).take_while(|(known, rule)| same(known, rule)).count();
        let (known, wanted) = (&known[..known.len() - after], &wanted[..wanted.len() - after]);
        let replaced = known.len().min(wanted.len());
        for (number, rule) in wanted.iter().enumerate() {
            let place = before + number + 1;
            let operation = if number < replaced { "-R" } else { "-I" };
            let _ = writeln!(self.rules, "{operation} {name} {place} {}", rule.line());
        }
        for _ in replaced..known.len() {
            let _ = writeln!(self.rules, "-D {name} {}", before + replaced + 1);
        }
    }

    /// Ours are where they are to be, or all of them are put there anew, in the same commit.
    fn hook(&mut self, name: &str, hook: &HashedHook, hashes: &mut Hashes) {
        if is_placed(hook, hashes) {
            return;
        }
        for place in (0..hashes.len()).rev().filter(|place| hashes[*place].is_some()) {
            let _ = writeln!(self.rules, "-D {name} {}", place + 1);
        }
        let others = hashes.iter().filter(|known| known.is_none()).count();
        let mut placed: Hashes = vec![None; others];
        for (number, rule) in hook.first.iter().enumerate() {
            let place = if hook.append { placed.len() } else { number };
            placed.insert(place, Some(rule.hash.clone()));
            let _ = match hook.append {
                true => writeln!(self.rules, "-A {name} {}", rule.line()),
                false => writeln!(self.rules, "-I {name} {} {}", number + 1, rule.line()),
            };
        }
        for rule in &hook.last {
            placed.push(Some(rule.hash.clone()));
            let _ = writeln!(self.rules, "-A {name} {}", rule.line());
        }
        *hashes = placed;
    }
}

/// Ours are there in order, at the ends where they are to be.
fn is_placed(hook: &HashedHook, hashes: &Hashes) -> bool {
    let (leading, trailing): (Vec<&Hashed>, Vec<&Hashed>) = match hook.append {
        true => (Vec::new(), hook.first.iter().chain(&hook.last).collect()),
        false => (hook.first.iter().collect(), hook.last.iter().collect()),
    };
    let ours = leading.len() + trailing.len();
    let is = |(known, rule): (&Option<String>, &&Hashed)| known.as_ref() == Some(&rule.hash);
    hashes.iter().flatten().count() == ours
        && hashes.len() >= ours
        && hashes.iter().zip(&leading).all(is)
        && hashes[hashes.len() - trailing.len()..].iter().zip(&trailing).all(is)
}

fn is_ours(chain: &str) -> bool {
    chain.starts_with(CHAIN_PREFIX)
}

/// What `iptables-save` says.
pub(super) fn parse(saved: &str) -> Actual {
    let mut actual = Actual::new();
    for (table, line) in tables_of(saved) {
        let chains: &mut BTreeMap<String, Hashes> = actual.entry(table).or_default();
        if let Some(declared) = line.strip_prefix(':') {
            let name = declared.split(' ').next().unwrap_or_default();
            // Of others only the kernel's own chains have a policy, and are looked at.
            if is_ours(name) || !declared.contains(" - ") {
                chains.insert(name.to_owned(), Hashes::new());
            }
        } else if let Some((chain, rule)) = rule_of(line)
            && let Some(hashes) = chains.get_mut(chain)
        {
            hashes.push(our_hash(rule, chain).map(ToOwned::to_owned));
        }
    }
    actual
}

/// The lines of the tables that we have, each with its table.
fn tables_of(saved: &str) -> impl Iterator<Item = (TableName, &str)> {
    let mut current = None;
    saved.lines().filter_map(move |line| {
        if let Some(name) = line.strip_prefix('*') {
            current = TableName::ALL.into_iter().find(|table| table.name() == name.trim());
            return None;
        }
        Some((current?, line)).filter(|_| !line.starts_with('#') && line != "COMMIT")
    })
}

/// `[packets:bytes] -A chain …` or without the counters.
fn rule_of(line: &str) -> Option<(&str, &str)> {
    let at = line.find("-A ")?;
    line[at + 3..].split_once(' ').filter(|_| at == 0 || line.starts_with('['))
}

/// A rule without a comment of ours that leads to one of our chains is ours too, and stands in nobody's way for long.
fn our_hash<'a>(rule: &'a str, chain: &str) -> Option<&'a str> {
    let comment = comments(rule).find_map(|comment| comment.strip_prefix(COMMENT_PREFIX));
    match comment {
        None if !is_ours(chain) && rule.contains("-j cali-") => Some(""),
        other => other,
    }
}

fn comments(rule: &str) -> impl Iterator<Item = &str> {
    rule.split("--comment ").skip(1).filter_map(|rest| match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split(' ').next(),
    })
}

/// The counters of rules with an origin, from `iptables-save -c`. The handle is the rule's number in its chain.
pub(super) fn counters(saved: &str) -> Vec<RuleCount> {
    let mut numbers: BTreeMap<(TableName, &str), u64> = BTreeMap::new();
    let mut counters = Vec::new();
    for (table, line) in tables_of(saved) {
        let Some((chain, rule)) = rule_of(line).filter(|(chain, _)| is_ours(chain)) else { continue };
        let number = numbers.entry((table, chain)).or_insert(0);
        *number += 1;
        let comment = comments(rule).find(|comment| !comment.starts_with(COMMENT_PREFIX));
        if let (Some(comment), Some(count)) = (comment, count(line)) {
            let (chain, comment) = (chain.to_owned(), Some(comment.to_owned()));
            counters.push(RuleCount { chain, handle: *number, comment, count });
        }
    }
    counters
}

fn count(line: &str) -> Option<Count> {
    let (packets, bytes) = line.strip_prefix('[')?.split_once(']')?.0.split_once(':')?;
    Some(Count { packets: packets.parse().ok()?, bytes: bytes.parse().ok()? })
}
