use super::*;

/// An item as the test describes it: labels and parents.
type Item = (Vec<(&'static str, &'static str)>, Vec<&'static str>);

fn selector(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

fn put(index: &mut LabelIndex, number: u32, (labels, parents): &Item) -> ItemMove {
    index.set_item(number, labels.iter().copied(), parents.iter().copied())
}

#[test]
fn items_with_equal_labels_and_parents_are_one_class() {
    let mut index = LabelIndex::default();
    let item = (vec![("app", "web")], vec!["kns.a"]);
    put(&mut index, 1, &item);
    put(&mut index, 2, &item);
    assert_eq!(index.classes.len(), 1);
    let web = index.add_selector(&selector("app == 'web'"));
    assert_eq!(index.items_of(web).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn own_labels_hide_inherited_ones_and_the_first_parent_wins() {
    let mut index = LabelIndex::default();
    index.set_parent("p", [("x", "p"), ("y", "p")]);
    index.set_parent("q", [("x", "q"), ("y", "q"), ("z", "q")]);
    put(&mut index, 1, &(vec![("x", "own")], vec!["p", "q"]));
    let matched = ["x == 'own'", "y == 'p'", "z == 'q'", "x == 'p'", "y == 'q'"].map(|text| {
        let id = index.add_selector(&selector(text));
        index.has_items(id)
    });
    assert_eq!(matched, [true, true, true, false, false]);
}

#[test]
fn a_parent_that_changes_tells_which_selectors_begin_and_cease_to_match() {
    let mut index = LabelIndex::default();
    put(&mut index, 7, &(vec![], vec!["kns.a"]));
    let old = index.add_selector(&selector("pcns.team == 'red'"));
    let new = index.add_selector(&selector("pcns.team == 'blue'"));
    index.set_parent("kns.a", [("pcns.team", "red")]);
    assert_eq!(
        index.set_parent("kns.a", [("pcns.team", "blue")]),
        [
            MatchChange { selector: old, items: vec![7], matches: false },
            MatchChange { selector: new, items: vec![7], matches: true },
        ]
    );
    assert_eq!(index.set_parent("kns.a", [("pcns.team", "blue")]), []);
}

#[test]
fn a_selector_that_can_match_nothing_is_tried_on_nothing() {
    let mut index = LabelIndex::default();
    put(&mut index, 1, &(vec![("a", "1")], vec![]));
    let impossible = index.add_selector(&selector("a == '1' && a == '2'"));
    assert!(!index.has_items(impossible));
    index.remove_selector(impossible);
    index.remove_item(1);
    assert_eq!(index.size(), 0);
}

/// The index and a plain list of what is in it, checked against each other.
#[derive(Default)]
struct Pair {
    index: LabelIndex,
    items: BTreeMap<u32, Item>,
    parents: BTreeMap<&'static str, Vec<(&'static str, &'static str)>>,
    selectors: BTreeMap<SelectorId, Selector>,
    /// What the changes that the index reported add up to.
    matches: BTreeSet<(SelectorId, u32)>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const VALUES: [&str; 3] = ["a", "1", "2"];
const SELECTORS: [&str; 14] = [
    "all()",
    "has(a)",
    "!has(a)",
    "a == '1'",
    "a != '1'",
    "a == '1' && b == '2'",
    "a == '1' || b == '2'",
    "b in {'1', '2'}",
    "b not in {'1', '2'}",
    "c contains 'a'",
    "has(a) && has(b)",
    "!(a == '1')",
    "a == '1' && a == '2'",
    "c in {'1'} && (b == 'a' || has(a))",
];

impl Pair {
    fn labels(random: &mut fastrand::Rng) -> Vec<(&'static str, &'static str)> {
        let present: Vec<_> = NAMES.into_iter().filter(|_| random.bool()).collect();
        present.into_iter().map(|name| (name, VALUES[random.usize(..3)])).collect()
    }

    fn step(&mut self, random: &mut fastrand::Rng) {
        match random.u8(..6) {
            0 | 1 => self.set_item(random),
            2 => self.remove_item(random.u32(..12)),
            3 => self.set_parent(random),
            4 if self.selectors.len() < 20 => self.add_selector(SELECTORS[random.usize(..14)]),
            _ => self.remove_selector(random),
        }
    }

    fn set_item(&mut self, random: &mut fastrand::Rng) {
        let number = random.u32(..12);
        let parents = ["p", "q"].into_iter().filter(|_| random.bool()).collect();
        let item = (Self::labels(random), parents);
        let moved = put(&mut self.index, number, &item);
        self.items.insert(number, item);
        for selector in moved.before {
            assert!(self.matches.remove(&(selector, number)));
        }
        self.matches.extend(moved.after.into_iter().map(|selector| (selector, number)));
    }

    fn remove_item(&mut self, number: u32) {
        self.items.remove(&number);
        for selector in self.index.remove_item(number) {
            assert!(self.matches.remove(&(selector, number)));
        }
    }

    fn set_parent(&mut self, random: &mut fastrand::Rng) {
        let name = ["p", "q"][random.usize(..2)];
        let labels = Self::labels(random);
        for change in self.index.set_parent(name, labels.iter().copied()) {
            for item in change.items {
                let pair = (change.selector, item);
                assert!(match change.matches {
                    true => self.matches.insert(pair),
                    false => self.matches.remove(&pair),
                });
            }
        }
        self.parents.insert(name, labels);
    }

    fn add_selector(&mut self, text: &str) {
        let id = self.index.add_selector(&selector(text));
        self.selectors.insert(id, selector(text));
        self.matches.extend(self.index.items_of(id).map(|item| (id, item)));
    }

    fn remove_selector(&mut self, random: &mut fastrand::Rng) {
        let Some(id) = random.choice(self.selectors.keys().copied().collect::<Vec<_>>()) else { return };
        self.selectors.remove(&id);
        for item in self.index.remove_selector(id) {
            assert!(self.matches.remove(&(id, item)));
        }
    }

    fn expected(&self) -> BTreeSet<(SelectorId, u32)> {
        let mut expected = BTreeSet::new();
        for (number, (own, parents)) in &self.items {
            let mut labels: BTreeMap<String, String> = BTreeMap::new();
            let inherited = parents.iter().filter_map(|name| self.parents.get(name));
            for (name, value) in own.iter().chain(inherited.flatten()) {
                labels.entry((*name).to_owned()).or_insert_with(|| (*value).to_owned());
            }
            let matching = self.selectors.iter().filter(|(_, selector)| selector.matches(&labels));
            expected.extend(matching.map(|(id, _)| (*id, *number)));
        }
        expected
    }

    fn remove_everything(&mut self, random: &mut fastrand::Rng) {
        (0..12).for_each(|number| self.remove_item(number));
        while !self.selectors.is_empty() {
            self.remove_selector(random);
        }
        for name in ["p", "q"] {
            self.index.set_parent(name, []);
        }
    }
}

#[test]
fn it_agrees_with_trying_every_pair_and_ends_up_empty() {
    for seed in 0..40 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut pair = Pair::default();
        for _ in 0..300 {
            pair.step(&mut random);
            assert_eq!(pair.matches, pair.expected());
        }
        pair.remove_everything(&mut random);
        assert_eq!(pair.index.size(), 0);
    }
}
