use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::time::{Duration, Instant};

use super::addresses::{self, host_address};
use super::{InterfaceKernel, Setting, enforce_each};
use crate::address::InterfaceAddress;
use crate::link::{Link, LinkChange};
use crate::monitor::Event;
use crate::shaping::{self, Shaping, device_of};
use crate::{InterfaceName, netlink, ownership, sysctl};

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// What is to be kept on an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceSettings {
    /// Whether it is to be up; if not, it is left as it is.
    pub up: bool,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// Its settings, in the order in which they are set.
    pub settings: Vec<Setting>,
    /// The addresses of the host on it, each for itself (/32, /128); others of full length are taken away.
    pub addresses: BTreeSet<IpAddr>,
    /// How fast the workload may receive and send.
    pub shaping: Shaping,
}

impl InterfaceSettings {
    /// Whether the link itself is as it should be.
    fn are_of(&self, link: &Link) -> bool {
        (link.up || !self.up) && self.mtu.is_none_or(|mtu| mtu == link.mtu)
    }
}

/// Why something could not be set.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// The link refused.
    #[error(transparent)]
    Link(#[from] netlink::Error),
    /// A setting refused.
    #[error(transparent)]
    Sysctl(#[from] sysctl::Error),
}

/// What could not be set.
#[derive(Debug)]
pub struct Failure {
    /// All that went wrong in the last try; everything else is set.
    pub errors: Vec<InterfaceError>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it will be tried again.
    pub next_try: Instant,
}

/// What one [`InterfaceTable::apply`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Links and settings that were changed.
    pub changed: usize,
    /// An IPv4 address was taken from a link, or may have been. With its last one the kernel forgets the link's IPv4 routes, and
    /// tells nobody (`fib_disable_ip`): read them back.
    pub routes_lost: bool,
    /// When `apply` should be called again though nothing was changed.
    pub next_apply: Option<Instant>,
}

/// Keeps interfaces, and the host's own settings, as they should be. See the documentation of the module.
#[derive(Debug)]
pub struct InterfaceTable<K> {
    kernel: K,
    desired: BTreeMap<Subject, InterfaceSettings>,
    links: BTreeMap<InterfaceName, Link>,
    /// What the names of workloads' interfaces begin with.
    prefixes: Vec<String>,
    /// Addresses of full length by number of the link: see [`crate::ownership`].
    addresses: BTreeMap<u32, BTreeSet<IpAddr>>,
    /// Links whose bandwidth is limited, by number.
    shaped: BTreeSet<u32>,
    /// Devices of interfaces that are gone.
    orphans: BTreeSet<InterfaceName>,
    /// An IPv4 address may have been taken away since this was last told.
    took_ipv4: bool,
    dirty: BTreeSet<Subject>,
    failures: BTreeMap<Subject, Failure>,
    /// The last that was looked at again.
    looked_at: Option<Subject>,
    resync: bool,
}

/// An interface, or the host itself (none).
type Subject = Option<InterfaceName>;

impl<K: InterfaceKernel> InterfaceTable<K> {
    /// A table that keeps nothing yet.
    pub fn new(kernel: K) -> Self {
        Self {
            kernel,
            desired: BTreeMap::new(),
            links: BTreeMap::new(),
            prefixes: vec![ownership::INTERFACE_PREFIX.to_owned()],
            addresses: BTreeMap::new(),
            shaped: BTreeSet::new(),
            orphans: BTreeSet::new(),
            took_ipv4: false,
            dirty: BTreeSet::new(),
            failures: BTreeMap::new(),
            looked_at: None,
            resync: true,
        }
    }

    /// The names of workloads' interfaces begin with one of these from now on (FelixConfiguration `interfacePrefix`). Memory only.
    pub fn set_prefixes(&mut self, prefixes: &[String]) {
        if self.prefixes != prefixes {
            prefixes.clone_into(&mut self.prefixes);
            self.resync = true;
        }
    }

    /// Keeps an interface like this from now on. Memory only.
    pub fn set(&mut self, interface: InterfaceName, settings: InterfaceSettings) {
        self.want(Some(interface), settings);
    }

