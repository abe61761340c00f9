//! Native handles that JavaScript holds: dropping the last one may wait for an engine's thread or free gigabytes, so a
//! thread of its own does that.

use std::ops::{Deref, DerefMut};
use std::sync::LazyLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use mullama::InFlightGuard;

type Dropped = Box<dyn Send>;

/// How many values may wait for the thread; most are streams, which take it no time.
const WAITING: usize = 1024;

/// The thread that drops; `None` if the system refused it.
static DROPS: LazyLock<Option<SyncSender<(Dropped, InFlightGuard)>>> = LazyLock::new(|| {
    let (sender, receiver) = sync_channel::<(Dropped, InFlightGuard)>(WAITING);
    let body = move || receiver.into_iter().for_each(drop);
    thread::Builder::new().name("mullama-drop".into()).spawn(body).ok().map(|_| sender)
});

/// A value that is dropped on another thread.
pub(crate) struct Held<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Held<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value itself, for whoever drops it elsewhere.
    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect("only drop and this take it")
    }
}

impl<T: Send + 'static> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("only drop takes it")
    }
}

impl<T: Send + 'static> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("only drop takes it")
    }
}

impl<T: Send + 'static> Drop for Held<T> {
    fn drop(&mut self) {
        let Some(value) = self.0.take() else { return };
        if let Some(drops) = &*DROPS {
            // The end of the process waits for what is being dropped. What has no room in the queue is dropped here.
            let _ = drops.try_send((Box::new(value), InFlightGuard::begin()));
        }
    }
}
