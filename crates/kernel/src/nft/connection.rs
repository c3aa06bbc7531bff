//! One conversation with the kernel's nf_tables: asking, listing, committing.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink_sys::Socket as RawSocket;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, sockopt};

use super::batch::Batch;
use super::decode::{self, AnonymousSets, ElementReader};
use super::dump::{read_chain, read_count, read_rule};
use super::error::{NftError, Refusal};
use super::expression::AnonymousSet;
use super::family::TableId;
use super::monitor::Monitor;
use super::raw::{failed, io_error, open_socket, receive, set_receive_buffer};
use super::transport::{ChainState, Committed, Operation, RuleCount, SetState, TableState, Transport};
use super::wire::{DONE, ERROR, Message, Writer, be32, be64, flag, kind, malformed, messages, text};
use crate::netlink;

/// The kernel answers inside `send`; only the later parts of a dump take time.
const PATIENCE: Duration = Duration::from_secs(10);

/// No datagram of the kernel is longer: 32 KiB of a dump, or one message with the longest attribute.
const DATAGRAM_BYTES: usize = 128 * 1024;

/// Room for the refusals of a transaction of which every message is refused.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// A transaction of more messages than this is done without listening to its events.
const QUIET_FROM: usize = 256;

/// How often a table is read again because others changed it meanwhile.
const READ_ATTEMPTS: usize = 50;

/// How long a transaction is tried again because others committed to other tables just before.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);

/// After losing a race it is better to know what the others do than to be quick, for this long.
const BUSY_FOR: Duration = Duration::from_secs(10);

/// `NFTA_*_TABLE`, which every message about an object has first.
const TABLE: u16 = 1;

/// Two netlink sockets, both kept: one asks and commits, the other listens to what others commit.
#[derive(Debug)]
pub(crate) struct Connection {
    raw: RawSocket,
    sequence: u32,
    send_buffer: usize,
    buffer: Vec<u8>,
    monitor: Monitor,
    /// A dump since this was cleared was going on while someone committed.
    interrupted: bool,
    /// When a transaction last came too late.
    raced_at: Option<Instant>,
}

