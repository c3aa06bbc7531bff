//! The thread.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use api::wire::flows::{Flow, FlowAction, FlowEnd, FlowsQuestion, Unseen};
use calc::evaluator::Packet;
use calc::program::Conntrack as State;
use dataplane::judge::{Hook, Judged, Sight};
use kernel::Rtnetlink;
use kernel::conntrack::Conntrack;
use kernel::nflog::{Headers, Logged};
use kernel::ownership::{NFLOG_ALLOWED, NFLOG_DENIED};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::PER_SECOND;
use super::followers::Followers;
use super::listener::{Heard, Listener};
use super::table::{FlowTable, Key, StagedCounts};
use crate::agent::AgentHandle;
use crate::telemetry;

/// Flows that are judged in one go.
const JUDGED_AT_ONCE: usize = 128;
/// How long the agent may take to say which rules have decided before a flow is told without, in milliseconds.
const PATIENCE: i64 = 1000;
/// How often followers are told: what comes in between is told at once.
const PACE: Duration = Duration::from_millis(100);
/// How often it is looked around when nothing happens.
const TICK: Duration = Duration::from_secs(1);
/// How often the rules' counters are read while there is too much to be heard: that is a listing of all rules.
const COUNTING: Duration = Duration::from_secs(10);
/// How often unknown interfaces are looked for.
const LOOKING: Duration = Duration::from_millis(500);
/// Tracked connections that are told of.
const MOST_CONNECTIONS: usize = 20_000;

/// A question, and where the answer goes.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) question: FlowsQuestion,
    pub(super) stream: UnixStream,
}

/// What the agent has said.
#[derive(Debug)]
pub(crate) enum Said {
    /// Which rules have decided, in the order of what was asked.
    Judged(Vec<Judged>),
    /// How many packets rules have denied, by their counters; none if they cannot be read.
    Denied(Option<u64>),
}

pub(super) struct Watcher {
    node: String,
    agent: AgentHandle,
    asked: Receiver<Asked>,
    wake: Arc<OwnedFd>,
    said: (Sender<Said>, Receiver<Said>),
    denied: Listener,
    allowed: Listener,
    table: FlowTable,
    followers: Followers,
    interfaces: Interfaces,
    /// What the agent is asked to judge.
    judging: Option<(Vec<Key>, Vec<Sight>)>,
    told: Instant,
    /// The agent knows that somebody follows what is allowed.
    wanted: bool,
    flood: Flood,
    published: StagedCounts,
}

/// A time in which there was too much to be heard.
#[derive(Debug, Default)]
struct Flood {
    /// Packets that were denied and heard, ever.
    heard: u64,
    /// When the counters were last asked for, and whether the answer is still to come.
    counted: Option<(Instant, bool)>,
    /// What rules had denied then, and what was heard by then.
    before: Option<(u64, u64)>,
}

impl Watcher {
    pub(super) fn new(node: &str, agent: AgentHandle, asked: Receiver<Asked>, wake: Arc<OwnedFd>) -> Self {
        let now = Instant::now();
        Self {
            node: node.to_owned(),
            agent,
            asked,
            wake,
            said: channel(),
            denied: Listener::new(NFLOG_DENIED, PER_SECOND, now),
            allowed: Listener::new(NFLOG_ALLOWED, PER_SECOND, now),
            table: FlowTable::default(),
            followers: Followers::default(),
            interfaces: Interfaces::default(),
            judging: None,
            told: now,
            wanted: false,
            flood: Flood::default(),
            published: StagedCounts::default(),
        }
    }

    pub(super) fn run(mut self) {
        loop {
            self.wait();
            let now = Instant::now();
            self.hear(now);
            self.answer();
            self.judge();
            self.follow_flood(now);
            if now.saturating_duration_since(self.told) >= PACE {
                self.tell(now);
            }
            self.followers.write();
            self.want();
        }
    }

