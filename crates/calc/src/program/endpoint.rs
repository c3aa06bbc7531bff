//! Chains of endpoints: the walk over tiers and profiles (datapath.md 4.10).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Chain, ChainId, Conntrack, Match, Origin, Rule, Shape, Shapes, Side, Verdict};
use crate::contract::{
    Direction, HostEndpoint, IpVersion, PolicyId, PortRange, ProfileId, Tier, TierDefault, WorkloadEndpoint,
};

/// Where on a packet's path a host endpoint's policies stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostHook {
    /// Traffic that starts or ends at the host.
    Normal,
    /// Traffic that the host forwards (applyOnForward).
    Forward,
    /// Before connection tracking (doNotTrack).
    Untracked,
    /// Before destination NAT (preDNAT).
    PreDnat,
}

impl HostHook {
    /// Every hook.
    pub const ALL: [Self; 4] = [Self::Normal, Self::Forward, Self::Untracked, Self::PreDnat];

    /// The endpoint's tiers at the hook.
    pub fn tiers(self, endpoint: &HostEndpoint) -> &[Tier] {
        match self {
            Self::Normal => &endpoint.tiers,
            Self::Forward => &endpoint.forward_tiers,
            Self::Untracked => &endpoint.untracked_tiers,
            Self::PreDnat => &endpoint.pre_dnat_tiers,
        }
    }

    /// Untracked and pre-DNAT tiers only pick out traffic: what they do not decide goes on.
    fn ends_tiers(self) -> bool {
        matches!(self, Self::Normal | Self::Forward)
    }
}

impl fmt::Display for HostHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Forward => "forward",
            Self::Untracked => "untracked",
            Self::PreDnat => "pre-DNAT",
        })
    }
}

/// What the chains of endpoints depend on besides the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Drop what connection tracking calls invalid (`DisableConntrackInvalidCheck` turns it off).
    pub drop_invalid: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { drop_invalid: true }
    }
}

/// What decides on a workload's packets of one direction. Workloads with equal ones share a chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Judgement {
    /// Nothing passes: the workload is administratively down.
    Disabled,
    /// Nothing passes: the workload has no address of the program's family.
    NoAddress,
    /// Tiers, then profiles.
    Policies {
        /// In order; each with a policy at least.
        tiers: Vec<TierWalk>,
        /// In order.
        profiles: Vec<ProfileId>,
    },
}

/// What is enforced of a tier in one direction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TierWalk {
    /// The tier's name.
    pub tier: Arc<str>,
    /// What becomes of a packet that no policy decides.
    pub default_action: TierDefault,
    /// Policies that are not staged, in order; not empty.
    pub policies: Vec<PolicyId>,
}

impl Judgement {
    /// That of a workload which has an address of the family.
    pub fn of(endpoint: &WorkloadEndpoint, direction: Direction) -> Self {
        if !endpoint.active {
            return Self::Disabled;
        }
        let tiers = walks(&endpoint.tiers, direction).collect();
        Self::Policies { tiers, profiles: endpoint.profiles.clone() }
    }

    /// As [`Judgement::of`], if what is staged were so: staged policies count, and those that they are drafts of
    /// ([`PolicyId::stands_for`]) do not. `None`: that makes no difference for the endpoint.
    pub fn staged(
        endpoint: &WorkloadEndpoint,
        direction: Direction,
        replaced: &BTreeSet<PolicyId>,
    ) -> Option<Self> {
        if !endpoint.active {
            return None;
        }
        let walks_of = |counts: &dyn Fn(&PolicyId) -> bool| -> Vec<TierWalk> {
            endpoint.tiers.iter().filter_map(|tier| walk(tier, direction, counts)).collect()
        };
        let tiers = walks_of(&|id| !replaced.contains(id));
        let is_news = tiers != walks_of(&|id| !id.kind.is_staged());
        is_news.then(|| Self::Policies { tiers, profiles: endpoint.profiles.clone() })
    }

    /// Whether the policy has a say.
    pub fn walks_policy(&self, id: &PolicyId) -> bool {
        matches!(self, Self::Policies { tiers, .. } if tiers.iter().any(|tier| tier.policies.contains(id)))
    }

    /// Whether the profile has a say.
    pub fn walks_profile(&self, id: &ProfileId) -> bool {
        matches!(self, Self::Policies { profiles, .. } if profiles.contains(id))
    }
}

