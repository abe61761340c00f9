use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::IntoResponse;
use futures_util::stream;

use super::super::registry::{Credential, Inserted, Registry};
use super::*;

/// A body of events without an end, and the number of events that were taken from it.
fn endless() -> (Source, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let events = stream::repeat_with(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(Bytes::from_static(b"data: 0123456789\n\n"))
    });
    (source(Body::from_stream(events)), taken)
}

fn finished() -> Source {
    source(Body::from("data: a\n\ndata: b\n\n"))
}

fn source(body: Body) -> Source {
    Source { body, write_error: |error, _| error.status.into_response() }
}

fn stream_of(inserted: Result<Inserted, ApiError>) -> Option<(HeaderValue, Arc<Stream>)> {
    match inserted.expect("the system has randomness") {
        Inserted::Stream(id, stream) => Some((id, stream)),
        Inserted::Full(_) => None,
    }
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn bytes(polled: Poll<Piece>) -> Vec<u8> {
    match polled {
        Poll::Ready(Piece::Bytes(bytes)) => bytes.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_reads_events_and_then_the_end() {
    let stream = Stream::new(finished());
    let (reader, mut last) = (stream.attach(false), 0);
    let piece = bytes(stream.poll_piece(reader, &mut last, &mut context()));
    assert_eq!(piece, b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n");
    assert!(matches!(stream.poll_piece(reader, &mut last, &mut context()), Poll::Ready(Piece::End)));
    assert_eq!(stream.position(2), Position::End);
}

#[test]
fn a_connection_that_was_taken_over_reads_nothing_more() {
    let (body, _) = endless();
    let stream = Stream::new(body);
    let (old, mut last) = (stream.attach(false), 0);
    bytes(stream.poll_piece(old, &mut last, &mut context()));
    let new = stream.attach(false);
    assert!(matches!(stream.poll_piece(old, &mut last, &mut context()), Poll::Ready(Piece::TakenOver)));
    assert!(stream.poll_away(old, &mut context()).is_ready());
    let mut last = 0;
    assert!(bytes(stream.poll_piece(new, &mut last, &mut context())).starts_with(b"id: 1\n"));
}

#[test]
fn without_a_connection_events_are_taken_until_the_memory_is_full() {
    let (body, taken) = endless();
    let stream = Stream::new(body);
    let reader = stream.attach(true);
    assert!(stream.poll_away(reader, &mut context()).is_pending());
    let count = taken.load(Ordering::Relaxed);
    assert!((1000..STREAM_BYTES / 40).contains(&count), "{count}");
    assert!(stream.poll_away(reader, &mut context()).is_pending());
    assert_eq!(taken.load(Ordering::Relaxed), count);
}

#[test]
fn a_stream_that_is_closed_ends() {
    let (body, _) = endless();
    let stream = Stream::new(body);
    let reader = stream.attach(false);
    stream.close();
    assert!(matches!(stream.poll_piece(reader, &mut 0, &mut context()), Poll::Ready(Piece::End)));
}

fn credential(name: header::HeaderName, value: &'static str) -> Credential {
    let mut headers = HeaderMap::new();
    headers.insert(name, HeaderValue::from_static(value));
    Credential::of(&headers)
}

#[test]
fn a_stream_is_found_by_its_id_and_the_key_in_either_header() {
    let registry = Registry::default();
    let bearer = |value| credential(header::AUTHORIZATION, value);
    let (id, _) = stream_of(registry.insert(bearer("Bearer key"), finished())).unwrap();
    let id = id.to_str().unwrap();
    for same in [bearer("bearer key"), credential(header::HeaderName::from_static("x-api-key"), "key")] {
        assert!(registry.find(id, &same).is_some());
    }
    for other in [bearer("Bearer kez"), bearer("Bearer "), bearer("Basic key"), Credential::of(&HeaderMap::new())] {
        assert!(registry.find(id, &other).is_none());
    }
    assert!(registry.find("stream_0", &bearer("Bearer key")).is_none());
}

#[test]
fn streams_are_bounded_and_those_that_are_complete_give_way() {
    let registry = Registry::default();
    let none = || Credential::of(&HeaderMap::new());
    let insert = |source| stream_of(registry.insert(none(), source));
    let (first, complete) = insert(finished()).unwrap();
    let count = std::iter::from_fn(|| insert(endless().0)).count();
    assert_eq!(count, 127);
    let reader = complete.attach(true);
    assert!(complete.poll_away(reader, &mut context()).is_pending());
    assert!(insert(endless().0).is_some());
    assert!(registry.find(first.to_str().unwrap(), &none()).is_none());
    assert!(insert(endless().0).is_none());
    registry.clear();
    assert!(insert(finished()).is_some());
}

#[tokio::test]
async fn beyond_the_bound_a_body_is_returned_as_it_is() {
    let registry = Registry::default();
    let none = || Credential::of(&HeaderMap::new());
    while stream_of(registry.insert(none(), endless().0)).is_some() {}
    let Ok(Inserted::Full(body)) = registry.insert(none(), finished()) else { panic!("there are 128 streams") };
    let bytes = axum::body::to_bytes(body, 100).await.unwrap();
    assert_eq!(bytes, "data: a\n\ndata: b\n\n");
}

#[test]
fn a_request_with_several_keys_continues_its_stream_with_the_same_ones_only() {
    let of = |headers: &[(&'static str, &'static str)]| {
        let header = |(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value));
        Credential::of(&headers.iter().copied().map(header).collect())
    };
    let registry = Registry::default();
    let both = [("authorization", "Bearer any"), ("x-api-key", "secret")];
    let (id, _) = stream_of(registry.insert(of(&both), finished())).unwrap();
    let id = id.to_str().unwrap();
    assert!(registry.find(id, &of(&both)).is_some());
    for other in [&both[..1], &both[1..], &[], &[both[0], ("x-api-key", "other")]] {
        assert!(registry.find(id, &of(other)).is_none());
    }
}
