//! Profiles: those that local endpoints name.
//!
//! A profile that does not exist is handed on all the same, as one that denies everything: an endpoint that waits for a
//! profile must not be open meanwhile, nor fall through to its next profile.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::contract::{Action, Direction, Profile, ProfileId, Rule, RuleId, RuleOwner};
use crate::ip_sets::{Definition, IpSets};
use crate::published::{Differences, Published};

/// The built-in profile that allows everything (resources.md 2.7); it needs no row.
const DEFAULT_ALLOW: &str = "projectcalico-default-allow";

/// A profile after compilation.
#[derive(Debug, Clone)]
pub(crate) struct CompiledProfile {
    /// Its rules.
    pub(crate) profile: Arc<Profile>,
    /// What its rules refer to, one entry for each reference.
    pub(crate) sets: Vec<Definition>,
}

/// All profiles of the cluster, and how many local endpoints name each.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    profiles: BTreeMap<ProfileId, CompiledProfile>,
    users: BTreeMap<ProfileId, u32>,
    published: Published<ProfileId, Arc<Profile>>,
}

impl Profiles {
    /// Adds, replaces or removes a profile.
    pub(crate) fn set(&mut self, id: ProfileId, profile: Option<CompiledProfile>, sets: &mut IpSets) {
        let is_active = self.users.contains_key(&id);
        if let Some(profile) = profile.as_ref().filter(|_| is_active) {
            profile.sets.iter().for_each(|set| sets.acquire(set));
        }
        let old = match profile {
            Some(profile) => self.profiles.insert(id.clone(), profile),
            None => self.profiles.remove(&id),
        };
        if is_active {
            old.iter().flat_map(|old| &old.sets).for_each(|set| sets.release(set));
            self.publish(id);
        }
    }

    /// An endpoint names the profile.
    pub(crate) fn acquire(&mut self, id: &ProfileId, sets: &mut IpSets) {
        let users = self.users.entry(id.clone()).or_default();
        *users += 1;
        if *users == 1 {
            self.references(id).for_each(|set| sets.acquire(set));
            self.publish(id.clone());
        }
    }

    /// An endpoint no longer names the profile.
    pub(crate) fn release(&mut self, id: &ProfileId, sets: &mut IpSets) {
        let Some(users) = self.users.get_mut(id) else { return };
        *users -= 1;
        if *users == 0 {
            self.users.remove(id);
            self.references(id).for_each(|set| sets.release(set));
            self.published.set(id.clone(), None);
        }
    }

    /// Profiles that changed, and those that no endpoint names any more.
    pub(crate) fn flush(&mut self) -> Differences<ProfileId, Arc<Profile>> {
        self.published.drain()
    }

    pub(crate) fn size(&self) -> usize {
        self.profiles.len() + self.users.len() + self.published.len()
    }

    fn references(&self, id: &ProfileId) -> impl Iterator<Item = &Definition> {
        self.profiles.get(id).into_iter().flat_map(|profile| &profile.sets)
    }

    fn publish(&mut self, id: ProfileId) {
        let profile = match self.profiles.get(&id) {
            Some(compiled) => compiled.profile.clone(),
            None => Arc::new(stand_in(&id)),
        };
        self.published.set(id, Some(profile));
    }
}

/// What a profile without a row is.
fn stand_in(id: &ProfileId) -> Profile {
    let action = if &*id.0 == DEFAULT_ALLOW { Action::Allow } else { Action::Deny };
    let rule = |direction| {
        let id = RuleId { owner: RuleOwner::Profile(id.clone()), direction, index: 0 };
        Rule::new(id, action)
    };
    Profile { inbound: vec![rule(Direction::Ingress)], outbound: vec![rule(Direction::Egress)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ProfileId {
        ProfileId(name.into())
    }

    fn actions(profiles: &mut Profiles) -> Vec<(ProfileId, Vec<Action>)> {
        let updates = profiles.flush().updates.into_iter();
        updates.map(|(id, profile)| (id, profile.inbound.iter().map(|rule| rule.action).collect())).collect()
    }

    fn compiled() -> CompiledProfile {
        let selector = api::selector::Selector::parse("a == 'b'").unwrap();
        let profile = Arc::new(Profile { inbound: vec![], outbound: vec![] });
        CompiledProfile { profile, sets: vec![Definition::Selector(selector)] }
    }

    #[test]
    fn a_profile_that_does_not_exist_denies_and_the_built_in_one_allows() {
        let (mut profiles, mut sets) = (Profiles::default(), IpSets::default());
        profiles.acquire(&id("missing"), &mut sets);
        profiles.acquire(&id(DEFAULT_ALLOW), &mut sets);
        assert_eq!(
            actions(&mut profiles),
            [(id("missing"), vec![Action::Deny]), (id(DEFAULT_ALLOW), vec![Action::Allow])]
        );
        profiles.set(id("missing"), Some(compiled()), &mut sets);
        assert_eq!(actions(&mut profiles), [(id("missing"), vec![])]);
    }

    #[test]
    fn rules_refer_to_sets_while_an_endpoint_names_the_profile() {
        let (mut profiles, mut sets) = (Profiles::default(), IpSets::default());
        profiles.set(id("p"), Some(compiled()), &mut sets);
        assert!(sets.flush().0.is_empty());
        profiles.acquire(&id("p"), &mut sets);
        profiles.acquire(&id("p"), &mut sets);
        assert_eq!(sets.flush().0.len(), 1);
        profiles.release(&id("p"), &mut sets);
        assert!(sets.flush().1.is_empty());
        profiles.set(id("p"), Some(compiled()), &mut sets);
        profiles.release(&id("p"), &mut sets);
        assert_eq!(sets.flush().1.len(), 1);
        assert_eq!(profiles.flush().removals, []);
        profiles.set(id("p"), None, &mut sets);
        assert_eq!((profiles.size(), sets.size()), (0, 0));
    }
}