/// `disabled`, `no address`, or `tier NAME: POLICY …, end deny; … profiles NAME …`.
impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tiers, profiles) = match self {
            Self::Disabled => return f.write_str("disabled"),
            Self::NoAddress => return f.write_str("no address"),
            Self::Policies { tiers, profiles } => (tiers, profiles),
        };
        for tier in tiers {
            write!(f, "tier {}:", tier.tier)?;
            tier.policies.iter().try_for_each(|policy| write!(f, " {policy}"))?;
            f.write_str(match tier.default_action {
                TierDefault::Deny => ", end deny; ",
                TierDefault::Pass => ", end pass; ",
            })?;
        }
        f.write_str("profiles")?;
        profiles.iter().try_for_each(|profile| write!(f, " {profile}"))
    }
}

/// What workloads of this judgement may receive (ingress) or send (egress). Always decides.
pub fn workload_chain(
    judgement: &Judgement,
    direction: Direction,
    options: Options,
    shapes: &impl Shapes,
) -> Chain {
    let mut walk = Walk { rules: Vec::new(), direction, shapes };
    match judgement {
        Judgement::Disabled => walk.push(Verdict::Drop, Origin::Disabled),
        Judgement::NoAddress => walk.push(Verdict::Drop, Origin::NoAddress),
        Judgement::Policies { tiers, profiles } => {
            walk.tracked(options, tiers);
            if !walk.tiers(tiers, true) {
                walk.profiles(profiles);
            }
        }
    }
    Chain { rules: walk.rules, ..Chain::default() }
}

/// A host endpoint's chain at a hook. The normal one always decides; the others may leave a packet to what follows.
pub fn host_chain(
    endpoint: &HostEndpoint,
    hook: HostHook,
    direction: Direction,
    options: Options,
    shapes: &impl Shapes,
) -> Chain {
    let mut walk = Walk { rules: Vec::new(), direction, shapes };
    let tiers: Vec<_> = walks(hook.tiers(endpoint), direction).collect();
    if hook != HostHook::Untracked {
        walk.tracked(options, &tiers);
    }
    if hook == HostHook::Forward && tiers.is_empty() {
        walk.push(Verdict::Accept, Origin::NoForwardPolicy);
        return Chain { rules: walk.rules, ..Chain::default() };
    }
    match hook {
        HostHook::Forward => {}
        HostHook::Untracked => walk.push(Verdict::Jump(ChainId::UntrackedFailsafe(direction)), Origin::Walk),
        HostHook::Normal | HostHook::PreDnat => {
            walk.push(Verdict::Jump(ChainId::Failsafe(direction)), Origin::Walk);
        }
    }
    if !walk.tiers(&tiers, hook.ends_tiers()) && hook == HostHook::Normal {
        walk.profiles(&endpoint.profiles);
    }
    Chain { rules: walk.rules, ..Chain::default() }
}

/// A port of the host that is always open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolPort {
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port.
    pub port: u16,
    /// Only from (inbound) or to (outbound) this network.
    pub net: Option<IpNet>,
}

/// Accepts the failsafe ports of a direction (`FailsafeInboundHostPorts`, `FailsafeOutboundHostPorts`).
pub fn failsafe_chain(ports: &[ProtocolPort], direction: Direction, version: IpVersion) -> Chain {
    let rules = failsafe_rules(ports, direction, Side::Destination, version).collect();
    Chain { rules, ..Chain::default() }
}

/// The same before connection tracking, which would let the replies of the opposite direction's ports through.
pub fn untracked_failsafe_chain(
    own: &[ProtocolPort],
    opposite: &[ProtocolPort],
    direction: Direction,
    version: IpVersion,
) -> Chain {
    let own = failsafe_rules(own, direction, Side::Destination, version);
    let rules = own.chain(failsafe_rules(opposite, direction, Side::Source, version)).collect();
    Chain { rules, ..Chain::default() }
}

/// For packets of a direction whose port on this side is one of the ports.
fn failsafe_rules(
    ports: &[ProtocolPort],
    direction: Direction,
    side: Side,
    version: IpVersion,
) -> impl Iterator<Item = Rule> {
    let far = match direction {
        Direction::Ingress => Side::Source,
        Direction::Egress => Side::Destination,
    };
    let wanted = move |port: &&ProtocolPort| port.net.is_none_or(|net| IpVersion::of(net.addr()) == version);
    ports.iter().filter(wanted).map(move |port| {
        let ranges = vec![PortRange { min: port.port, max: port.port }];
        let mut matches = vec![
            Match::Protocol { protocols: vec![port.protocol], negated: false },
            Match::Ports { side, ranges, negated: false },
        ];
        if let Some(net) = port.net.filter(|net| net.prefix_len() > 0) {
            matches.push(Match::Net { side: far, nets: vec![net.trunc()], negated: false });
        }
        Rule::new(matches, Verdict::Accept, Origin::Failsafe(direction))
    })
}

