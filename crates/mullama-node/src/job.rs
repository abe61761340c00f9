//! Work on a thread of its own, whose result wakes JavaScript.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mullama::{BackgroundWork, MullamaError, NotifyHandle, TokenId};
use napi::bindgen_prelude::{Either5, Int32Array, Undefined};
use napi_derive::napi;

use crate::context::Context;
use crate::error::{Failure, ended, failure};
use crate::held::Held;
use crate::model::Model;

/// What a job comes to.
pub(crate) enum Output {
    /// A model, and what is known about it as JSON.
    Model(Held<Arc<mullama::Model>>, String),
    Context(Held<Arc<mullama::Context>>),
    Ids(Vec<TokenId>),
    /// A text, or JSON.
    Text(String),
}

/// What the thread and JavaScript share.
struct Shared {
    outcome: Mutex<Option<Result<Output, MullamaError>>>,
    /// The newest progress that JavaScript has not taken, as JSON.
    progress: Mutex<Option<String>>,
    /// Whether anybody waits for the outcome.
    is_wanted: AtomicBool,
    notify: NotifyHandle,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sees to it that a thread that panics wakes its caller too.
struct Finish(Arc<Shared>);

impl Drop for Finish {
    fn drop(&mut self) {
        lock(&self.0.outcome).get_or_insert_with(|| Err(ended()));
        self.0.notify.notify();
    }
}

/// What work hears and says while it runs.
pub(crate) struct Report(Arc<Shared>);

impl Report {
    /// Whether anybody still waits for the result.
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.is_wanted.load(Ordering::Acquire)
    }

    /// Says how far the work is, as JSON; `false` if nobody waits any more.
    pub(crate) fn progress(&self, json: String) -> bool {
        *lock(&self.0.progress) = Some(json);
        self.0.notify.notify();
        self.is_wanted()
    }
}

/// Work on a thread of its own. It is told to end when this is dropped or cancelled.
#[napi]
pub(crate) struct Job {
    /// The thread.
    _work: BackgroundWork<()>,
    shared: Arc<Shared>,
}

impl Job {
    /// Starts the work.
    pub(crate) fn start(
        notify: NotifyHandle,
        work: impl FnOnce(&Report) -> Result<Output, MullamaError> + Send + 'static,
    ) -> Result<Self, Failure> {
        let (outcome, progress, is_wanted) = (Mutex::default(), Mutex::default(), AtomicBool::new(true));
        let shared = Arc::new(Shared { outcome, progress, is_wanted, notify });
        let finish = Finish(Arc::clone(&shared));
        let started = BackgroundWork::start(false, move |_| {
            let outcome = work(&Report(Arc::clone(&finish.0)));
            *lock(&finish.0.outcome) = Some(outcome);
            drop(finish);
            Ok(())
        });
        Ok(Self { _work: started.map_err(|error| failure(MullamaError::no_thread(error)))?, shared })
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.cancel();
    }
}

#[napi]
impl Job {
    /// Tells the work to end. It still comes to something, which may be an error.
    #[napi]
    pub fn cancel(&self) {
        self.shared.is_wanted.store(false, Ordering::Release);
    }

    /// The newest progress as JSON, if there is some that was not taken.
    #[napi]
    pub fn progress(&self) -> Option<String> {
        lock(&self.shared.progress).take()
    }

    /// What the work came to; undefined until it is done.
    #[napi]
    pub fn take(&self) -> Result<Either5<Model, Context, Int32Array, String, Undefined>, Failure> {
        let Some(outcome) = lock(&self.shared.outcome).take() else { return Ok(Either5::E(())) };
        Ok(match outcome.map_err(failure)? {
            Output::Model(model, facts) => Either5::A(Model::new(model, facts)),
            Output::Context(context) => Either5::B(Context::new(context)),
            // An array of JavaScript would be filled one by one, while the event loop waits.
            Output::Ids(ids) => Either5::C(ids.into()),
            Output::Text(text) => Either5::D(text),
        })
    }
}