    fn wait(&mut self) {
        let timeout = self.until_next_work();
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or_default();
        let timeout = Timespec { tv_sec: seconds, tv_nsec: timeout.subsec_nanos().into() };
        let mut files = vec![PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN)];
        let groups = [&self.denied, &self.allowed].into_iter().filter_map(|listener| listener.file());
        files.extend(groups.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)));
        let first = files.len();
        files.extend(self.followers.files().map(|(file, waiting)| {
            let events = if waiting { PollFlags::OUT } else { PollFlags::empty() };
            PollFd::from_borrowed_fd(file, events)
        }));
        // A poll that fails is a round without waiting for anything.
        if poll(&mut files, Some(&timeout)).is_err() {
            std::thread::sleep(Duration::from_millis(10));
            return;
        }
        let gone: Vec<bool> = files[first..]
            .iter()
            .map(|file| file.revents().intersects(PollFlags::HUP | PollFlags::ERR))
            .collect();
        if files[0].revents().contains(PollFlags::IN) {
            let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
        }
        drop(files);
        self.followers.drop_gone(gone.into_iter());
    }

    fn until_next_work(&self) -> Duration {
        let now = Instant::now();
        let soon = match &self.judging {
            Some(_) => Some(now + PACE / 10),
            None => (self.table.has_news() || self.table.has_unjudged()).then(|| self.told + PACE),
        };
        let again = [&self.denied, &self.allowed].into_iter().filter_map(|listener| listener.again());
        let next = again.chain(soon).min();
        next.map_or(TICK, |next| next.saturating_duration_since(now).min(TICK))
    }

    fn hear(&mut self, now: Instant) {
        let at = milliseconds();
        let Self { denied, allowed, table, interfaces, .. } = self;
        for (listener, denies) in [(denied, true), (allowed, false)] {
            listener.revive(now);
            listener.hear(now, |logged| {
                let Logged { prefix, hook, input, output, headers } = logged;
                let Some(hook) = Hook::from_number(hook) else { return };
                let denied = denies.then(|| Arc::from(prefix));
                let [input, output] = [input, output].map(|index| interfaces.name(index?, now));
                table.on_packet(at, Sight { packet: packet(&headers), hook, input, output, denied });
            });
        }
    }

    fn answer(&mut self) {
        while let Ok(Asked { question, stream }) = self.asked.try_recv() {
            let Self { table, node, followers, .. } = self;
            let connections = question.connections;
            followers.add(stream, question, || {
                let mut flows = table.flows(node, milliseconds());
                let mut unseen = Unseen::default();
                if connections {
                    flows.extend(tracked(node, &mut unseen));
                }
                (flows, unseen)
            });
        }
    }

    fn judge(&mut self) {
        while let Ok(said) = self.said.1.try_recv() {
            match said {
                Said::Judged(judged) => {
                    if let Some((keys, sights)) = self.judging.take() {
                        self.table.on_judged(milliseconds(), &keys, &sights, judged);
                    }
                }
                Said::Denied(packets) => self.on_counted(packets),
            }
        }
        if self.judging.is_some() || !self.table.has_unjudged() {
            return;
        }
        let (keys, sights) = self.table.take_unjudged(JUDGED_AT_ONCE);
        self.agent.judge(sights.clone(), self.said.0.clone());
        self.judging = Some((keys, sights));
    }

    fn follow_flood(&mut self, now: Instant) {
        let is_due = match self.flood.counted {
            None => self.denied.is_deaf(),
            Some((at, asked)) => !asked && now.saturating_duration_since(at) >= COUNTING,
        };
        if is_due {
            self.flood.counted = Some((now, true));
            self.agent.count_denied(self.said.0.clone());
        }
    }

    fn on_counted(&mut self, packets: Option<u64>) {
        let Some(packets) = packets else {
            (self.flood.before, self.flood.counted) = (None, None);
            return;
        };
        let heard = self.flood.heard + self.denied.heard.packets;
        if let Some((before, heard_before)) = self.flood.before {
            let denied = packets.saturating_sub(before);
            let unseen = denied.saturating_sub(heard - heard_before);
            if unseen > 0 {
                self.unseen(Unseen { uncounted_denials: unseen, ..Unseen::default() });
            }
        }
        self.flood.before = self.denied.is_deaf().then_some((packets, heard));
        self.flood.counted = match self.flood.before {
            Some(_) => self.flood.counted.map(|(at, _)| (at, false)),
            None => None,
        };
    }

    fn tell(&mut self, now: Instant) {
        self.told = now;
        let news = self.table.take_news(&self.node, milliseconds(), PATIENCE);
        self.followers.tell(&news);
        let [denied, allowed] =
            [&mut self.denied, &mut self.allowed].map(|listener| std::mem::take(&mut listener.heard));
        self.flood.heard += denied.packets;
        telemetry::flow_packets("denied", denied.packets);
        telemetry::flow_packets("allowed", allowed.packets);
        let unseen = Unseen {
            lost_packets: denied.lost + allowed.lost,
            denied_deaf_ms: deaf(denied),
            allowed_deaf_ms: deaf(allowed),
            ..Unseen::default()
        };
        if unseen != Unseen::default() {
            self.unseen(unseen);
        }
        for (key, packets) in self.table.staged() {
            let before = self.published.get(key).copied().unwrap_or_default();
            if *packets > before {
                telemetry::staged_packets(&key.0, key.1.name(), packets - before);
                self.published.insert(key.clone(), *packets);
            }
        }
    }

    fn unseen(&mut self, unseen: Unseen) {
        telemetry::flows_unseen(unseen.lost_packets + unseen.uncounted_denials);
        self.followers.tell_unseen(unseen);
    }

    fn want(&mut self) {
        let wanted = self.followers.want_allowed();
        if std::mem::replace(&mut self.wanted, wanted) != wanted {
            self.agent.want_flows(wanted);
        }
    }
}

