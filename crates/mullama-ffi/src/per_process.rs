//! Statics that a forked child has for itself: a lock that another thread held during the fork is never released there.

use std::process;
use std::sync::OnceLock;

/// One value for each process. A forked child gets a new one, and never touches the copies of its ancestors' values.
#[derive(Debug)]
pub struct PerProcess<T>(OnceLock<Box<Link<T>>>);

#[derive(Debug)]
struct Link<T> {
    process: u32,
    value: T,
    child: PerProcess<T>,
}

impl<T> PerProcess<T> {
    /// Creates a static without a value.
    #[expect(clippy::new_without_default, reason = "it is for statics only")]
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }
}

impl<T: Default> PerProcess<T> {
    /// The value of this process, which is made by the first call.
    ///
    /// # Panics
    ///
    /// Never: a value that was set can be read.
    pub fn get(&self) -> &T {
        let here = process::id();
        let mut values = self;
        loop {
            if values.0.get().is_none() {
                // It is made before the cell is locked: a fork in between would leave the cell locked in the child.
                let made = Box::new(Link { process: here, value: T::default(), child: Self::new() });
                let _ = values.0.set(made);
            }
            let link = values.0.get().expect("it was set");
            if link.process == here {
                return &link.value;
            }
            values = &link.child;
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::sync::{Mutex, PoisonError, mpsc};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::in_forked_child;

    static NUMBER: PerProcess<Mutex<u32>> = PerProcess::new();

    #[test]
    fn a_lock_that_another_thread_held_during_a_fork_is_free_in_the_child() {
        let (locked, is_locked) = mpsc::sync_channel(1);
        let (release, released) = mpsc::sync_channel::<()>(1);
        let holder = thread::spawn(move || {
            let mut number = NUMBER.get().lock().unwrap_or_else(PoisonError::into_inner);
            *number = 7;
            locked.send(()).expect("the test waits");
            let _ = released.recv();
        });
        is_locked.recv().expect("it is locked");
        let free = in_forked_child(Duration::from_secs(10), || NUMBER.get().lock().is_ok_and(|number| *number == 0));
        release.send(()).expect("the holder waits");
        holder.join().expect("it ends");
        assert!(free);
        assert_eq!(*NUMBER.get().lock().unwrap_or_else(PoisonError::into_inner), 7);
    }
}
