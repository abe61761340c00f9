//! Interleavings of readers with the engine's side of the inbox, without an engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shuttle::thread;

use super::explore;
use crate::engine::inbox::Inbox;
use crate::stream::{EngineInbox, StreamId};

fn inbox() -> (Arc<Inbox>, Arc<AtomicBool>) {
    let abort = Arc::new(AtomicBool::new(false));
    (Arc::new(Inbox::new(Arc::clone(&abort))), abort)
}

/// Runs a step for these streams until it is aborted; returns whether it ran.
fn step_until_aborted(inbox: &Inbox, abort: &AtomicBool, streams: &[StreamId]) -> bool {
    let runs = inbox.begin_step(streams.iter().copied());
    while runs && !abort.load(Ordering::Acquire) {
        thread::yield_now();
    }
    inbox.end_step();
    runs
}

#[test]
fn the_last_reader_that_leaves_during_a_step_stops_that_step_and_no_later_one() {
    explore(|| {
        let (inbox, abort) = inbox();
        let leaves = [1, 2].map(|id| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.leave(id))
        });
        step_until_aborted(&inbox, &abort, &[1, 2]);
        assert!(!abort.load(Ordering::Acquire), "the abort flag must be cleared when its step ends");
        for left in leaves {
            left.join().unwrap();
        }
        assert!(!step_until_aborted(&inbox, &abort, &[1, 2]), "both readers have left, so no step begins");
        let mut left = inbox.collect().expect("two messages").left;
        left.sort_unstable();
        assert_eq!(left, [1, 2]);
        assert!(inbox.begin_step([3].into_iter()) && !abort.load(Ordering::Acquire));
        inbox.end_step();
    });
}

#[test]
fn one_of_two_readers_that_leaves_does_not_stop_the_step_of_the_other() {
    explore(|| {
        let (inbox, abort) = inbox();
        let leaves = Arc::clone(&inbox);
        let left = thread::spawn(move || leaves.leave(1));
        assert!(inbox.begin_step([1, 2].into_iter()));
        for _ in 0..3 {
            assert!(!abort.load(Ordering::Acquire));
            thread::yield_now();
        }
        inbox.end_step();
        left.join().unwrap();
        assert!(!abort.load(Ordering::Acquire));
    });
}

#[test]
fn an_engine_that_goes_to_sleep_wakes_for_messages_posted_meanwhile() {
    explore(|| {
        let (inbox, _) = inbox();
        let senders = [1, 2].map(|id| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                inbox.capacity_freed();
                inbox.leave(id);
            })
        });
        let mut left = Vec::new();
        while left.len() < 2 {
            match inbox.collect() {
                Some(messages) => left.extend(messages.left),
                None => inbox.sleep(None),
            }
        }
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn closing_the_inbox_wakes_its_engine_and_stops_the_running_step() {
    explore(|| {
        let (inbox, abort) = inbox();
        let closing = Arc::clone(&inbox);
        let thread = thread::spawn(move || closing.close());
        while !inbox.is_closed() {
            inbox.collect();
            step_until_aborted(&inbox, &abort, &[1]);
            inbox.sleep(None);
        }
        thread.join().unwrap();
        assert!(abort.load(Ordering::Acquire));
        assert!(!inbox.begin_step([1].into_iter()), "a closed engine begins no step");
    });
}