impl Connection {
    /// Opens the sockets in the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self, NftError> {
        let (raw, port) = open_socket()?;
        raw.set_ext_ack(true).map_err(failed("ask for extended acknowledgements"))?;
        raw.set_cap_ack(true).map_err(failed("ask for short acknowledgements"))?;
        set_receive_buffer(&raw, RECEIVE_BUFFER_BYTES)?;
        sockopt::set_socket_timeout(&raw, sockopt::Timeout::Recv, Some(PATIENCE))
            .map_err(|source| io_error("set the time limit", source))?;
        let send_buffer = sockopt::socket_send_buffer_size(&raw).unwrap_or(0);
        let monitor = Monitor::open(port)?;
        let buffer = vec![0; DATAGRAM_BYTES];
        Ok(Self { raw, sequence: 0, send_buffer, buffer, monitor, interrupted: false, raced_at: None })
    }

    /// The socket that becomes readable when anyone commits.
    pub(crate) fn events(&self) -> BorrowedFd<'_> {
        self.monitor.as_fd()
    }

    fn next_sequence(&mut self, count: usize) -> u32 {
        let first = self.sequence.wrapping_add(1).max(1);
        self.sequence = first.wrapping_add(count as u32);
        first
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), NftError> {
        self.reserve(bytes.len());
        rustix::net::send(&self.raw, bytes, SendFlags::empty())
            .map(|_| ())
            .map_err(|source| io_error("send to the kernel", source))
    }

    /// A transaction has to go in one piece, however long. Without the right to a large buffer the system's limit holds.
    fn reserve(&mut self, bytes: usize) {
        const OVERHEAD: usize = 4096;
        if bytes + OVERHEAD <= self.send_buffer {
            return;
        }
        let wanted = bytes + OVERHEAD;
        let _ = sockopt::set_socket_send_buffer_size_force(&self.raw, wanted)
            .or_else(|_| sockopt::set_socket_send_buffer_size(&self.raw, wanted));
        self.send_buffer = sockopt::socket_send_buffer_size(&self.raw).unwrap_or(0);
    }

    /// Sends one request and gives the messages that answer it to `each` until it is done.
    fn request(
        &mut self,
        request: u16,
        flags: u16,
        family: u8,
        fill: impl FnOnce(&mut Writer),
        mut each: impl FnMut(Message<'_>),
    ) -> Result<Answer, NftError> {
        let sequence = self.next_sequence(1);
        let mut writer = Writer::default();
        writer.message(request, flags, sequence, family, fill);
        self.send(&writer.bytes)?;
        let is_dump = flags & flag::DUMP == flag::DUMP;
        let mut interrupted = false;
        loop {
            let length = receive(&self.raw, &mut self.buffer, RecvFlags::empty())?;
            for message in messages(&self.buffer[..length]).filter(|m| m.sequence == sequence) {
                interrupted |= is_dump && message.flags & flag::DUMP_INTERRUPTED != 0;
                match message.kind {
                    DONE => return Ok(if interrupted { Answer::Interrupted } else { Answer::Done }),
                    ERROR => {
                        return Ok(netlink::Refusal::decode(message.flags, message.payload)
                            .map_or(Answer::Done, |refusal| Answer::Refused(refusal.errno)));
                    }
                    _ => each(message),
                }
                if !is_dump && flags & flag::ACK == 0 {
                    return Ok(Answer::Done);
                }
            }
        }
    }

    /// Lists objects of the table. What belongs to other tables is told by its first attribute and not looked at.
    fn dump(
        &mut self,
        table: &TableId,
        what: u16,
        fill: impl FnOnce(&mut Writer),
        mut each: impl FnMut(Message<'_>),
    ) -> Result<(), NftError> {
        let answer = self.request(what, flag::DUMP, table.family.number(), fill, |message| {
            let name = message.attribute(TABLE);
            if name.is_some_and(|name| text(&name) == Some(&table.name)) {
                each(message);
            }
        })?;
        match answer {
            Answer::Done => Ok(()),
            Answer::Interrupted => {
                self.interrupted = true;
                Ok(())
            }
            Answer::Refused(Errno::NOENT | Errno::INTR | Errno::AGAIN) => Err(NftError::Raced),
            Answer::Refused(errno) => Err(io_error("list the ruleset", errno)),
        }
    }

    fn read_once(&mut self, table: &TableId) -> Result<Option<TableState>, NftError> {
        let Some(dormant) = self.table_flags(table)? else { return Ok(None) };
        let mut state = TableState { dormant, ..TableState::default() };
        self.dump(
            table,
            kind::GETCHAIN,
            |_| {},
            |message| {
                if let Some((name, base)) = read_chain(table.family, &message) {
                    state.chains.insert(name, ChainState { base, rules: Vec::new() });
                }
            },
        )?;
        let anonymous = self.read_sets(table, &mut state)?;
        self.dump(
            table,
            kind::GETRULE,
            |out| out.string(TABLE, &table.name),
            |message| {
                if let Some((chain, rule)) = read_rule(&message, &anonymous)
                    && let Some(chain) = state.chains.get_mut(chain)
                {
                    chain.rules.push(rule);
                }
            },
        )?;
        Ok(Some(state))
    }

    /// Reads until nothing that was read changed meanwhile; gives the generation of what was read.
    fn consistently<R>(
        &mut self,
        table: &TableId,
        mut read: impl FnMut(&mut Self) -> Result<R, NftError>,
    ) -> Result<(u32, R), NftError> {
        for _ in 0..READ_ATTEMPTS {
            let before = self.generation()?;
            self.interrupted = false;
            let result = match read(self) {
                Err(NftError::Raced) => continue,
                result => result?,
            };
            let after = self.generation()?;
            let still = before == after && !self.interrupted;
            if still || self.monitor.undisturbed(table, before, after)? {
                return Ok((after, result));
            }
        }
        Err(NftError::Raced)
    }

    /// Whether the table is dormant; none when it does not exist.
    fn table_flags(&mut self, table: &TableId) -> Result<Option<bool>, NftError> {
        const FLAGS: u16 = 2;
        let mut flags = None;
        let family = table.family.number();
        let answer = self.request(
            kind::GETTABLE,
            0,
            family,
            |out| out.string(TABLE, &table.name),
            |message| flags = Some(message.attribute(FLAGS).and_then(|flags| be32(&flags)).unwrap_or(0)),
        )?;
        match answer {
            Answer::Refused(Errno::NOENT) => Ok(None),
            Answer::Refused(errno) => Err(io_error("look for the table", errno)),
            Answer::Done | Answer::Interrupted => match flags {
                Some(flags) => Ok(Some(flags & 1 != 0)),
                None => Err(malformed("no table in the answer")),
            },
        }
    }

    /// Reads the sets: the named ones into `state`, those of rules into the result.
    fn read_sets(&mut self, table: &TableId, state: &mut TableState) -> Result<AnonymousSets, NftError> {
        let mut headers = Vec::new();
        self.dump(
            table,
            kind::GETSET,
            |out| out.string(TABLE, &table.name),
            |message| headers.extend(message.payload.get(4..).and_then(decode::set)),
        )?;
        let mut anonymous = AnonymousSets::new();
        for header in headers {
            let Some(schema) = header.schema else {
                let unknown = SetState { schema: None, elements: BTreeMap::new(), irregular: false };
                state.sets.insert(header.name, unknown);
                continue;
            };
            let elements = self.read_elements(table, &header.name)?.finish(&schema.kind);
            if header.anonymous {
                if schema.map || elements.irregular {
                    continue;
                }
                let elements = elements.entries.into_keys().collect();
                let set = AnonymousSet { kind: schema.kind, elements };
                anonymous.insert(header.name, set.into());
            } else {
                let (elements, irregular) = (elements.entries, elements.irregular);
                state.sets.insert(header.name, SetState { schema: Some(schema), elements, irregular });
            }
        }
        Ok(anonymous)
    }

    fn read_elements(&mut self, table: &TableId, set: &str) -> Result<ElementReader, NftError> {
        const SET: u16 = 2;
        const ELEMENTS: u16 = 3;
        let mut reader = ElementReader::default();
        let name = |out: &mut Writer| {
            out.string(TABLE, &table.name);
            out.string(SET, set);
        };
        self.dump(table, kind::GETSETELEM, name, |message| {
            if let Some(list) = message.attribute(ELEMENTS) {
                reader.read(list.value);
            }
        })?;
        Ok(reader)
    }

    fn exchange(&mut self, batch: &Batch) -> Result<Answers, NftError> {
        self.send(&batch.writer.bytes)?;
        self.answers(batch)
    }

    /// Sends a transaction until it is not too late: when others committed since `generation`, but not to this table, it is
    /// as good for the new generation. Gives the generation that it was for.
    fn exchange_in_time(
        &mut self,
        table: &TableId,
        batch: &mut Batch,
        mut generation: u32,
    ) -> Result<(u32, Answers), NftError> {
        let start = Instant::now();
        let busy = self.raced_at.is_some_and(|at| start.duration_since(at) < BUSY_FOR);
        let quietly = batch.operation_of.len() > QUIET_FROM && !busy;
        loop {
            let answers =
                if quietly { self.exchange_quietly(batch, generation)? } else { self.exchange(batch)? };
            if answers.whole != Some(Errno::RESTART) {
                return Ok((generation, answers));
            }
            self.raced_at = Some(Instant::now());
            let now = self.generation()?;
            let late = start.elapsed() > COMMIT_PATIENCE;
            if quietly || late || self.monitor.touched(table, generation, now)? {
                return Err(NftError::Raced);
            }
            generation = now;
            batch.set_generation(now);
        }
    }

    /// Sends a transaction while nobody listens to the events that it causes.
    fn exchange_quietly(&mut self, batch: &Batch, generation: u32) -> Result<Answers, NftError> {
        self.monitor.suspend()?;
        let answers = self.exchange(batch);
        self.monitor.resume()?;
        let done = answers.as_ref().is_ok_and(Answers::is_done);
        let expected = if done { following(generation) } else { generation };
        let now = self.generation()?;
        self.monitor.caught_up(expected, now);
        answers
    }

    /// Reads the answers to a transaction; all of them are queued by the time `send` returns.
    fn answers(&mut self, batch: &Batch) -> Result<Answers, NftError> {
        let mut answers = Answers::default();
        while !answers.complete {
            let length = match receive(&self.raw, &mut self.buffer, RecvFlags::DONTWAIT) {
                Ok(length) => length,
                Err(NftError::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            messages(&self.buffer[..length]).for_each(|message| answers.take(&message, batch));
        }
        Ok(answers)
    }
}

/// How a request ended.
enum Answer {
    Done,
    Interrupted,
    Refused(Errno),
}

/// What the kernel said to a transaction.
#[derive(Debug, Default)]
struct Answers {
    /// The acknowledgement of the last message came.
    complete: bool,
    /// Refusals by operation.
    refused: BTreeMap<usize, netlink::Refusal>,
    /// A refusal of the transaction as such.
    whole: Option<Errno>,
    /// Handles by sequence number.
    echoed: BTreeMap<u32, u64>,
}

impl Answers {
    fn take(&mut self, message: &Message<'_>, batch: &Batch) {
        let index = message.sequence.wrapping_sub(batch.first) as usize;
        let Some(operation) = batch.operation_of.get(index) else { return };
        if message.kind == ERROR {
            self.complete |= message.sequence == batch.last;
            if let Some(refusal) = netlink::Refusal::decode(message.flags, message.payload) {
                match operation {
                    Some(operation) => drop(self.refused.entry(*operation).or_insert(refusal)),
                    None => self.whole = Some(refusal.errno),
                }
            }
        } else if message.nft_kind() == Some(kind::NEWRULE) {
            const HANDLE: u16 = 3;
            let handle = message.attribute(HANDLE).and_then(|attribute| be64(&attribute));
            self.echoed.extend(handle.map(|handle| (message.sequence, handle)));
        }
    }

    /// Whether the transaction was done.
    fn is_done(&self) -> bool {
        self.complete && self.refused.is_empty() && self.whole.is_none()
    }

    /// The handles of the new rules, where the echoed ones agree with the count of things made between them.
    fn handles(&self, batch: &Batch) -> Option<Vec<u64>> {
        let (Some((first, offset)), Some((last, last_offset))) = (batch.rules.first(), batch.rules.last())
        else {
            return Some(Vec::new());
        };
        let base = self.echoed.get(first)?.checked_sub(*offset)?;
        let agrees = *self.echoed.get(last)? == base + last_offset;
        agrees.then(|| batch.rules.iter().map(|(_, offset)| base + offset).collect())
    }
}

impl Transport for Connection {
    fn generation(&mut self) -> Result<u32, NftError> {
        const ID: u16 = 1;
        let mut generation = None;
        let answer = self.request(
            kind::GETGEN,
            0,
            0,
            |_| {},
            |message| generation = message.attribute(ID).and_then(|id| be32(&id)),
        )?;
        match (answer, generation) {
            (Answer::Refused(errno), _) => Err(io_error("read the generation of the ruleset", errno)),
            (_, Some(generation)) => Ok(generation),
            (_, None) => Err(malformed("no generation in the answer")),
        }
    }

    fn touched(&mut self, table: &TableId, since: u32, until: u32) -> Result<bool, NftError> {
        self.monitor.touched(table, since, until)
    }

    fn read(&mut self, table: &TableId) -> Result<(u32, Option<TableState>), NftError> {
        self.monitor.watch(table);
        self.consistently(table, |this| this.read_once(table))
    }

    fn counters(&mut self, table: &TableId) -> Result<Vec<RuleCount>, NftError> {
        self.monitor.watch(table);
        let read = |this: &mut Self| {
            let mut counts = Vec::new();
            let name = |out: &mut Writer| out.string(TABLE, &table.name);
            this.dump(table, kind::GETRULE, name, |message| counts.extend(read_count(&message)))?;
            Ok(counts)
        };
        self.consistently(table, read).map(|(_, counts)| counts)
    }

    fn commit(
        &mut self,
        table: &TableId,
        generation: u32,
        operations: &[Operation],
    ) -> Result<Committed, NftError> {
        let first = self.sequence.wrapping_add(1).max(1);
        let mut batch = Batch::encode(table, generation, first, operations);
        self.next_sequence(batch.operation_of.len());
        if batch.writer.is_oversized() {
            return Err(malformed("a rule, comment or name is longer than a netlink attribute can be"));
        }
        let (generation, answers) = self.exchange_in_time(table, &mut batch, generation)?;
        if let Some(errno) = answers.whole {
            return Err(io_error("commit the transaction", errno));
        }
        let handles = answers.handles(&batch);
        if !answers.refused.is_empty() {
            return Err(refused(answers.refused, table, operations));
        }
        if !answers.complete {
            return Err(io_error("read the kernel's answer to the transaction", Errno::NODATA));
        }
        Ok(Committed { generation: following(generation), handles })
    }
}

/// The generation that a transaction makes of this one. The kernel skips zero, with which a transaction says that it does
/// not care.
fn following(generation: u32) -> u32 {
    generation.checked_add(1).unwrap_or(1)
}

fn refused(
    refused: BTreeMap<usize, netlink::Refusal>,
    table: &TableId,
    operations: &[Operation],
) -> NftError {
    let restart = [Errno::RESTART, Errno::INTR, Errno::AGAIN];
    if refused.values().all(|cause| restart.contains(&cause.errno)) {
        return NftError::Raced;
    }
    let named = refused.into_iter().map(|(index, cause)| Refusal {
        index,
        operation: operations.get(index).map(|operation| operation.describe(table)).unwrap_or_default(),
        cause,
    });
    NftError::Refused(named.collect())
}