    /// Leaves an interface alone from now on, but for addresses of ours that it still has. Memory only.
    pub fn remove(&mut self, interface: &InterfaceName) {
        let subject = Some(interface.clone());
        self.desired.remove(&subject);
        self.dirty.remove(&subject);
        self.touch(subject);
    }

    /// Keeps settings of the host itself. Memory only.
    pub fn set_host(&mut self, settings: Vec<Setting>) {
        self.want(None, InterfaceSettings { settings, ..InterfaceSettings::default() });
    }

    fn want(&mut self, subject: Subject, settings: InterfaceSettings) {
        if self.desired.get(&subject) != Some(&settings) {
            self.desired.insert(subject.clone(), settings);
            self.touch(subject);
        }
    }

    /// Something changed in the kernel. Memory only.
    pub fn on_event(&mut self, event: &Event) {
        match event {
            Event::Resync => self.queue_resync(),
            Event::Link(link) => self.on_link(link),
            Event::LinkGone { index, .. } => self.on_link_gone(*index),
            Event::Setting { index } => self.on_setting(*index),
            Event::Address(address) => self.on_address(address, true),
            Event::AddressGone(address) => self.on_address(address, false),
            Event::Route(_) | Event::RouteGone(_) | Event::Neighbour(_) | Event::NeighbourGone { .. } => {}
        }
    }

    /// A link is there (again), or has changed. Memory only.
    pub fn on_link(&mut self, link: &Link) {
        let before = self.links.insert(link.name.clone(), link.clone());
        let subject = Some(link.name.clone());
        let wanted = self.desired.get(&subject);
        // Settings stay with the link, whatever else becomes of it.
        let wrong = wanted.is_some_and(|wanted| !wanted.are_of(link));
        if wrong || before.is_none_or(|before| before.index != link.index) {
            self.touch(subject);
        }
    }

    /// A link is gone. Memory only.
    pub fn on_link_gone(&mut self, index: u32) {
        for (name, _) in self.links.extract_if(.., |_, link| link.index == index) {
            if self.shaped.contains(&index) {
                self.orphans.insert(device_of(&name));
            }
        }
        self.addresses.remove(&index);
        self.shaped.remove(&index);
    }

    /// The kernel says that an address is there (`present`), or gone. Memory only.
    pub fn on_address(&mut self, address: &InterfaceAddress, present: bool) {
        let Some(host) = host_address(address) else { return };
        let all = self.addresses.entry(address.index).or_default();
        let is_news = if present { all.insert(host) } else { all.remove(&host) };
        if all.is_empty() {
            self.addresses.remove(&address.index);
        }
        if !is_news {
            return;
        }
        let link = self.links.values().find(|link| link.index == address.index);
        if let Some(subject) = link.map(|link| Some(link.name.clone())) {
            self.touch(subject);
        }
    }

    /// A setting of an interface was changed by someone (or by us); none for the host's own. Memory only.
    pub fn on_setting(&mut self, index: Option<u32>) {
        let names = self.links.values().filter(|link| Some(link.index) == index);
        let subjects: Vec<Subject> = match index {
            Some(_) => names.map(|link| Some(link.name.clone())).collect(),
            None => vec![None],
        };
        for subject in subjects.into_iter().filter(|subject| self.desired.contains_key(subject)) {
            self.dirty.insert(subject);
        }
    }

    /// The next `apply` reads everything back: call it periodically, and when events were lost.
    pub fn queue_resync(&mut self) {
        self.resync = true;
    }

    /// The next `apply` looks at one of `parts` parts of all subjects again, each time at the next part: many settings
    /// change without an event, and reading all of them back at once takes long on a host with many workloads. Memory only.
    pub fn queue_part(&mut self, parts: usize) {
        let count = self.desired.len().div_ceil(parts.max(1));
        let after = |last: &Subject| self.desired.range((Bound::Excluded(last), Bound::Unbounded));
        let rest = self.looked_at.as_ref().map(after).into_iter().flatten();
        let part: Vec<Subject> =
            rest.chain(&self.desired).take(count).map(|(subject, _)| subject.clone()).collect();
        self.looked_at = part.last().cloned();
        self.dirty.extend(part);
    }

