//! Rounds of a thread that works on what it is told: it waits for something, takes in what else there is, then works once.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Nobody can tell the thread anything any more.
#[derive(Debug)]
pub(crate) struct Deserted;

/// What the thread is told, in order.
#[derive(Debug)]
pub(crate) struct Rounds<E> {
    events: Receiver<E>,
    /// The next one, when it has been looked at.
    next: Option<E>,
}

impl<E> Rounds<E> {
    pub(crate) fn new(events: Receiver<E>) -> Self {
        Self { events, next: None }
    }

    /// Waits for an event, but not longer than `wait`, then takes what else has come, in order, until all together have this
    /// size.
    ///
    /// # Errors
    /// [`Deserted`].
    pub(crate) fn next_round(
        &mut self,
        wait: Duration,
        most: usize,
        size: impl Fn(&E) -> usize,
    ) -> Result<Vec<E>, Deserted> {
        let first = self.next.take().map_or_else(|| self.events.recv_timeout(wait), Ok);
        let mut next = match first {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Err(Deserted),
        };
        let (mut round, mut room) = (Vec::new(), most);
        while let Some(event) = next {
            room = room.saturating_sub(size(&event));
            round.push(event);
            next = if room > 0 { self.events.try_recv().ok() } else { None };
        }
        Ok(round)
    }

    /// What the next event is worth to a thread that is in the middle of its work; what is worth nothing then, and all behind
    /// it, waits for the next round. Does not wait.
    pub(crate) fn take_some<T>(&mut self, worth: impl FnOnce(E) -> Result<T, E>) -> Option<T> {
        let event = self.next.take().or_else(|| self.events.try_recv().ok())?;
        worth(event).map_err(|event| self.next = Some(event)).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    fn rounds() -> (Sender<usize>, Rounds<usize>) {
        let (sender, events) = channel();
        (sender, Rounds::new(events))
    }

    fn next(rounds: &mut Rounds<usize>) -> Vec<usize> {
        rounds.next_round(Duration::ZERO, 5, |size| *size).unwrap()
    }

    #[test]
    fn a_round_has_what_came_in_order_until_it_is_large_enough() {
        let (sender, mut rounds) = rounds();
        [3, 1, 4, 2].iter().for_each(|size| sender.send(*size).unwrap());
        assert_eq!(next(&mut rounds), [3, 1, 4]);
        assert_eq!(next(&mut rounds), [2]);
        assert!(next(&mut rounds).is_empty());
        drop(sender);
        rounds.next_round(Duration::ZERO, 5, |size| *size).unwrap_err();
    }

    #[test]
    fn what_cannot_be_taken_in_the_middle_of_work_comes_first_in_the_next_round() {
        let (sender, mut rounds) = rounds();
        let small = |rounds: &mut Rounds<usize>| {
            rounds.take_some(|size| if size < 3 { Ok(size * 10) } else { Err(size) })
        };
        assert_eq!(small(&mut rounds), None, "nothing is there");
        [1, 3, 2].iter().for_each(|size| sender.send(*size).unwrap());
        assert_eq!(small(&mut rounds), Some(10));
        assert_eq!((small(&mut rounds), small(&mut rounds)), (None, None), "nor what is behind it");
        assert_eq!(next(&mut rounds), [3, 2]);
    }
}
