//! The latest events of a stream, with their ids: pure, and bounded in bytes.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

/// Where a client continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// The next event is kept, or not yet computed.
    Kept,
    /// The client has all events, and there will be no other.
    End,
    /// The next event was let go.
    Gone,
    /// The client names an event that does not exist.
    Future,
}

/// The events of a stream that a client may ask for again.
#[derive(Debug)]
pub(super) struct EventLog {
    events: VecDeque<Bytes>,
    /// The id of the first event that is kept; ids start at 1.
    first: u64,
    bytes: usize,
    /// The id of the latest event that was given to a connection.
    delivered: u64,
    undelivered_bytes: usize,
    most_bytes: usize,
    /// The start of an event whose end has not come yet.
    partial: BytesMut,
    has_ended: bool,
}

impl EventLog {
    /// A log that keeps at most `most_bytes`, at most half of them of events that no connection was given.
    pub(super) fn new(most_bytes: usize) -> Self {
        Self {
            events: VecDeque::new(),
            first: 1,
            bytes: 0,
            delivered: 0,
            undelivered_bytes: 0,
            most_bytes,
            partial: BytesMut::new(),
            has_ended: false,
        }
    }

    /// Adds a piece of a body. Events are numbered; comments, which only keep a connection alive, are returned.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut comments = Vec::new();
        self.partial.extend_from_slice(piece);
        while let Some(end) = self.partial.windows(2).position(|pair| pair == b"\n\n") {
            let event = self.partial.split_to(end + 2);
            if event.starts_with(b":") {
                comments.extend_from_slice(&event);
            } else {
                self.push_event(&event);
            }
        }
        comments
    }

    fn push_event(&mut self, event: &[u8]) {
        let id = self.last() + 1;
        let mut numbered = BytesMut::with_capacity(event.len() + 16);
        numbered.put_slice(format!("id: {id}\n").as_bytes());
        numbered.put_slice(event);
        self.bytes += numbered.len();
        self.undelivered_bytes += numbered.len();
        self.events.push_back(numbered.freeze());
        self.shrink();
    }

    /// Lets go of the oldest events that were delivered.
    fn shrink(&mut self) {
        while self.bytes > self.most_bytes && self.first <= self.delivered {
            let Some(event) = self.events.pop_front() else { return };
            self.bytes -= event.len();
            self.first += 1;
        }
    }

    /// The id of the latest event; 0 before the first.
    pub(super) fn last(&self) -> u64 {
        self.first + self.events.len() as u64 - 1
    }

    /// There are no further events.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether another event may be computed while no client takes it.
    pub(super) fn has_room(&self) -> bool {
        !self.has_ended && self.undelivered_bytes < self.most_bytes / 2
    }

    /// Where a client is that has all events up to this id.
    pub(super) fn position(&self, last: u64) -> Position {
        if last > self.last() {
            Position::Future
        } else if last + 1 < self.first {
            Position::Gone
        } else if self.has_ended && last == self.last() {
            Position::End
        } else {
            Position::Kept
        }
    }

    /// The event after this id, which counts as delivered from now on.
    pub(super) fn next(&mut self, last: u64) -> Option<Bytes> {
        let index = usize::try_from((last + 1).checked_sub(self.first)?).ok()?;
        let event = self.events.get(index)?.clone();
        if last + 1 > self.delivered {
            self.delivered = last + 1;
            self.undelivered_bytes -= event.len();
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(log: &mut EventLog, mut last: u64) -> String {
        let mut text = String::new();
        while let Some(event) = log.next(last) {
            text.push_str(std::str::from_utf8(&event).expect("text"));
            last += 1;
        }
        text
    }

    #[test]
    fn events_are_numbered_and_comments_are_not() {
        let mut log = EventLog::new(1000);
        assert_eq!(log.push(b"data: a\n\n: keep-alive\n\nevent: ping\ndata: {}\n\ndata: b"), b": keep-alive\n\n");
        assert!(log.push(b"\n").is_empty());
        assert!(log.push(b"\n").is_empty());
        assert_eq!(read_all(&mut log, 0), "id: 1\ndata: a\n\nid: 2\nevent: ping\ndata: {}\n\nid: 3\ndata: b\n\n");
        assert_eq!(read_all(&mut log, 2), "id: 3\ndata: b\n\n");
    }

    #[test]
    fn a_client_is_told_where_it_is() {
        let mut log = EventLog::new(64);
        for _ in 0..9 {
            log.push(b"data: 0123456789\n\n");
            let last = log.last() - 1;
            log.next(last);
        }
        assert_eq!(log.position(0), Position::Gone);
        assert_eq!(log.position(9), Position::Kept);
        assert_eq!(log.position(10), Position::Future);
        assert_eq!(log.position(u64::MAX), Position::Future);
        log.end();
        assert_eq!(log.position(9), Position::End);
        assert_eq!(log.position(8), Position::Kept);
    }

    #[test]
    fn what_was_not_delivered_is_never_let_go() {
        let mut log = EventLog::new(64);
        let mut count = 0;
        while log.has_room() {
            log.push(b"data: 0123456789\n\n");
            count += 1;
        }
        assert!(count < 4);
        assert_eq!(log.position(0), Position::Kept);
        assert_eq!(read_all(&mut log, 0).matches("data").count(), count);
        assert!(log.has_room());
    }

    proptest! {
        #[test]
        fn a_client_that_returns_reads_each_event_once(
            lengths in prop::collection::vec(0..40_usize, 1..60),
            cut in 1..50_usize,
            reads in prop::collection::vec(0..5_usize, 0..200),
        ) {
            let events: Vec<String> = lengths.iter().map(|length| format!("data: {}\n\n", "x".repeat(*length))).collect();
            let body = events.concat();
            let numbered = |(index, event): (usize, &String)| format!("id: {}\n{event}", index + 1);
            let wanted = events.iter().enumerate().map(numbered).collect::<Vec<_>>().concat();
            let (mut log, mut last, mut got) = (EventLog::new(500), 0, String::new());
            let mut reads = reads.into_iter();
            for piece in body.as_bytes().chunks(cut) {
                log.push(piece);
                for _ in 0..reads.next().unwrap_or(1) {
                    let Some(event) = log.next(last) else { break };
                    last += 1;
                    got.push_str(std::str::from_utf8(&event).expect("text"));
                }
                prop_assert!(log.bytes <= 500 + log.undelivered_bytes);
                prop_assert_ne!(log.position(last), Position::Gone);
            }
            got.push_str(&read_all(&mut log, last));
            prop_assert_eq!(got, wanted);
            prop_assert_eq!(log.undelivered_bytes, 0);
        }
    }
}