    /// What could not be set, by interface; none for the host itself.
    pub fn failures(&self) -> impl Iterator<Item = (Option<&InterfaceName>, &Failure)> {
        self.failures.iter().map(|(subject, failure)| (subject.as_ref(), failure))
    }

    /// Interfaces that are not there (yet).
    pub fn waiting(&self) -> impl Iterator<Item = &InterfaceName> {
        self.desired.keys().flatten().filter(|name| !self.links.contains_key(*name))
    }

    /// Whether everything that is wanted of an interface was set when it was last looked at.
    pub fn is_settled(&self, interface: &InterfaceName) -> bool {
        let subject = Some(interface.clone());
        self.links.contains_key(interface)
            && !self.dirty.contains(&subject)
            && !self.failures.contains_key(&subject)
    }

    /// What the settings are written to.
    pub fn kernel(&mut self) -> &mut K {
        &mut self.kernel
    }

    /// Sets what is not as it should be. Without news it makes no system call.
    ///
    /// # Errors
    /// When the links cannot be listed. What is refused otherwise is in [`InterfaceTable::failures`].
    pub fn apply(&mut self, now: Instant) -> Result<Report, netlink::Error> {
        if self.resync {
            self.read_back()?;
            self.resync = false;
        }
        let due = self.failures.iter().filter(|(_, failure)| failure.next_try <= now);
        self.dirty.extend(due.map(|(subject, _)| subject.clone()));
        let mut report = Report::default();
        // Before their names are wanted again.
        report.changed += self.delete_orphans();
        for subject in std::mem::take(&mut self.dirty) {
            report.changed += self.enforce(&subject, now);
        }
        report.routes_lost = std::mem::take(&mut self.took_ipv4);
        let retries = self.failures.values().map(|failure| failure.next_try);
        report.next_apply =
            retries.chain((self.resync || !self.orphans.is_empty()).then_some(now + FIRST_RETRY)).min();
        Ok(report)
    }

    fn read_back(&mut self) -> Result<(), netlink::Error> {
        let links = self.kernel.list_links()?;
        let addresses = self.kernel.list_addresses()?;
        let limited = self.kernel.shaped_links()?;
        self.links = links.into_iter().map(|link| (link.name.clone(), link)).collect();
        self.addresses.clear();
        for address in addresses {
            if let Some(host) = host_address(&address) {
                self.addresses.entry(address.index).or_default().insert(host);
            }
        }
        self.find_shaped(&limited);
        self.dirty.extend(self.desired.keys().cloned());
        let all = self.links.keys().cloned().map(Some);
        let left: Vec<Subject> = all.filter(|subject| self.has_leftovers(subject)).collect();
        self.dirty.extend(left);
        Ok(())
    }

    /// An interface is limited by its own bucket or by its device; a device whose interface is not there is an orphan.
    fn find_shaped(&mut self, limited: &BTreeSet<u32>) {
        let devices = self.links.values().filter(|link| shaping::is_device(link));
        self.orphans = devices.map(|link| link.name.clone()).collect();
        self.shaped.clear();
        for link in self.links.values().filter(|link| is_workload_interface(&link.name, &self.prefixes)) {
            let has_device = self.orphans.remove(&device_of(&link.name));
            if has_device || limited.contains(&link.index) {
                self.shaped.insert(link.index);
            }
        }
    }

    /// Gives how many it deleted. One that refuses is tried again.
    fn delete_orphans(&mut self) -> usize {
        let all = std::mem::take(&mut self.orphans);
        let count = all.len();
        let left = all.into_iter().filter(|device| self.kernel.delete_shaper(device).is_err());
        self.orphans = left.collect();
        count - self.orphans.len()
    }

    fn touch(&mut self, subject: Subject) {
        self.failures.remove(&subject);
        if self.desired.contains_key(&subject) || self.has_leftovers(&subject) {
            self.dirty.insert(subject);
        }
    }

    /// Whether nothing is wanted of an interface of ours, and it has addresses or limits all the same.
    fn has_leftovers(&self, subject: &Subject) -> bool {
        let link = subject.as_ref().and_then(|name| self.links.get(name));
        let ours = link.filter(|link| is_workload_interface(&link.name, &self.prefixes));
        ours.is_some_and(|link| self.addresses.contains_key(&link.index) || self.shaped.contains(&link.index))
            && !self.desired.contains_key(subject)
    }

