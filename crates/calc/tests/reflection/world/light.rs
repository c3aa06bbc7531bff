//! A client whose process is modelled, where there is no room for thousands of planners and RIBs.
//!
//! Its sessions are the real thing ([`Session`], over the same simulated connections, with the real codec), and so is
//! whom it goes to ([`Organisation`]). Of a route it keeps by which sessions it came, and under which path identifiers,
//! not its attributes; so it selects nothing: it has a route as long as one of its sessions has. It announces one block,
//! and never reflects. Make-before-break is stated again here as `bgp_plan::reflection` has it for clients.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bgp::config::{AddPath, GracefulRestart, SendPaths, Timers};
use bgp::iana::{cease, error};
use bgp::packet::attribute::{AsPath, Attribute, AttributeValue, Origin};
use bgp::packet::nlri::Nlri;
use bgp::packet::notification::Notification;
use bgp::packet::route_refresh::Subtype;
use bgp::packet::update::{Received, Update, end_of_rib};
use bgp::session::{Action, Loss, Negotiated, Reason, Session, SessionState, Settings};
use bgp::{Asn, ConnectionId, Family, FamilySet, Input, RouterId};
use calc::reflection::{Organisation, dialled};

use super::bits::Bits;
use super::{Act, address, block, host_of_name, name, owner_of};

const AS: Asn = Asn(64512);
/// As in `SessionWatch`.
const IDLE: Duration = Duration::from_secs(5);
const DOWN: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(30);

pub(super) struct Light {
    host: usize,
    name: String,
    organisation: Rc<Organisation>,
    /// The reflectors to peer with, and since when it is these.
    wanted: BTreeSet<usize>,
    planned_at: Instant,
    /// By the reflectors' numbers.
    links: BTreeMap<usize, Box<Link>>,
    last_number: u32,
    seed: u64,
    /// By how many sessions there is a route to each host.
    ways: Vec<u8>,
    /// To whom that has become none, or one, since the last poll.
    changed: BTreeSet<usize>,
    /// What the kernel has.
    told: Bits,
    acts: Vec<Act>,
}

/// A session with a reflector.
struct Link {
    session: Session,
    number: u32,
    /// Whether it is up, and since when.
    since: (bool, Instant),
    /// End-of-RIB has come.
    is_whole: bool,
    /// How long its routes are kept when it ends (RFC 4724).
    restart_time: Option<Duration>,
    /// For each host the path identifiers under which there is a route, as a set.
    held: Vec<u16>,
    stale: Bits,
    stale_until: Option<Instant>,
}

impl Link {
    fn is_up(&self) -> bool {
        self.since.0
    }

    /// It has been down for so long.
    fn is_down(&self, time: Duration, now: Instant) -> bool {
        !self.is_up() && now - self.since.1 >= time
    }
}

impl Light {
    pub(super) fn new(host: usize, organisation: Rc<Organisation>, seed: u64, now: Instant) -> Self {
        let mut light = Self {
            host,
            name: name(host),
            organisation,
            wanted: BTreeSet::new(),
            planned_at: now,
            links: BTreeMap::new(),
            last_number: 0,
            seed,
            ways: Vec::new(),
            changed: BTreeSet::new(),
            told: Bits::default(),
            acts: Vec::new(),
        };
        light.look(now);
        light
    }

    pub(super) fn organise(&mut self, organisation: Rc<Organisation>, now: Instant) {
        self.organisation = organisation;
        self.look(now);
    }

