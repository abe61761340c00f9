//! Wakes the event loop of one JavaScript thread, on which all of its streams and jobs have keys.

use std::sync::Arc;

use mullama::{LoopNotifier, NotifyHandle};
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;

/// Calls a function of JavaScript when streams or jobs that wait have something new.
#[napi]
pub(crate) struct Notifier(Arc<LoopNotifier>);

#[napi]
impl Notifier {
    /// `signal` is called at most once until the keys are taken. It does not keep the process alive.
    #[napi(constructor)]
    pub fn new(signal: Function<'_, (), ()>) -> napi::Result<Self> {
        let call = signal.build_threadsafe_function::<()>().callee_handled::<false>().weak::<true>().build()?;
        Ok(Self(Arc::new(LoopNotifier::calling(move || {
            // An environment that ends refuses the call, and then nobody waits for it.
            let _ = call.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }))))
    }

    /// Takes the keys that have something new.
    #[napi]
    pub fn drain(&self) -> Vec<u32> {
        self.0.drain().into_iter().filter_map(|key| u32::try_from(key).ok()).collect()
    }
}

impl Notifier {
    pub(crate) fn handle(&self, key: u32) -> NotifyHandle {
        self.0.handle(key.into())
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.0.close();
    }
}