    /// Gives how much was changed.
    fn enforce(&mut self, subject: &Subject, now: Instant) -> usize {
        let nothing = InterfaceSettings::default();
        let wanted = match self.desired.get(subject) {
            Some(wanted) => wanted,
            None if self.has_leftovers(subject) => &nothing,
            None => return 0,
        };
        let mut errors: Vec<InterfaceError> = Vec::new();
        let mut changed = 0;
        let (made, refused) = match subject {
            None => enforce_each(&mut self.kernel, &wanted.settings),
            Some(name) => {
                let ours = is_workload_interface(name, &self.prefixes);
                let Some(link) = self.links.get_mut(name) else {
                    // What could not be done on it went with it.
                    self.failures.remove(subject);
                    return 0;
                };
                match change_link(&mut self.kernel, link, wanted) {
                    Ok(done) => changed += usize::from(done),
                    Err(error) => errors.push(error.into()),
                }
                let present = self.addresses.remove(&link.index).unwrap_or_default();
                let placed = addresses::place(&mut self.kernel, link.index, present, &wanted.addresses, ours);
                if !placed.present.is_empty() {
                    self.addresses.insert(link.index, placed.present);
                }
                changed += placed.changed;
                self.took_ipv4 |= placed.took_ipv4;
                errors.extend(placed.refused.map(InterfaceError::from));
                match shape(&mut self.kernel, link, &wanted.shaping, &mut self.shaped) {
                    Ok(done) => changed += done,
                    Err(error) => errors.push(error.into()),
                }
                self.kernel.enforce(link.index, &wanted.settings)
            }
        };
        changed += made;
        errors.extend(refused.into_iter().map(InterfaceError::from));
        if errors.is_empty() {
            self.failures.remove(subject);
        } else {
            self.fail(subject.clone(), errors, now);
        }
        changed
    }

    fn fail(&mut self, subject: Subject, errors: Vec<InterfaceError>, now: Instant) {
        // Most likely it has just gone, and the event is under way.
        self.resync |= errors.iter().any(|error| match error {
            InterfaceError::Link(error) => error.is_absent(),
            InterfaceError::Sysctl(error) => error.is_absent() && subject.is_some(),
        });
        let attempts = 1 + self.failures.get(&subject).map_or(0, |failure| failure.attempts);
        let pause = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(attempts - 1)).min(LONGEST_RETRY);
        self.failures.insert(subject, Failure { errors, attempts, next_try: now + pause });
    }
}

/// Looks at the limits only where there are some, or shall be: a new interface without costs nothing.
fn shape(
    kernel: &mut impl InterfaceKernel,
    link: &Link,
    wanted: &Shaping,
    shaped: &mut BTreeSet<u32>,
) -> Result<usize, netlink::Error> {
    if wanted.is_unlimited() && !shaped.contains(&link.index) {
        return Ok(0);
    }
    // What was made in part is to be taken away as well.
    shaped.insert(link.index);
    let changed = kernel.shape(link, wanted)?;
    if wanted.is_unlimited() {
        shaped.remove(&link.index);
    }
    Ok(changed)
}

fn is_workload_interface(name: &InterfaceName, prefixes: &[String]) -> bool {
    prefixes.iter().any(|prefix| name.as_str().starts_with(&**prefix))
}

/// Gives whether anything was changed, and remembers it.
fn change_link(
    kernel: &mut impl InterfaceKernel,
    link: &mut Link,
    wanted: &InterfaceSettings,
) -> Result<bool, netlink::Error> {
    if wanted.are_of(link) {
        return Ok(false);
    }
    let up = (wanted.up && !link.up).then_some(true);
    let mtu = wanted.mtu.filter(|mtu| *mtu != link.mtu);
    kernel.change_link(link.index, &LinkChange { up, mtu, ..LinkChange::default() })?;
    link.up |= wanted.up;
    link.mtu = mtu.unwrap_or(link.mtu);
    Ok(true)
}