struct Walk<'a, S> {
    rules: Vec<Rule>,
    direction: Direction,
    shapes: &'a S,
}

impl<S: Shapes> Walk<'_, S> {
    fn push(&mut self, verdict: Verdict, origin: Origin) {
        self.rules.push(Rule::new(Vec::new(), verdict, origin));
    }

    /// Packets of known connections pass, as far as no policy wants to judge them again; invalid ones do not.
    fn tracked(&mut self, options: Options, tiers: &[TierWalk]) {
        use Conntrack::{Established, Invalid, Related};
        let states = |list: &[Conntrack]| Match::Conntrack(BTreeSet::from_iter(list.iter().copied()));
        let passing = match self.rechecks(tiers) {
            false => vec![vec![states(&[Established, Related])]],
            true => vec![vec![states(&[Established]), Match::Reply], vec![states(&[Related])]],
        };
        for matches in passing {
            self.rules.push(Rule::new(matches, Verdict::Accept, Origin::Established));
        }
        if options.drop_invalid {
            self.rules.push(Rule::new(vec![states(&[Invalid])], Verdict::Drop, Origin::Invalid));
        }
    }

    fn rechecks(&self, tiers: &[TierWalk]) -> bool {
        let mut policies = tiers.iter().flat_map(|tier| &tier.policies);
        policies.any(|id| self.shapes.policy(id, self.direction).is_some_and(|shape| shape.rechecks))
    }

    /// Whether the walk ended: nothing can come through the tiers.
    fn tiers(&mut self, tiers: &[TierWalk], end_of_tier: bool) -> bool {
        tiers.iter().any(|tier| self.tier(tier, end_of_tier))
    }

    fn tier(&mut self, tier: &TierWalk, end_of_tier: bool) -> bool {
        let may_pass =
            |id: &PolicyId| self.shapes.policy(id, self.direction).is_some_and(|shape| shape.may_pass);
        if tier.policies.iter().any(may_pass) {
            self.push(Verdict::ClearPass, Origin::Walk);
        }
        let mut guarded = false;
        for id in &tier.policies {
            let Some(shape) = self.shapes.policy(id, self.direction) else {
                self.guarded(guarded, Verdict::Drop, Origin::MissingPolicy(id.clone()));
                return !guarded;
            };
            self.jump(guarded, ChainId::Policy(id.clone(), self.direction), shape);
            guarded |= shape.may_pass;
        }
        if !end_of_tier || tier.default_action == TierDefault::Pass {
            return false;
        }
        let origin = Origin::EndOfTier { tier: tier.tier.clone(), direction: self.direction };
        self.guarded(guarded, Verdict::Drop, origin);
        !guarded
    }

    fn jump(&mut self, guarded: bool, chain: ChainId, shape: Shape) {
        if !shape.is_empty {
            self.guarded(guarded, Verdict::Jump(chain), Origin::Walk);
        }
    }

    /// A rule that is skipped when an earlier policy of the tier passed.
    fn guarded(&mut self, guarded: bool, verdict: Verdict, origin: Origin) {
        let matches = if guarded { vec![Match::Passed(false)] } else { Vec::new() };
        self.rules.push(Rule::new(matches, verdict, origin));
    }

    fn profiles(&mut self, profiles: &[ProfileId]) {
        for id in profiles {
            let Some(shape) = self.shapes.profile(id, self.direction) else {
                self.push(Verdict::Drop, Origin::MissingProfile(id.clone()));
                return;
            };
            self.jump(false, ChainId::Profile(id.clone(), self.direction), shape);
        }
        self.push(Verdict::Drop, Origin::NoProfile(self.direction));
    }
}

/// The tiers that have something to enforce in a direction; the others are skipped, default action included.
fn walks(tiers: &[Tier], direction: Direction) -> impl Iterator<Item = TierWalk> {
    tiers.iter().filter_map(move |tier| walk(tier, direction, &|id| !id.kind.is_staged()))
}

fn walk(tier: &Tier, direction: Direction, counts: &dyn Fn(&PolicyId) -> bool) -> Option<TierWalk> {
    let policies = match direction {
        Direction::Ingress => &tier.ingress,
        Direction::Egress => &tier.egress,
    };
    let policies: Vec<_> = policies.iter().filter(|id| counts(id)).cloned().collect();
    let default_action = tier.default_action;
    (!policies.is_empty()).then(|| TierWalk { tier: tier.name.clone(), default_action, policies })
}
