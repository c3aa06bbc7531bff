//! The plan on its way to the speaker: passwords are filled in, what cannot be done is said.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::{PeerConfig, SpeakerConfig};
use calc::bgp_plan::{BgpPlan, Problem};

use super::passwords::PasswordFiles;
use crate::health::Health;
use crate::speaker::Configurator;

/// How often passwords are read again.
const LOOK: Duration = Duration::from_secs(2);
/// As what notices are known.
const SOURCE: &str = "bgp";

/// What the speaker has been told.
pub(super) struct Planned {
    speaker: Configurator,
    passwords: PasswordFiles,
    health: Health,
    plan: Option<Arc<BgpPlan>>,
    config: Option<SpeakerConfig>,
    configured_at: Option<Instant>,
    problems: BTreeSet<Problem>,
    next_look: Instant,
    /// Addresses of workloads that need not be heard before routes are selected.
    idle: BTreeSet<IpAddr>,
}

impl Planned {
    pub(super) fn new(speaker: Configurator, passwords: PasswordFiles, health: Health) -> Self {
        Self {
            speaker,
            passwords,
            health,
            plan: None,
            config: None,
            configured_at: None,
            problems: BTreeSet::new(),
            next_look: Instant::now(),
            idle: BTreeSet::new(),
        }
    }

    /// The last plan.
    pub(super) fn plan(&self) -> Option<&Arc<BgpPlan>> {
        self.plan.as_ref()
    }

    /// When the configuration last changed.
    pub(super) fn configured_at(&self) -> Option<Instant> {
        self.configured_at
    }

    /// Nothing is lost behind these workloads if they do not speak.
    pub(super) fn set_idle(&mut self, idle: BTreeSet<IpAddr>) {
        self.idle = idle;
        self.configure();
    }

    /// A new plan.
    pub(super) fn on_plan(&mut self, plan: &BgpPlan) {
        self.plan = Some(Arc::new(plan.clone()));
        self.configure();
    }

    /// Passwords come, change and go without a word from the datastore.
    pub(super) fn look_again(&mut self, now: Instant) {
        let has_passwords = |plan: &Arc<BgpPlan>| plan.peers.iter().any(|peer| peer.password.is_some());
        if now >= self.next_look && self.plan.as_ref().is_some_and(has_passwords) {
            self.next_look = now + LOOK;
            self.configure();
        }
    }

    /// The configuration that a plan would make; `None` without identifier.
    pub(super) fn config_for(&self, plan: &BgpPlan) -> Option<SpeakerConfig> {
        plan.speaker_config(&self.passwords).0
    }

    /// A plan without identifier leaves things as they are: sessions that are up are better than none.
    fn configure(&mut self) {
        let Some(plan) = &self.plan else { return };
        let (config, without_password) = plan.speaker_config(&self.passwords);
        let mut problems = plan.problems.clone();
        problems.extend(without_password);
        if config.is_none() && self.config.is_none() {
            tracing::warn!(
                "the node has no BGP identifier: give it an IPv4 address, or set CALICO_ROUTER_ID"
            );
        }
        self.say(problems);
        if let Some(mut config) = config {
            let idle = |peer: &&mut PeerConfig| peer.behind_us && self.idle.contains(&peer.address);
            config.peers.values_mut().filter(idle).for_each(|peer| peer.on_demand = true);
            self.tell(config);
        }
    }

    /// What the speaker needs to be told: only routes, where nothing else differs.
    fn tell(&mut self, mut config: SpeakerConfig) {
        let Some(old) = &mut self.config else {
            self.config = Some(config.clone());
            self.configured_at = Some(Instant::now());
            return self.speaker.configure(config);
        };
        let originated = std::mem::take(&mut config.originated);
        let before = std::mem::take(&mut old.originated);
        if *old == config {
            for prefix in before.keys().filter(|prefix| !originated.contains_key(*prefix)) {
                self.speaker.originate(*prefix, None);
            }
            for (prefix, route) in
                originated.iter().filter(|(prefix, route)| before.get(*prefix) != Some(*route))
            {
                self.speaker.originate(*prefix, Some(route.clone()));
            }
        } else {
            self.configured_at = Some(Instant::now());
            self.speaker.configure(SpeakerConfig { originated: originated.clone(), ..config.clone() });
        }
        self.config = Some(SpeakerConfig { originated, ..config });
    }

    /// Each problem is logged when it comes, and a notice while it lasts.
    fn say(&mut self, problems: BTreeSet<Problem>) {
        if problems == self.problems {
            return;
        }
        problems.difference(&self.problems).for_each(|problem| tracing::error!("{problem}"));
        self.health.set_notices(SOURCE, problems.iter().map(ToString::to_string).collect());
        self.problems = problems;
    }
}