    /// Goes to the reflectors that it should have, and leaves others once that does no harm.
    pub(super) fn look(&mut self, now: Instant) {
        assert!(
            !self.organisation.is_reflector(&self.name),
            "{} is to reflect, but only modelled",
            self.name
        );
        let organisation = self.organisation.clone();
        let ranking = organisation.ranking(&self.name);
        let is_down =
            |name: &str| self.links.get(&host_of_name(name)).is_some_and(|link| link.is_down(DOWN, now));
        let down: BTreeSet<&str> =
            ranking.iter().map(|(name, _)| *name).filter(|name| is_down(name)).collect();
        let wanted = dialled(&ranking, &down).into_iter().map(host_of_name).collect();
        if self.wanted != wanted {
            (self.wanted, self.planned_at) = (wanted, now);
        }
        for reflector in self.wanted.clone() {
            if !self.links.contains_key(&reflector) {
                self.add(reflector, now);
            }
        }
        let is_settled = self.is_settled_at(now);
        let unwanted = self.links.iter().filter(|(reflector, _)| !self.wanted.contains(reflector));
        let left = unwanted.filter(|(_, link)| is_settled || link.is_down(IDLE, now));
        let left: Vec<usize> = left.map(|(reflector, _)| *reflector).collect();
        left.into_iter().for_each(|reflector| self.leave(reflector, now));
    }

    fn is_settled_at(&self, now: Instant) -> bool {
        let is_there = |link: &Link| link.is_up() && link.is_whole && now - link.since.1 >= SETTLE;
        now - self.planned_at >= SETTLE
            && self.wanted.iter().all(|reflector| {
                let link = &self.links[reflector];
                link.is_down(DOWN, now) || is_there(link)
            })
    }

    fn add(&mut self, reflector: usize, now: Instant) {
        self.last_number += 1;
        let number = self.last_number;
        let session = Session::new(settings(self.host), number, self.seed.wrapping_add(number.into()), now);
        let link = Box::new(Link {
            session,
            number,
            since: (false, now),
            is_whole: false,
            restart_time: None,
            held: Vec::new(),
            stale: Bits::default(),
            stale_until: None,
        });
        self.links.insert(reflector, link);
        self.with(reflector, now, |session| session.start(now));
    }

    fn leave(&mut self, reflector: usize, now: Instant) {
        let notification = Notification::new(error::CEASE, cease::DECONFIGURED);
        self.with(reflector, now, |session| session.stop(Some(notification), Reason::Reconfigured, now));
        if let Some(mut link) = self.links.remove(&reflector) {
            self.drop_routes(&mut link, false);
        }
    }

    pub(super) fn input(&mut self, input: Input<'_>, now: Instant) {
        match input {
            Input::Connected { connection, .. } => {
                self.on(connection, now, |session| session.handle_connected(connection, now));
            }
            Input::ConnectFailed { connection, failure } => {
                self.on(connection, now, |session| session.handle_connect_failed(connection, failure, now));
            }
            Input::Closed { connection, failure } => {
                self.on(connection, now, |session| session.handle_closed(connection, failure, now));
            }
            Input::Received { connection, bytes } => self.received(connection, bytes, now),
            Input::Shutdown(_) => {
                let reflectors: Vec<usize> = self.links.keys().copied().collect();
                reflectors.into_iter().for_each(|reflector| self.leave(reflector, now));
                self.changed.clear();
            }
            other => unreachable!("nobody says that to a client: {other:?}"),
        }
    }

    fn link_of(&self, connection: ConnectionId) -> Option<usize> {
        let number = u32::try_from(connection.0 >> 32).expect("32 bits are left");
        self.links.iter().find(|(_, link)| link.number == number).map(|(reflector, _)| *reflector)
    }

    fn on(&mut self, connection: ConnectionId, now: Instant, event: impl FnOnce(&mut Session)) {
        if let Some(reflector) = self.link_of(connection) {
            self.with(reflector, now, event);
        }
    }

