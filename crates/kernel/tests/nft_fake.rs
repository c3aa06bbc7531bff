//! The nf_tables reconciler on the strict ruleset in memory: any start converges, faults heal, others are left alone.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use kernel::nft::*;

const SEED: u64 = 0x7027_1e01;

/// What is wanted, kept beside the reconciler.
#[derive(Debug, Clone, Default)]
struct Model {
    chains: BTreeMap<String, (Option<BaseChain>, Vec<Rule>)>,
    sets: BTreeMap<String, (SetKind, BTreeSet<Member>)>,
    maps: BTreeMap<String, BTreeMap<String, Verdict>>,
}

const SETS: [(&str, bool); 3] = [("s0", false), ("s1", true), ("s2", false)];

impl Model {
    /// Changes something. References always hold: chain n leads only to higher chains, rules use only what is there.
    fn mutate(&mut self, random: &mut Rng) {
        match random.u8(0..10) {
            0..=4 => self.change_chain(random),
            5..=7 => self.change_set(random),
            _ => self.change_map(random),
        }
        self.mend();
    }

    fn change_chain(&mut self, random: &mut Rng) {
        let number = random.usize(0..6);
        let name = format!("c{number}");
        if random.u8(0..6) == 0 {
            self.chains.remove(&name);
            return;
        }
        let base = (number == 0 || (number == 1 && random.bool())).then(|| BaseChain {
            kind: ChainType::Filter,
            hook: if random.bool() { Hook::Forward } else { Hook::Input },
            priority: random.i32(0..2),
            policy: if random.bool() { Policy::Accept } else { Policy::Drop },
        });
        let (_, mut rules) = self.chains.remove(&name).unwrap_or_default();
        for _ in 0..random.usize(0..4) {
            if random.bool() || rules.is_empty() {
                rules.insert(random.usize(0..=rules.len()), rule(random, number));
            } else {
                rules.remove(random.usize(0..rules.len()));
            }
        }
        self.chains.insert(name, (base, rules));
    }

    fn change_set(&mut self, random: &mut Rng) {
        let (name, ranged) = SETS[random.usize(0..SETS.len())];
        if random.u8(0..8) == 0 {
            self.sets.remove(name);
            return;
        }
        let kind = SetKind { key: vec![DataType::Ipv4Addr], intervals: ranged ^ (random.u8(0..8) == 0) };
        let entry = self.sets.entry(name.into()).or_insert_with(|| (kind.clone(), BTreeSet::new()));
        if entry.0 != kind {
            *entry = (kind, BTreeSet::new());
        }
        for _ in 0..random.usize(1..6) {
            let address = |random: &mut Rng| std::net::Ipv4Addr::new(10, 0, random.u8(0..3), random.u8(0..8));
            let (one, other) = (address(random), address(random));
            let member = match entry.0.intervals {
                true => Member::from(Part::range(one.min(other), one.max(other))),
                false => Member::from(one),
            };
            if random.u8(0..3) > 0 {
                entry.1.insert(member);
            } else if let Some(member) = random.choice(&entry.1).cloned() {
                entry.1.remove(&member);
            }
        }
    }

    fn change_map(&mut self, random: &mut Rng) {
        if random.u8(0..8) == 0 {
            self.maps.remove("m0");
            return;
        }
        let map = self.maps.entry("m0".into()).or_default();
        let key = format!("cali{}", random.u8(0..5));
        if random.u8(0..3) == 0 {
            map.remove(&key);
        } else {
            let target = format!("c{}", random.usize(3..6));
            let verdict = if random.bool() { Verdict::jump(target) } else { Verdict::goto(target) };
            map.insert(key, verdict);
        }
    }

