//! Work on a thread of its own, for a caller who waits in slices and may lose interest.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::error::{MullamaError, StreamFailure};
use crate::in_flight::InFlightGuard;

/// What a caller hears of its work.
#[derive(Debug)]
pub enum WorkEvent<T> {
    /// Nothing happened within the limit.
    Pending,
    /// The work is this far, from 0.0 to 1.0.
    Progress(f32),
    /// The work is over.
    Done(Result<T, MullamaError>),
}

/// Work on a thread of its own. Dropping this tells the work to end; nobody waits until it has.
#[derive(Debug)]
pub struct BackgroundWork<T> {
    events: Receiver<WorkEvent<T>>,
    is_wanted: Arc<AtomicBool>,
}

impl<T: Send + 'static> BackgroundWork<T> {
    /// Begins the work. It says how far it is, and goes on while it hears `true`. Its caller hears of the progress only if
    /// `reports_progress` is set.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start(
        reports_progress: bool,
        work: impl FnOnce(&mut dyn FnMut(f32) -> bool) -> Result<T, MullamaError> + Send + 'static,
    ) -> io::Result<Self> {
        let (report, events) = sync_channel(1);
        let is_wanted = Arc::new(AtomicBool::new(true));
        let (wanted, in_flight) = (Arc::clone(&is_wanted), InFlightGuard::begin());
        let body = move || {
            let _in_flight = in_flight;
            let done = work(&mut |fraction| {
                if reports_progress {
                    // Nobody listens once the caller has given up, which ends the work.
                    let _ = report.send(WorkEvent::Progress(fraction));
                }
                wanted.load(Ordering::Acquire)
            });
            let _ = report.send(WorkEvent::Done(done));
        };
        std::thread::Builder::new().name("mullama-work".into()).spawn(body)?;
        Ok(Self { events, is_wanted })
    }

    /// Waits for the next event, at most this long. A thread that has panicked is an error.
    pub fn wait(&mut self, limit: Duration) -> WorkEvent<T> {
        self.events.recv_timeout(limit).unwrap_or_else(|error| match error {
            RecvTimeoutError::Timeout => WorkEvent::Pending,
            RecvTimeoutError::Disconnected => {
                WorkEvent::Done(Err(MullamaError::StreamingError(StreamFailure::EngineEnded)))
            }
        })
    }
}

impl<T> BackgroundWork<T> {
    /// Tells the work to end. What it comes to can still be waited for.
    pub fn give_up(&self) {
        self.is_wanted.store(false, Ordering::Release);
    }
}

impl<T> Drop for BackgroundWork<T> {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[test]
    fn work_whose_caller_leaves_is_told_so() {
        let (told, hears) = sync_channel(1);
        let endless = move |report: &mut dyn FnMut(f32) -> bool| {
            while report(0.5) {}
            told.send(()).expect("the test waits");
            Ok(())
        };
        let mut work = BackgroundWork::start(true, endless).unwrap();
        assert!(matches!(work.wait(LIMIT), WorkEvent::Progress(_)));
        drop(work);
        hears.recv_timeout(LIMIT).expect("the work has ended");
    }

    #[test]
    fn work_that_is_given_up_can_still_say_what_it_came_to() {
        let mut work = BackgroundWork::start(false, |report| {
            while report(0.0) {}
            Ok(7)
        })
        .unwrap();
        assert!(matches!(work.wait(Duration::ZERO), WorkEvent::Pending));
        work.give_up();
        assert!(matches!(work.wait(LIMIT), WorkEvent::Done(Ok(7))));
    }

    #[test]
    fn work_that_panics_is_an_error() {
        let mut work = BackgroundWork::<()>::start(false, |_| panic!("on purpose")).unwrap();
        assert!(matches!(work.wait(LIMIT), WorkEvent::Done(Err(MullamaError::StreamingError(_)))));
    }
}
