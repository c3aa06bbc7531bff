//! Messages on a connection, from OPEN to Established and after.

use std::time::{Duration, Instant};

use super::collision::Resolution;
use super::connection::{Connection, OPEN_WAIT, Stage};
use super::{Action, Direction, Ending, Reason, Session, check_peer, negotiate, survivor};
use crate::iana::{cease, error, fsm_error, fsm_event};
use crate::packet::Message;
use crate::packet::notification::Notification;
use crate::packet::open::Open;
use crate::types::ConnectionId;

/// How long a connection is held that the peer may still choose.
pub(super) const COLLISION_HOLD: Duration = Duration::from_secs(5);

impl Session {
    /// Takes a message off the bytes from the peer. Actions must be taken before what follows it, since it may bring the
    /// session up or down. False: what is left is kept until more comes, or the connection is gone.
    pub fn handle_received(&mut self, id: ConnectionId, input: &mut &[u8], now: Instant) -> bool {
        let peer = self.settings.peer_kind();
        let Some(connection) = self.connection(id) else { return false };
        let context = connection.context(peer);
        let message = match connection.framer.next(input, &context) {
            Ok(None) => return false,
            Ok(Some(octets)) => {
                let message = Message::decode(&octets, &context);
                if matches!(message, Ok(Message::Open(_))) {
                    connection.opens.received = octets.into_owned();
                }
                message
            }
            Err(error) => Err(error),
        };
        match message {
            Ok(message) => self.message(id, message, now),
            Err(error) => self.refuse_malformed(id, error, now),
        }
        true
    }

    pub(super) fn message(&mut self, id: ConnectionId, message: Message, now: Instant) {
        self.messages_received += 1;
        let Some(connection) = self.connection(id) else { return };
        match (&connection.stage, message) {
            (_, Message::Notification(notification)) => self.notified(id, notification, now),
            (Stage::OpenSent, Message::Open(open)) => self.opened(id, &open, now),
            (Stage::OpenConfirm(_), Message::Keepalive) => self.establish(id, now),
            (Stage::Established { .. }, Message::Keepalive) => connection.restart_hold_timer(now),
            (Stage::Established { .. }, Message::Update(received)) => {
                connection.restart_hold_timer(now);
                self.actions.push_back(Action::Update(Box::new(received)));
            }
            (Stage::Established { .. }, Message::RouteRefresh(refresh)) => {
                connection.restart_hold_timer(now);
                self.actions.push_back(Action::Refresh(refresh));
            }
            (stage, _) => {
                let subcode = match stage {
                    Stage::Connecting | Stage::OpenSent => fsm_error::OPEN_SENT,
                    Stage::OpenConfirm(_) => fsm_error::OPEN_CONFIRM,
                    Stage::Established { .. } => fsm_error::ESTABLISHED,
                };
                let notification = Notification::new(error::FSM, subcode);
                self.refuse(id, notification.clone(), Reason::Sent(notification), now);
            }
        }
    }

    /// Sends our OPEN.
    pub(super) fn open(&mut self, connection: &mut Connection, now: Instant) {
        let open = negotiate::our_open(&self.spoken(), self.restarting, self.forwarding_preserved);
        let bytes = open.encode();
        connection.sent_as = Some(self.speaks_as);
        connection.opens.sent = bytes.clone();
        connection.queued(bytes.len(), now);
        self.actions.push_back(Action::Send(connection.id, bytes));
        connection.stage = Stage::OpenSent;
        connection.deadline = Some(now + OPEN_WAIT);
    }

    /// The peer's OPEN.
    pub(super) fn opened(&mut self, id: ConnectionId, open: &Open, now: Instant) {
        self.heard_as(open.effective_as());
        let settings = &self.settings.towards(open.effective_as());
        let agreed = check_peer(open, settings.remote_as, settings.local_as, settings.router_id)
            .and_then(|()| negotiate::negotiate(settings, open));
        let mut negotiated = match agreed {
            Ok(negotiated) => negotiated,
            Err(error) => {
                let (notification, reason) = (error.notification.clone(), self.refusal(open, error));
                return self.refuse(id, notification, reason, now);
            }
        };
        let held = match self.resolve_collision(id, open.router_id, now) {
            Resolution::Closed => return,
            Resolution::Held => true,
            Resolution::Stays => false,
        };
        let connection = self.connection(id).expect("it survived");
        negotiated.opens = std::mem::take(&mut connection.opens);
        connection.stage = Stage::OpenConfirm(Box::new(negotiated));
        connection.held = held;
        connection.deadline = Some(now + COLLISION_HOLD);
        if !held {
            self.confirm(id, now);
        }
        self.report(now);
    }

    /// Agrees to the peer's OPEN.
    pub(super) fn confirm(&mut self, id: ConnectionId, now: Instant) {
        let jitter = &mut self.jitter;
        let slots = [&mut self.outgoing, &mut self.incoming];
        let Some(connection) = slots.into_iter().flatten().find(|connection| connection.id == id) else {
            return;
        };
        connection.held = false;
        connection.restart_hold_timer(now);
        let interval = connection.negotiated().map_or(Duration::ZERO, |negotiated| negotiated.keepalive);
        connection.keepalive = (!interval.is_zero()).then(|| now + jitter.scale(interval));
        self.send(id, Message::keepalive(), now);
    }

    pub(super) fn establish(&mut self, id: ConnectionId, now: Instant) {
        // The peer agrees to a connection that we hold: it has given up the one that we are established on.
        if let Some(old) = self.established.take() {
            self.actions.push_back(Action::Close(old.id));
            let reason = Reason::Received(Notification::new(error::CEASE, cease::COLLISION));
            self.went_down(&old, &reason, Ending::WeClosed(fsm_event::OPEN_COLLISION_DUMP));
            self.confirm(id, now);
        }
        let mut connection = self.take(id).expect("its KEEPALIVE has just come");
        let Stage::OpenConfirm(negotiated) = connection.stage else { unreachable!("checked by the caller") };
        let ours = (self.settings.router_id, self.settings.local_as);
        let would_stay = survivor(ours, (negotiated.router_id, self.settings.remote_as));
        for mut other in [self.outgoing.take(), self.incoming.take()].into_iter().flatten() {
            if other.direction == would_stay && !matches!(other.stage, Stage::Connecting) {
                other.deadline = Some(now + COLLISION_HOLD);
                match other.direction {
                    Direction::Outgoing => self.outgoing = Some(other),
                    Direction::Incoming => self.incoming = Some(other),
                }
                continue;
            }
            let told = !matches!(other.stage, Stage::Connecting);
            let collision = Notification::new(error::CEASE, cease::COLLISION);
            self.farewell(&other, told.then_some(collision));
        }
        self.actions.push_back(Action::Established(negotiated.clone()));
        connection.stage = Stage::Established { negotiated, since: now };
        connection.restart_hold_timer(now);
        self.established = Some(connection);
        self.retry_at = None;
        self.reason = None;
        self.forwarding_preserved = true;
        self.report(now);
    }

    /// Connections that were held go on when the established one is gone.
    pub(super) fn release_held(&mut self, now: Instant) {
        if self.established.is_some() {
            return;
        }
        let held = [&self.outgoing, &self.incoming].into_iter().flatten().find(|connection| connection.held);
        if let Some(id) = held.map(|connection| connection.id) {
            self.confirm(id, now);
        }
    }

    pub(super) fn send(&mut self, id: ConnectionId, bytes: Vec<u8>, now: Instant) {
        if let Some(connection) = self.connection(id) {
            connection.queued(bytes.len(), now);
            self.actions.push_back(Action::Send(id, bytes));
        }
    }
}