    /// Removes references to what is gone, and sees to it that base chains are no targets.
    fn mend(&mut self) {
        let regular: BTreeSet<String> = self
            .chains
            .iter()
            .filter(|(_, (base, _))| base.is_none())
            .map(|(name, _)| name.clone())
            .collect();
        let leads = |verdict: &Verdict| verdict.target().is_none_or(|target| regular.contains(&**target));
        self.maps.values_mut().for_each(|map| map.retain(|_, verdict| leads(verdict)));
        let (sets, maps) = (&self.sets, &self.maps);
        let holds = |statement: &Statement| match statement {
            Statement::Match(Match { pattern: Pattern::InSet(set), .. }) => sets.contains_key(&**set),
            Statement::VerdictMap { map, .. } => maps.contains_key(&**map),
            Statement::Verdict(verdict) => leads(verdict),
            _ => true,
        };
        for (_, rules) in self.chains.values_mut() {
            rules.retain(|rule| rule.statements.iter().all(holds));
        }
    }

    /// Tells the reconciler, the way a caller does: all that is, and what is gone.
    fn tell(&self, table: &mut NftTable<Fake>) {
        for (name, (kind, members)) in &self.sets {
            table.set_set(name.as_str(), kind.clone(), members.iter().cloned()).unwrap();
        }
        for (name, entries) in &self.maps {
            let entries = entries.iter().map(|(key, verdict)| (key.as_str(), verdict.clone()));
            table.set_map(name.as_str(), SetKind::hash([DataType::IfName]), entries).unwrap();
        }
        for (name, (base, rules)) in &self.chains {
            match base {
                Some(base) => table.set_base_chain(name.as_str(), *base, rules.clone()).unwrap(),
                None => table.set_chain(name.as_str(), rules.clone()).unwrap(),
            }
        }
        let chains: Vec<String> = table.chains().map(str::to_owned).collect();
        chains
            .iter()
            .filter(|name| !self.chains.contains_key(*name))
            .for_each(|name| table.remove_chain(name));
        let sets: Vec<String> = table.sets().map(str::to_owned).collect();
        let kept = |name: &&String| !self.sets.contains_key(*name) && !self.maps.contains_key(*name);
        sets.iter().filter(kept).for_each(|name| table.remove_set(name));
    }
}

fn rule(random: &mut Rng, chain: usize) -> Rule {
    let port = || Match::is(Field::TcpDport, 80_u16);
    match random.u8(0..8) {
        0 => Rule::new().when(port()).counter().verdict(Verdict::Accept),
        1 => Rule::new().when(Match::in_set(Field::IpSaddr, SETS[random.usize(0..3)].0)).counter(),
        2 => Rule::new().when(Match::in_set(Field::IpDaddr, "s1").negate()).verdict(Verdict::Drop),
        3 if chain < 3 => Rule::new()
            .then(Statement::VerdictMap { fields: vec![Field::Iifname], map: "m0".into() })
            .comment("dispatch"),
        4 | 5 if chain < 5 => Rule::always(Verdict::jump(format!("c{}", random.usize(chain + 1..6)))),
        6 => Rule::new().when(Match::one_of(Field::TcpDport, [random.u16(1..4), 9])).counter(),
        _ => Rule::new().counter().comment(random.u8(0..4).to_string()),
    }
}

fn id() -> TableId {
    TableId::new(Family::Ip, "calico")
}

fn reconciler(fake: &Fake) -> NftTable<Fake> {
    NftTable::new(fake.clone(), Family::Ip, "calico")
}

/// The table without what differs from life to life.
fn without_handles(state: Option<TableState>) -> TableState {
    let mut state = state.unwrap_or_default();
    state.chains.values_mut().flat_map(|chain| &mut chain.rules).for_each(|rule| rule.handle = 0);
    state
}

/// What a fresh reconciler makes of the model on an empty ruleset.
fn expected(model: &Model) -> TableState {
    let fake = Fake::new();
    let mut table = reconciler(&fake);
    model.tell(&mut table);
    let applied = table.apply().unwrap();
    assert_eq!(applied.refused, [], "{model:?}");
    without_handles(fake.state(&id()))
}