fn deaf(heard: Heard) -> u64 {
    u64::try_from(heard.deaf.as_millis()).unwrap_or(u64::MAX)
}

/// Now, in milliseconds since the epoch.
fn milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn packet(headers: &Headers) -> Packet {
    Packet {
        source: headers.source,
        destination: headers.destination,
        protocol: headers.protocol,
        source_port: headers.source_port,
        destination_port: headers.destination_port,
        icmp: headers.icmp,
        conntrack: State::New,
        is_reply: false,
    }
}

/// What the kernel tracks, each as a flow that was allowed; and what of it is left out.
fn tracked(node: &str, unseen: &mut Unseen) -> Vec<Flow> {
    let connections =
        Conntrack::open().and_then(|mut conntrack| conntrack.first_connections(MOST_CONNECTIONS));
    let (connections, others) = connections.unwrap_or_else(|error| {
        tracing::warn!(%error, "the tracked connections cannot be listed");
        unseen.connections_unknown = true;
        Default::default()
    });
    unseen.skipped_connections = others as u64;
    let flows = connections.iter().map(|connection| {
        let headers = connection.headers;
        let with_ports = matches!(headers.protocol, 6 | 17 | 132);
        let end = |address, port| FlowEnd { address, port: with_ports.then_some(port), name: None };
        Flow {
            node: node.to_owned(),
            first_seen: 0,
            last_seen: 0,
            action: FlowAction::Allow,
            protocol: headers.protocol,
            icmp: matches!(headers.protocol, 1 | 58).then_some(headers.icmp),
            source: end(headers.source, headers.source_port),
            destination: end(headers.destination, headers.destination_port),
            packets: 0,
            denied_packets: 0,
            policies: Vec::new(),
        }
    });
    flows.collect()
}

/// The names of interfaces by number. A number is not used again soon.
#[derive(Default)]
struct Interfaces {
    socket: Option<Rtnetlink>,
    names: BTreeMap<u32, Arc<str>>,
    looked: Option<Instant>,
}

impl Interfaces {
    fn name(&mut self, index: u32, now: Instant) -> Option<Arc<str>> {
        let is_due = self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= LOOKING);
        if !self.names.contains_key(&index) && is_due {
            self.looked = Some(now);
            self.look();
        }
        self.names.get(&index).cloned()
    }

    fn look(&mut self) {
        let mut socket = match self.socket.take().map_or_else(Rtnetlink::open, Ok) {
            Ok(socket) => socket,
            Err(error) => return tracing::warn!(%error, "interfaces cannot be listed"),
        };
        // A socket that failed is not used again.
        if let Ok(links) = socket.links() {
            self.names = links.into_iter().map(|link| (link.index, link.name.as_str().into())).collect();
            self.socket = Some(socket);
        }
    }
}
