//! A pull that is cancelled leaves nothing running, and is continued by the next one.

use std::time::{Duration, Instant};

use mullama::{DownloadFailure, MullamaError};
use mullama_hub::Hub;
use mullama_hub_server::Fault;

use crate::setup::{ALWAYS, Setup, all_at_once, cdn};

/// Reproducible numbers below `limit`.
pub(crate) fn random(state: &mut u64, limit: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % limit
}

/// Begins a pull, and drops it after this time.
async fn dropped_after(hub: &Hub, time: Duration) {
    let _ = tokio::time::timeout(time, hub.pull("large", |_| {})).await;
}

#[test]
fn a_pull_that_is_dropped_at_any_moment_is_continued() {
    // Ten pulls at the same time, each cancelled ten times; every other one is slowed down to three seconds.
    let cases: [(&str, u64); 10] = std::array::from_fn(|number| ("a pull", number as u64));
    all_at_once(&cases, |number| {
        let setup = Setup::new();
        let longest = if number % 2 == 0 { 300 } else { 150 };
        if number % 2 == 0 {
            setup.fault(&cdn(&setup.large()), Fault::Trickle { bytes: 64 << 10, ms: 1 }, ALWAYS);
        }
        let hub = setup.hub();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut state = *number;
        for _ in 0..10 {
            runtime.block_on(dropped_after(&hub, Duration::from_millis(random(&mut state, longest))));
        }
        // In the same process and at once: the lock of the last one must not be in the way for long.
        setup.pulls("large", &setup.large());
    });
}

#[test]
fn a_dropped_pull_is_continued_where_it_was() {
    let setup = Setup::new();
    // 16 MiB are sent at once, and then nothing.
    setup.server.rule(mullama_hub_server::Rule::new(cdn(&setup.large()), Fault::NoAnswer, ALWAYS).skip(1));
    let hub = setup.hub();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let pull = hub.pull("large", move |progress| {
            if progress.done >= 16 << 20 {
                let _ = sender.try_send(());
            }
        });
        tokio::select! {
            result = pull => panic!("the server sends nothing more: {result:?}"),
            _ = receiver.recv() => {}
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("the first part does not arrive"),
        }
    });
    setup.server.clear_faults();
    setup.server.clear_requests();
    setup.pulls("large", &setup.large());
    assert_eq!(setup.sent(), setup.large().len() - (16 << 20), "the first part is there");
}

#[test]
fn a_callback_that_says_no_cancels_soon_and_at_every_stage() {
    let cases = [
        ("resolving", ("/v2/library/large/manifests/latest", Fault::NoAnswer)),
        ("asking for the blob", ("/v2/library/large/blobs/*", Fault::NoAnswer)),
        ("downloading", ("/cdn/*", Fault::Stall { bytes: 1_000_000 })),
        (
            "waiting to try again",
            ("/cdn/*", Fault::Status { code: 503, retry_after: Some("60".into()), body: String::new() }),
        ),
    ];
    all_at_once(&cases, |(path, fault)| {
        let setup = Setup::new();
        setup.fault(path, fault.clone(), ALWAYS);
        let hub = Hub::new(mullama_hub::HubConfig { stall_limit: Duration::from_mins(1), ..setup.config() }).unwrap();
        let (started, mut said_no) = (Instant::now(), None);
        let result = hub.pull_blocking("large", |_| {
            let go_on = started.elapsed() < Duration::from_millis(500);
            if !go_on {
                said_no.get_or_insert_with(Instant::now);
            }
            go_on
        });
        assert!(
            matches!(result, Err(MullamaError::Download { failure: DownloadFailure::Cancelled, .. })),
            "{result:?}"
        );
        let late = said_no.expect("the callback was asked").elapsed();
        assert!(late < Duration::from_millis(500), "cancelled after {late:?}");
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        setup.server.clear_faults();
        setup.pulls("large", &setup.large());
    });
}

#[test]
fn progress_never_falls_and_its_phases_never_go_back() {
    let setup = Setup::new();
    setup.fault(&cdn(&setup.large()), Fault::Cut { bytes: 3_000_000 }, 5);
    setup.fault(&cdn(&setup.large()), Fault::Longer { bytes: 1 }, 1);
    let mut all = Vec::new();
    let model = setup.hub().pull_blocking("large", |progress| {
        all.push(progress.clone());
        true
    });
    crate::setup::assert_is(&model.unwrap().path, &setup.large());
    assert!(all.windows(2).all(|pair| pair[0].done <= pair[1].done && pair[0].phase <= pair[1].phase), "{all:#?}");
    let last = all.last().unwrap();
    assert_eq!((last.phase, Some(last.done)), (mullama_hub::Phase::Done, last.total));
    assert!(last.done >= setup.large().len());
}