/// Somebody edits the table by hand.
fn meddle(fake: &Fake, random: &mut Rng) {
    fake.edit(&id(), |table| {
        if random.u8(0..6) == 0 {
            *table = None;
        }
        let Some(state) = table else { return };
        let mut chains: Vec<&mut ChainState> = state.chains.values_mut().collect();
        match random.u8(0..7) {
            0 => state.dormant = true,
            1 => state.sets.values_mut().for_each(|set| set.irregular = true),
            2 => state.sets.values_mut().for_each(|set| set.elements.clear()),
            3 => chains.iter_mut().for_each(|chain| drop(chain.rules.pop())),
            4 => chains.iter_mut().for_each(|chain| chain.rules.reverse()),
            5 => {
                let name = "quota".to_owned();
                let body = RuleBody {
                    expressions: vec![Expression::Unknown { name, data: vec![] }],
                    ..RuleBody::default()
                };
                chains
                    .iter_mut()
                    .for_each(|chain| chain.rules.insert(0, RuleState { handle: 0, body: body.clone() }));
            }
            _ => {
                let base = ChainBase::Other;
                state.chains.insert("extra".into(), ChainState { base, rules: vec![] });
                let set = SetState { schema: None, elements: BTreeMap::new(), irregular: false };
                state.sets.insert("extra".into(), set);
            }
        }
    });
}

/// Applies until it works; faults are used up one by one.
fn converge(table: &mut NftTable<Fake>, context: &str) -> Applied {
    for _ in 0..40 {
        match table.apply() {
            Ok(applied) => {
                assert_eq!(applied.refused, [], "{context}");
                return applied;
            }
            Err(NftError::Refused(refusals)) => panic!("{context}: {refusals:?}"),
            Err(_) => {}
        }
    }
    panic!("{context}: does not converge");
}

#[test]
fn any_sequence_of_changes_ends_where_a_fresh_start_does() {
    for seed in SEED..SEED + 150 {
        let mut random = Rng::with_seed(seed);
        let fake = Fake::new();
        let (mut table, mut model) = (reconciler(&fake), Model::default());
        for step in 0..30 {
            (0..random.usize(0..4)).for_each(|_| model.mutate(&mut random));
            model.tell(&mut table);
            let context = format!("seed {seed}, step {step}");
            converge(&mut table, &context);
            assert_eq!(without_handles(fake.state(&id())), expected(&model), "{context}");
        }
        assert_eq!(fake.reads(), 1, "seed {seed}: own changes need no reading back");
    }
}

#[test]
fn a_table_that_was_edited_in_any_way_is_repaired() {
    for seed in SEED..SEED + 150 {
        let mut random = Rng::with_seed(seed);
        let fake = Fake::new();
        let (mut table, mut model) = (reconciler(&fake), Model::default());
        for step in 0..20 {
            model.mutate(&mut random);
            model.tell(&mut table);
            if random.bool() {
                meddle(&fake, &mut random);
                assert!(table.changed().unwrap());
            }
            if random.u8(0..6) == 0 {
                table = reconciler(&fake);
                model.tell(&mut table);
            }
            let context = format!("seed {seed}, step {step}");
            converge(&mut table, &context);
            assert_eq!(without_handles(fake.state(&id())), expected(&model), "{context}");
        }
    }
}

#[test]
fn faults_at_any_call_are_got_over() {
    let faults = [Fault::Raced, Fault::Lost, Fault::AnswerLost, Fault::HandlesUnknown, Fault::EventsLost];
    for seed in SEED..SEED + 150 {
        let mut random = Rng::with_seed(seed);
        let fake = Fake::new();
        let mut other = NftTable::new(fake.other_client(), Family::Inet, "other");
        let (mut table, mut model) = (reconciler(&fake), Model::default());
        for step in 0..20 {
            model.mutate(&mut random);
            model.tell(&mut table);
            for _ in 0..random.usize(0..3) {
                fake.fail_at(random.usize(0..6), faults[random.usize(0..faults.len())]);
            }
            if random.bool() {
                other.set_chain(format!("o{step}"), vec![Rule::always(Verdict::Drop)]).unwrap();
                let _ = other.apply();
            }
            let context = format!("seed {seed}, step {step}");
            converge(&mut table, &context);
            assert_eq!(without_handles(fake.state(&id())), expected(&model), "{context}");
        }
        fake.heal();
        other.apply().unwrap();
        model.tell(&mut table);
        converge(&mut table, "healed");
        assert_eq!(without_handles(fake.state(&id())), expected(&model), "seed {seed}");
    }
}

