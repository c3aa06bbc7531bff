//! Links (network interfaces): list, make, change, delete.

mod messages;
mod read;
mod settings;

use std::fmt;

use crate::netlink::{Errno, Error, Message, Refusal, flags};
use crate::netns::Netns;
use crate::{InterfaceName, MacAddress, Rtnetlink, ownership};

pub(crate) use messages::change_link;
pub(crate) use read::read_link;
pub use settings::{Ipv4Setting, LinkSettings};

/// A network interface as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace; never used again while the namespace lives.
    pub index: u32,
    /// Its name.
    pub name: InterfaceName,
    /// Its Ethernet address, if it has one.
    pub mac: Option<MacAddress>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it was set up by the administrator (`IFF_UP`).
    pub up: bool,
    /// Whether it has a carrier (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// Whether it has had its carrier for long enough that the kernel sends by it (`IFF_RUNNING`).
    pub running: bool,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// `veth`, `bridge`, `vxlan`…; none for physical devices and the loopback.
    pub kind: Option<String>,
    /// The bridge or bond to which it belongs.
    pub master: Option<u32>,
    /// The group in which links can be handled together; 0 by default.
    pub group: u32,
    /// The link that it hangs on: the other end of a veth, the device below a VLAN.
    pub peer: Option<Peer>,
    /// Transmit and receive queues.
    pub queues: (u32, u32),
}

/// The link at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its number in its own namespace.
    pub index: u32,
    /// The number by which our namespace knows the other's; none when it is the same namespace.
    pub namespace: Option<i32>,
}

/// How a link is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkId {
    /// By its number.
    Index(u32),
    /// By its name.
    Name(InterfaceName),
}

impl fmt::Display for LinkId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(formatter, "link number {index}"),
            Self::Name(name) => write!(formatter, "link {name}"),
        }
    }
}

impl From<u32> for LinkId {
    fn from(index: u32) -> Self {
        Self::Index(index)
    }
}

impl From<&InterfaceName> for LinkId {
    fn from(name: &InterfaceName) -> Self {
        Self::Name(name.clone())
    }
}

/// One end of a veth pair to be made.
#[derive(Debug, Clone)]
pub struct VethEnd<'a> {
    /// Its name.
    pub name: InterfaceName,
    /// Its Ethernet address; random if none.
    pub mac: Option<MacAddress>,
    /// The namespace in which it is made; that of the socket if none.
    pub namespace: Option<&'a Netns>,
}

/// A veth pair to be made, both ends in their final place.
#[derive(Debug, Clone)]
pub struct NewVeth<'a> {
    /// The end in the socket's namespace (unless it says otherwise).
    pub near: VethEnd<'a>,
    /// The other end.
    pub far: VethEnd<'a>,
    /// MTU of both ends in bytes; the kernel's default (1500) if none.
    pub mtu: Option<u32>,
    /// Transmit and receive queues of both ends; the kernel's default if none.
    pub queues: Option<u32>,
}

/// What is to be changed on a link; what is none stays.
#[derive(Debug, Clone, Default)]
pub struct LinkChange<'a> {
    /// Up or down.
    pub up: Option<bool>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Ethernet address.
    pub mac: Option<MacAddress>,
    /// Bridge or bond: its number, or 0 to leave it.
    pub master: Option<u32>,
    /// New name; the link must be down.
    pub name: Option<InterfaceName>,
    /// Group.
    pub group: Option<u32>,
    /// Where to move it.
    pub namespace: Option<&'a Netns>,
    /// Settings of IPv4. The kernel makes them after everything else.
    pub ipv4: Vec<(Ipv4Setting, u32)>,
}

impl LinkChange<'_> {
    /// Sets it up and changes nothing else.
    pub fn up() -> Self {
        Self { up: Some(true), ..Self::default() }
    }
}

