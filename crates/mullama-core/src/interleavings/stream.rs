//! Interleavings of the two halves of one stream and its handle; the model itself owns the sender.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use shuttle::thread;

use super::{explore, read};
use crate::engine::inbox::Inbox;
use crate::stream::admission::{Admission, AdmissionLimits};
use crate::stream::token::Token;
use crate::stream::usage::FinishReason;
use crate::stream::{self, End, Identity, Progress, Readiness, TokenSender, TokenStream};

struct Model {
    inbox: Arc<Inbox>,
    admission: Arc<Admission>,
    sender: TokenSender,
    stream: TokenStream,
}

/// An admitted stream whose engine does nothing on its own.
fn open(buffer_size: u32) -> Model {
    let inbox = Arc::new(Inbox::new(Arc::new(AtomicBool::new(false))));
    let admission = Arc::new(Admission::new(AdmissionLimits { active: 1, paused: 1 }));
    let ticket = admission.enter().expect("the first");
    let identity = Identity { id: inbox.next_id(), seed: 0, engine: Arc::clone(&inbox) as Arc<_>, ticket };
    let (sender, stream) = stream::open(identity, buffer_size);
    sender.admit();
    Model { inbox, admission, sender, stream }
}

fn token(index: usize) -> Token {
    let text = char::from(b'a' + u8::try_from(index).expect("few")).to_string();
    Token { text, id: Some(0), bytes: Vec::new(), index, logprob: None, top_logprobs: Vec::new() }
}

/// Sends tokens as an engine does: it reserves capacity first, and sleeps while there is none. Returns how many tokens
/// it sent before the reader left.
fn send(sender: &mut TokenSender, inbox: &Inbox, tokens: usize) -> usize {
    for index in 0..tokens {
        loop {
            match sender.readiness() {
                Readiness::Ready => break,
                Readiness::Gone => return index,
                Readiness::Full if inbox.collect().is_none() => inbox.sleep(None),
                Readiness::Full => {}
            }
        }
        sender.send(token(index), &Progress::default());
    }
    tokens
}

#[test]
fn every_read_wakes_a_paused_sender() {
    explore(|| {
        let Model { inbox, admission, mut sender, mut stream } = open(1);
        let sends = thread::spawn(move || {
            assert_eq!(send(&mut sender, &inbox, 4), 4);
            sender.finish(End::Finished(FinishReason::Length), Some(token(4)), &Progress::default());
        });
        assert_eq!(read(&mut stream), ("abcde".into(), None));
        assert_eq!((stream.finish_reason(), admission.unfinished()), (Some(FinishReason::Length), 0));
        sends.join().unwrap();
    });
}

#[test]
fn a_paused_sender_is_notified_when_its_reader_leaves() {
    explore(|| {
        let Model { inbox, admission, mut sender, mut stream } = open(1);
        let sends = thread::spawn(move || send(&mut sender, &inbox, 9));
        stream.next_blocking().unwrap().unwrap();
        drop(stream);
        assert!(sends.join().unwrap() < 9);
        assert_eq!(admission.unfinished(), 0);
    });
}

#[test]
fn a_waiting_reader_is_woken_when_another_thread_closes_its_stream() {
    explore(|| {
        let Model { inbox: _inbox, admission, sender, mut stream } = open(1);
        let handle = stream.handle();
        let closes = thread::spawn(move || handle.close());
        assert_eq!(read(&mut stream), (String::new(), None));
        closes.join().unwrap();
        assert_eq!((stream.finish_reason(), admission.unfinished()), (Some(FinishReason::Cancelled), 0));
        drop(sender);
        assert_eq!((read(&mut stream), admission.unfinished()), ((String::new(), None), 0));
    });
}

#[test]
fn a_waiting_reader_gets_an_error_once_when_the_sender_is_dropped_without_an_end() {
    explore(|| {
        let Model { inbox, admission, mut sender, mut stream } = open(2);
        let drops = thread::spawn(move || {
            send(&mut sender, &inbox, 1);
            drop(sender);
        });
        assert_eq!(read(&mut stream), ("a".into(), Some("GENERATION_ERROR")));
        assert!(stream.next_blocking().is_none());
        assert_eq!((stream.finish_reason(), admission.unfinished()), (Some(FinishReason::Error), 0));
        drops.join().unwrap();
    });
}

#[test]
fn a_close_during_a_send_leaves_nothing_buffered_and_counts_no_token_twice() {
    explore(|| {
        let Model { inbox, admission, mut sender, mut stream } = open(2);
        let handle = stream.handle();
        let sends = thread::spawn(move || {
            send(&mut sender, &inbox, 4);
            sender.finish(End::Finished(FinishReason::Length), None, &Progress::default());
        });
        let closing = stream.handle();
        let closes = thread::spawn(move || closing.close());
        let (text, error) = read(&mut stream);
        assert!("abcd".starts_with(&text) && error.is_none());
        closes.join().unwrap();
        sends.join().unwrap();
        assert_eq!((handle.tokens_generated(), handle.text(), handle.buffered()), (text.len(), text, 0));
        assert!(handle.finish_reason().is_some());
        assert_eq!(admission.unfinished(), 0);
    });
}

#[test]
fn a_stream_that_is_ended_from_all_sides_at_once_ends_once() {
    explore(|| {
        let Model { inbox, admission, mut sender, stream } = open(1);
        let (cancels, closes, handle) = (stream.handle(), stream.handle(), stream.handle());
        let threads = [
            thread::spawn(move || cancels.cancel()),
            thread::spawn(move || closes.close()),
            thread::spawn(move || drop(stream)),
            thread::spawn(move || {
                sender.finish(End::Finished(FinishReason::Stop), Some(token(0)), &Progress::default());
            }),
        ];
        for thread in threads {
            thread.join().unwrap();
        }
        let reason = handle.finish_reason();
        assert!(matches!(reason, Some(FinishReason::Stop | FinishReason::Cancelled)), "{reason:?}");
        assert_eq!(admission.unfinished(), 0);
        let left = inbox.collect().map_or(0, |messages| messages.left.len());
        assert!(left <= 1, "the engine was notified {left} times");
    });
}