#[test]
fn a_fault_at_each_call_of_an_apply_changes_everything_or_nothing() {
    let mut model = Model::default();
    let mut random = Rng::with_seed(SEED);
    (0..40).for_each(|_| model.mutate(&mut random));
    let wanted = expected(&model);
    for call in 0..4 {
        for fault in [Fault::Raced, Fault::Lost, Fault::AnswerLost, Fault::HandlesUnknown] {
            let fake = Fake::new();
            let mut table = reconciler(&fake);
            table.set_chain("old", vec![Rule::always(Verdict::Accept)]).unwrap();
            table.apply().unwrap();
            let before = without_handles(fake.state(&id()));
            model.tell(&mut table);
            fake.fail_at(call, fault);
            let failed = table.apply().is_err();
            let after = without_handles(fake.state(&id()));
            assert!(after == wanted || (failed && after == before), "call {call}, {fault:?}");
            converge(&mut table, "the second time");
            assert_eq!(without_handles(fake.state(&id())), wanted, "call {call}, {fault:?}");
        }
    }
}

#[test]
fn a_second_apply_asks_only_for_the_generation() {
    let fake = Fake::new();
    let mut table = reconciler(&fake);
    let mut random = Rng::with_seed(SEED);
    let mut model = Model::default();
    (0..40).for_each(|_| model.mutate(&mut random));
    model.tell(&mut table);
    table.apply().unwrap();
    model.tell(&mut table);
    let (calls, commits) = (fake.calls(), fake.commits());
    assert_eq!(table.apply().unwrap(), Applied::default());
    assert_eq!((fake.calls() - calls, fake.commits() - commits), (1, 0));
}

#[test]
fn other_tables_are_kept_and_their_changes_cause_no_reading() {
    let fake = Fake::new();
    let mut other = NftTable::new(fake.other_client(), Family::Ip, "other");
    other.set_chain("theirs", vec![Rule::always(Verdict::Drop)]).unwrap();
    other.apply().unwrap();
    let theirs = fake.state(other.id());
    let mut table = reconciler(&fake);
    table.set_chain("ours", vec![]).unwrap();
    table.apply().unwrap();
    other.set_chain("more", vec![]).unwrap();
    other.apply().unwrap();
    other.remove_chain("more");
    other.apply().unwrap();
    table.set_chain("ours", vec![Rule::always(Verdict::Accept)]).unwrap();
    assert!(!table.apply().unwrap().resynced);
    table.remove().unwrap();
    assert_eq!(fake.tables().into_iter().collect::<Vec<_>>(), [(other.id().clone(), theirs.unwrap())]);
}

#[test]
fn one_change_in_a_large_table_is_one_operation() {
    let fake = Fake::new();
    let mut table = reconciler(&fake);
    let rule = |n: u32| Rule::new().when(Match::is(Field::Mark, n)).counter();
    table.set_chain("c", (0..500).map(rule).collect()).unwrap();
    let addresses = (0..5000_u32).map(|n| std::net::Ipv4Addr::from(0x0a00_0000 + n));
    table.set_set("s", SetKind::hash([DataType::Ipv4Addr]), addresses).unwrap();
    table.apply().unwrap();
    table.set_chain("c", (0..500).filter(|n| *n != 250).map(rule).collect()).unwrap();
    assert_eq!(table.apply().unwrap().operations, 1);
    table.set_chain("c", (0..500).map(rule).collect()).unwrap();
    assert_eq!(table.apply().unwrap().operations, 1);
    table.add_members("s", [std::net::Ipv4Addr::LOCALHOST]).unwrap();
    assert_eq!(table.apply().unwrap().operations, 1);
    table.remove_members("s", [std::net::Ipv4Addr::LOCALHOST]).unwrap();
    assert_eq!(table.apply().unwrap().operations, 1);
}