impl Rtnetlink {
    /// All links of the namespace, by number.
    ///
    /// # Errors
    /// As [`crate::netlink::Socket::dump`].
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        self.socket.dump(&messages::list_links(), "links", |reply| read_link(reply.payload))
    }

    /// One link; none if there is none.
    ///
    /// # Errors
    /// When the socket fails or the kernel refuses for another reason than absence.
    pub fn link(&mut self, id: impl Into<LinkId>) -> Result<Option<Link>, Error> {
        let id = id.into();
        match self.socket.get(&messages::get_link(&id), &id, |reply| read_link(reply.payload)) {
            Err(error) if error.is_absent() => Ok(None),
            answer => answer,
        }
    }

    /// What the settings of a link are; none if there is no such link.
    ///
    /// # Errors
    /// As [`Rtnetlink::link`].
    pub fn link_settings(&mut self, id: impl Into<LinkId>) -> Result<Option<LinkSettings>, Error> {
        let id = id.into();
        match self.socket.get(&messages::get_link(&id), &id, |reply| LinkSettings::read(reply.payload)) {
            Err(error) if error.is_absent() => Ok(None),
            answer => answer,
        }
    }

    /// Makes a veth pair with one request, each end in its final namespace, which spares the kernel a move (and with
    /// it an RCU grace period).
    ///
    /// # Errors
    /// [`Error::Refused`], for example when a name is taken; nothing was made.
    pub fn create_veth(&mut self, veth: &NewVeth<'_>) -> Result<(), Error> {
        self.socket.acknowledge(
            &messages::create_veth(veth),
            format_args!("veth {} to {}", veth.near.name, veth.far.name),
        )
    }

    /// Makes a bridge.
    ///
    /// # Errors
    /// [`Error::Refused`]; nothing was made.
    pub fn create_bridge(&mut self, name: &InterfaceName) -> Result<(), Error> {
        self.socket.acknowledge(&messages::create_bridge(name), format_args!("bridge {name}"))
    }

    /// Changes a link.
    ///
    /// # Errors
    /// [`Error::Refused`]; parts of the change may have been made.
    pub fn change_link(&mut self, id: impl Into<LinkId>, change: &LinkChange<'_>) -> Result<(), Error> {
        let id = id.into();
        self.socket.acknowledge(&change_link(&id, change), &id)
    }

    /// Deletes a link, and with a veth its other end. Gives false if there was none.
    ///
    /// This takes tens of milliseconds, most of it waiting for RCU grace periods: see [`Rtnetlink::delete_links`].
    ///
    /// # Errors
    /// [`Error::Refused`], for example for the loopback.
    pub fn delete_link(&mut self, id: impl Into<LinkId>) -> Result<bool, Error> {
        let id = id.into();
        present(self.socket.acknowledge(&messages::delete_link(&id), &id))
    }

    /// Deletes links together, so that all of them wait for the same grace periods: they are put into the group
    /// [`ownership::CONDEMNED_GROUP`], which is then deleted whole. Gives for each whether it was there.
    ///
    /// # Errors
    /// [`Error::Refused`], naming the link that could not be condemned; the others are deleted all the same.
    pub fn delete_links(&mut self, links: &[LinkId]) -> Result<Vec<bool>, Error> {
        match links {
            [] => Ok(Vec::new()),
            [only] => Ok(vec![self.delete_link(only.clone())?]),
            several => self.delete_condemned_and(several),
        }
    }

    /// Deletes these together with whatever was condemned before.
    pub(crate) fn delete_condemned_and(&mut self, links: &[LinkId]) -> Result<Vec<bool>, Error> {
        let messages: Vec<_> = links.iter().map(condemn).collect();
        let outcomes = self.socket.batch(&messages, "links to be deleted")?;
        self.delete_condemned()?;
        let judge = |(outcome, id): (Result<(), Refusal>, &LinkId)| {
            present(outcome.map_err(|refusal| Error::refused(id, refusal)))
        };
        outcomes.into_iter().zip(links).map(judge).collect()
    }

    /// Marks a link as one to be deleted by [`Rtnetlink::delete_condemned`]. Gives false if there was none.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn condemn_link(&mut self, id: impl Into<LinkId>) -> Result<bool, Error> {
        let id = id.into();
        present(self.socket.acknowledge(&condemn(&id), &id))
    }

    /// Deletes whatever is in the group of links that are to be deleted, also what an earlier process left there.
    ///
    /// # Errors
    /// [`Error::Refused`]. A link that cannot be deleted (the loopback, hardware) is no longer in the group then.
    pub fn delete_condemned(&mut self) -> Result<(), Error> {
        let delete = messages::delete_group(ownership::CONDEMNED_GROUP);
        match self.socket.acknowledge(&delete, "links to be deleted") {
            Err(error) if error.is_absent() => Ok(()),
            // One that cannot be deleted spares all.
            Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => self.delete_condemned_singly(),
            outcome => outcome,
        }
    }

    fn delete_condemned_singly(&mut self) -> Result<(), Error> {
        let pardon = LinkChange { group: Some(0), ..LinkChange::default() };
        let mut outcome = Ok(());
        for link in self.links()?.iter().filter(|link| link.group == ownership::CONDEMNED_GROUP) {
            if let Err(error) = self.delete_link(link.index) {
                self.change_link(link.index, &pardon)?;
                outcome = outcome.and(Err(error));
            }
        }
        outcome
    }
}

fn condemn(id: &LinkId) -> Message {
    change_link(id, &LinkChange { group: Some(ownership::CONDEMNED_GROUP), ..LinkChange::default() })
}

/// Whether there was something to be deleted.
pub(crate) fn present(outcome: Result<(), Error>) -> Result<bool, Error> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.is_absent() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The part of a message that all lists share.
pub(crate) fn list(body: &netlink_packet_route::RouteNetlinkMessage) -> Message {
    Message::route(body, flags::DUMP)
}

impl Rtnetlink {
    /// The number by which the socket's namespace knows another one; none if it knows none.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub(crate) fn namespace_id(&mut self, namespace: &Netns) -> Result<Option<i32>, Error> {
        let read = |reply: crate::netlink::Reply<'_>| messages::read_namespace_id(reply.payload);
        let id = self.socket.get(
            &messages::get_namespace_id(namespace),
            format_args!("namespace {namespace}"),
            read,
        )?;
        Ok(id.filter(|id| *id >= 0))
    }
}
