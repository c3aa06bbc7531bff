//! Rounds of a thread that works on what it is told: it waits for something, takes in what else there is, then works once.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Nobody can tell the thread anything any more.
#[derive(Debug)]
pub(crate) struct Deserted;

/// Waits for an event, but not longer than `wait`, then takes what else has come, in order, until all together have this
/// size.
///
/// # Errors
/// [`Deserted`].
pub(crate) fn next_round<E>(
    events: &Receiver<E>,
    wait: Duration,
    most: usize,
    size: impl Fn(&E) -> usize,
) -> Result<Vec<E>, Deserted> {
    let mut next = match events.recv_timeout(wait) {
        Ok(event) => Some(event),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => return Err(Deserted),
    };
    let (mut round, mut room) = (Vec::new(), most);
    while let Some(event) = next {
        room = room.saturating_sub(size(&event));
        round.push(event);
        next = if room > 0 { events.try_recv().ok() } else { None };
    }
    Ok(round)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_round_has_what_came_in_order_until_it_is_large_enough() {
        let (sender, events) = channel();
        let next = || next_round(&events, Duration::ZERO, 5, |size| *size);
        [3, 1, 4, 2].iter().for_each(|size| sender.send(*size).unwrap());
        assert_eq!(next().unwrap(), [3, 1, 4]);
        assert_eq!(next().unwrap(), [2]);
        assert!(next().unwrap().is_empty());
        drop(sender);
        next().unwrap_err();
    }
}