    fn received(&mut self, connection: ConnectionId, bytes: &[u8], now: Instant) {
        let Some(reflector) = self.link_of(connection) else { return };
        let Some(mut link) = self.links.remove(&reflector) else { return };
        let mut input = bytes;
        while link.session.handle_received(connection, &mut input, now) {
            self.act_on(reflector, &mut link, now);
        }
        self.links.insert(reflector, link);
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        let reflectors: Vec<usize> = self.links.keys().copied().collect();
        for reflector in reflectors {
            let Some(mut link) = self.links.remove(&reflector) else { continue };
            if link.stale_until.is_some_and(|until| until <= now) {
                link.stale_until = None;
                self.drop_routes(&mut link, true);
            }
            self.links.insert(reflector, link);
            self.with(reflector, now, |session| session.handle_timeout(now));
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = self.links.values().flat_map(|link| [link.session.poll_timeout(), link.stale_until]);
        deadlines.flatten().min()
    }

    pub(super) fn poll(&mut self) -> Vec<Act> {
        for owner in std::mem::take(&mut self.changed) {
            let is_there = self.ways[owner] > 0;
            let differs = if is_there { self.told.insert(owner) } else { self.told.remove(owner) };
            if differs {
                self.acts.push(Act::Route { owner, is_there });
            }
        }
        std::mem::take(&mut self.acts)
    }

    pub(super) fn sessions(&self) -> usize {
        self.links.values().filter(|link| link.is_up()).count()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.links.keys().eq(&self.wanted)
    }

    /// Lets something happen to a session, and does what it wants done.
    fn with(&mut self, reflector: usize, now: Instant, event: impl FnOnce(&mut Session)) {
        let Some(mut link) = self.links.remove(&reflector) else { return };
        event(&mut link.session);
        self.act_on(reflector, &mut link, now);
        self.links.insert(reflector, link);
    }

    fn act_on(&mut self, reflector: usize, link: &mut Link, now: Instant) {
        while let Some(action) = link.session.poll_action() {
            self.act(reflector, link, action, now);
        }
    }

    fn act(&mut self, reflector: usize, link: &mut Link, action: Action, now: Instant) {
        match action {
            Action::Connect(connection) => {
                self.acts.push(Act::Dial { connection, remote: address(reflector) });
            }
            Action::Send(connection, bytes) => self.send(link, connection, bytes, now),
            Action::Close(connection) => self.acts.push(Act::Close { connection }),
            Action::State(state, _) => {
                let is_up = state == SessionState::Established;
                if is_up != link.is_up() {
                    link.since = (is_up, now);
                }
                self.acts.push(Act::Session(state));
            }
            Action::Established(negotiated) => self.established(link, &negotiated, now),
            Action::Down(loss, _) => self.down(link, loss, now),
            Action::Update(received) => self.learn(link, &received),
            Action::Refresh(refresh) if refresh.subtype == Subtype::Request => self.announce(link, now),
            Action::Refresh(_) => {}
        }
    }

    fn send(&mut self, link: &mut Link, connection: ConnectionId, bytes: Vec<u8>, now: Instant) {
        link.session.handle_written(connection, bytes.len(), now);
        self.acts.push(Act::Send { connection, message: vec![bytes.into()] });
    }

    fn established(&mut self, link: &mut Link, negotiated: &Negotiated, now: Instant) {
        let kept = negotiated.kept_forwarding().contains(Family::Ipv4Unicast);
        let restart = negotiated.graceful_restart.as_ref();
        let restart = restart.filter(|restart| restart.families.contains(Family::Ipv4Unicast));
        link.restart_time = restart.map(|restart| restart.restart_time);
        link.is_whole = false;
        if !kept {
            self.drop_routes(link, true);
        }
        link.stale_until = link.stale_until.map(|_| now + GracefulRestart::default().stale_time);
        self.announce(link, now);
        let Some(connection) = link.session.established_connection() else { return };
        let bytes = end_of_rib(Family::Ipv4Unicast);
        link.session.queued(bytes.len(), now);
        self.send(link, connection, bytes, now);
    }

    /// Our block.
    fn announce(&mut self, link: &mut Link, now: Instant) {
        let Some(connection) = link.session.established_connection() else { return };
        let Some(context) = link.session.negotiated().map(|negotiated| negotiated.context) else { return };
        let path_id = context.add_path_send.contains(Family::Ipv4Unicast).then_some(1);
        let IpAddr::V4(next_hop) = IpAddr::from(address(self.host)) else { unreachable!("IPv4 only") };
        let attributes = [
            AttributeValue::Origin(Origin::Igp),
            AttributeValue::AsPath(AsPath::sequence([])),
            AttributeValue::NextHop(next_hop),
            AttributeValue::LocalPref(100),
        ];
        let nlri = vec![Nlri { prefix: block(self.host), path_id }];
        let update =
            Update { attributes: attributes.map(Attribute::new).to_vec(), nlri, ..Update::default() };
        let bytes = update.encode(&context);
        link.session.queued(bytes.len(), now);
        self.send(link, connection, bytes, now);
    }

    fn down(&mut self, link: &mut Link, loss: Loss, now: Instant) {
        let Some(restart_time) = link.restart_time.filter(|_| loss != Loss::ForGood) else {
            link.stale_until = None;
            return self.drop_routes(link, false);
        };
        if loss == Loss::Restart {
            self.drop_routes(link, true);
        }
        link.stale = (0..link.held.len()).filter(|owner| link.held[*owner] != 0).collect();
        link.stale_until = Some(now + restart_time);
    }

    fn learn(&mut self, link: &mut Link, received: &Received) {
        assert_eq!(received.faults, [], "no speaker of ours makes mistakes");
        let update = &received.update;
        if update.end_of_rib().is_some() {
            link.is_whole = true;
            link.stale_until = None;
            return self.drop_routes(link, true);
        }
        for nlri in &update.withdrawn {
            self.change(link, nlri, |held, path| held & !path);
        }
        for nlri in &update.nlri {
            self.change(link, nlri, |held, path| held | path);
        }
    }

    /// Changes by which paths there is a route; what was stale is no longer so.
    fn change(&mut self, link: &mut Link, nlri: &Nlri, change: impl Fn(u16, u16) -> u16) {
        let owner = owner_of(&nlri.prefix);
        // Our own, which a reflector has from another one.
        if owner == self.host {
            return;
        }
        if link.held.len() <= owner {
            link.held.resize(owner + 1, 0);
        }
        let path = 1_u16.checked_shl(nlri.path_id.unwrap_or(0)).expect("path identifiers below 16");
        let before = if link.stale.remove(owner) { 0 } else { link.held[owner] };
        let was_there = link.held[owner] != 0;
        link.held[owner] = change(before, path);
        self.count(owner, was_there, link.held[owner] != 0);
    }

    fn count(&mut self, owner: usize, was_there: bool, is_there: bool) {
        if was_there == is_there {
            return;
        }
        if self.ways.len() <= owner {
            self.ways.resize(owner + 1, 0);
        }
        match is_there {
            true => self.ways[owner] += 1,
            false => self.ways[owner] -= 1,
        }
        self.changed.insert(owner);
    }

    /// The routes of a session go, or its stale ones.
    fn drop_routes(&mut self, link: &mut Link, stale_only: bool) {
        let stale = std::mem::take(&mut link.stale);
        for owner in 0..link.held.len() {
            if link.held[owner] != 0 && (!stale_only || stale.contains(owner)) {
                link.held[owner] = 0;
                self.count(owner, true, false);
            }
        }
    }
}

/// As the planner has them for a session between nodes.
fn settings(host: usize) -> Settings {
    Settings {
        local_as: AS,
        router_id: RouterId(address(host)),
        remote_as: AS,
        alias: None,
        passive: false,
        families: FamilySet::from_iter([Family::Ipv4Unicast]),
        timers: Timers::default(),
        graceful_restart: Some(GracefulRestart::default()),
        add_path: AddPath { receive: true, send: SendPaths::EachNextHop },
        long_lived: None,
        role: None,
        over_ipv6: false,
    }
}