#[test]
fn a_refused_set_closes_the_chains_that_use_it_until_it_is_set_anew() {
    let fake = Fake::new();
    let mut table = reconciler(&fake);
    let uses = Rule::new().when(Match::in_set(Field::IpSaddr, "s")).verdict(Verdict::Accept);
    // Intervals in two dimensions are not joined, so that overlapping ones are for the kernel to refuse.
    let kind = SetKind::intervals([DataType::Ipv4Addr, DataType::InetService]);
    let net = |text: &str| Part::from(text.parse::<ipnet::IpNet>().unwrap());
    let member = |text: &str| Member::from([net(text), 80_u16.into()]);
    table.set_set("s", kind.clone(), [member("10.0.0.0/8"), member("10.1.0.0/16")]).unwrap();
    table.set_chain("uses", vec![uses.clone()]).unwrap();
    table.set_chain("other", vec![Rule::always(Verdict::Accept)]).unwrap();
    let applied = table.apply().unwrap();
    assert_eq!(applied.refused.len(), 1);
    assert!(applied.refused[0].operation.contains("add element ip calico s"), "{applied:?}");
    let state = fake.state(&id()).unwrap();
    assert_eq!(state.chains["other"].rules.len(), 1);
    assert!(state.chains["uses"].rules[0].body.expressions.contains(&Expression::Verdict(Verdict::Drop)));

    table.set_set("s", kind, [member("10.0.0.0/8")]).unwrap();
    assert_eq!(table.apply().unwrap().refused, []);
    let state = fake.state(&id()).unwrap();
    assert_eq!(state.chains["uses"].rules[0].body, uses.compile(Family::Ip).unwrap());
}

#[test]
fn without_isolation_a_refusal_leaves_everything_as_it_was() {
    let fake = Fake::new();
    let mut table = reconciler(&fake);
    table.isolate(false);
    table.set_chain("good", vec![]).unwrap();
    table.set_chain("bad", vec![Rule::always(Verdict::jump("nowhere"))]).unwrap();
    let NftError::Refused(refusals) = table.apply().unwrap_err() else { panic!("not refused") };
    assert_eq!(refusals[0].operation, "add rule ip calico bad jump nowhere");
    assert_eq!(fake.state(&id()), None);
}

#[test]
fn the_fake_refuses_dangling_references_duplicates_and_loops() {
    let refused = |prepare: &dyn Fn(&mut NftTable<Fake>)| {
        let mut table = reconciler(&Fake::new());
        table.isolate(false);
        prepare(&mut table);
        matches!(table.apply(), Err(NftError::Refused(_)))
    };
    assert!(refused(&|t| t
        .set_chain("c", vec![Rule::new().when(Match::in_set(Field::IpSaddr, "no"))])
        .unwrap()));
    assert!(refused(&|t| t.set_chain("c", vec![Rule::always(Verdict::jump("c"))]).unwrap()));
    assert!(refused(&|t| {
        let entries = [("cali1", Verdict::jump("nowhere"))];
        t.set_map("m", SetKind::hash([DataType::IfName]), entries).unwrap();
    }));
    let mut fake = Fake::new();
    let schema = SetSchema { kind: SetKind::hash([DataType::InetProto]), map: false };
    let element = Element { low: Bytes::from([1]), high: None };
    let set = || std::sync::Arc::<str>::from("s");
    let add = Operation::AddElements { set: set(), schema: schema.clone(), elements: vec![(element, None)] };
    let operations = [Operation::AddTable, Operation::AddSet { name: set(), schema }, add.clone(), add];
    let Err(NftError::Refused(refusals)) = fake.commit(&id(), 0, &operations) else { panic!("not refused") };
    assert_eq!(refusals.iter().map(|refusal| refusal.index).collect::<Vec<_>>(), [3]);
    let base = BaseChain { kind: ChainType::Nat, hook: Hook::Forward, priority: 0, policy: Policy::Accept };
    let name = std::sync::Arc::<str>::from("c");
    let operations = [Operation::AddTable, Operation::AddChain { name, base: Some(base) }];
    let Err(NftError::Refused(refusals)) = fake.commit(&id(), 0, &operations) else { panic!("not refused") };
    assert_eq!(refusals[0].index, 1);
    // The reconciler does not even ask.
    let error = reconciler(&Fake::new()).set_base_chain("c", base, vec![]).unwrap_err();
    assert!(matches!(error, InvalidRule::BaseChain { .. }), "{error}");
}
