//! The threads that compute for a context: they live as long as it does, and sleep when told to.
//!
//! Without a pool of its own, llama.cpp would start and join its threads for every graph.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::context::Context;
use crate::error::{Error, check};
use crate::lookout::Crowding;
use crate::sys;

/// Most threads of one pool (ggml's `GGML_MAX_N_THREADS`).
pub(crate) const MAX_THREADS: u32 = 512;
/// llama.cpp's default between never polling (0) and always (100).
pub(crate) const POLL_DEFAULT: u32 = 50;

/// One ggml thread pool.
#[derive(Debug)]
struct Pool {
    raw: NonNull<sys::ggml_threadpool>,
    n_threads: u32,
    /// Where Linux tells of its threads and the one that decodes; empty if that one is alone, and elsewhere.
    told: Arc<[String]>,
}

impl Pool {
    fn new(n_threads: u32, poll: u32) -> Result<Self, Error> {
        let mut raw = ptr::null_mut();
        // SAFETY: the shim only writes the pointer.
        let mut start = || unsafe { sys::mullama_pool_new(n_threads.cast_signed(), poll, &raw mut raw) };
        let (status, told) = if n_threads == 1 { (start(), Arc::default()) } else { told_of(start) };
        check("ggml_threadpool_new", status)?;
        let raw = NonNull::new(raw).ok_or(Error::PoolRefused { n_threads })?;
        Ok(Self { raw, n_threads, told })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: the pool is freed once, here, and no context computes with it any more. A failure leaves it allocated.
        let _ = unsafe { sys::mullama_pool_free(self.raw.as_ptr()) };
    }
}

/// The pool for single tokens and the one for batches; one and the same if they are equally large.
#[derive(Debug)]
pub(crate) struct Pools {
    single: Pool,
    batch: Option<Pool>,
    asleep: bool,
}

// SAFETY: a pool is a heap object that any thread may use, one at a time; `Context` sees to that.
unsafe impl Send for Pools {}

impl Pools {
    pub(crate) fn new(n_threads: u32, n_threads_batch: u32, poll: u32) -> Result<Self, Error> {
        let single = Pool::new(n_threads, poll)?;
        let batch = (n_threads_batch != n_threads).then(|| Pool::new(n_threads_batch, poll)).transpose()?;
        // The shim makes them asleep.
        Ok(Self { single, batch, asleep: true })
    }

    fn batch(&self) -> &Pool {
        self.batch.as_ref().unwrap_or(&self.single)
    }

    /// Where Linux tells of the threads that a decode of so many rows has. (A last part of one row has those of a single
    /// token; that does not matter.)
    pub(crate) fn told(&self, rows: usize) -> &Arc<[String]> {
        if rows > 1 { &self.batch().told } else { &self.single.told }
    }

    /// Gives the context these pools and their thread counts.
    pub(crate) fn attach(&self, context: *mut sys::llama_context) -> Result<(), Error> {
        let batch = self.batch();
        let pools = sys::Pools {
            single: self.single.raw.as_ptr(),
            batch: batch.raw.as_ptr(),
            n_threads: self.single.n_threads.cast_signed(),
            n_threads_batch: batch.n_threads.cast_signed(),
        };
        // SAFETY: all three are alive; whoever drops the pools has freed the context or attached others before.
        let status = unsafe { sys::mullama_pool_attach(context, &raw const pools) };
        check("llama_attach_threadpool", status)
    }

    /// The next decode wakes the threads by itself.
    pub(crate) fn wake(&mut self) {
        self.asleep = false;
    }

    fn sleep(&mut self) -> Result<(), Error> {
        if self.asleep {
            return Ok(());
        }
        for pool in [Some(&self.single), self.batch.as_ref()].into_iter().flatten() {
            // SAFETY: the pool is alive, and `&mut self` means that nothing computes with it.
            let status = unsafe { sys::mullama_pool_pause(pool.raw.as_ptr()) };
            check("ggml_threadpool_pause", status)?;
        }
        self.asleep = true;
        Ok(())
    }
}

impl Context {
    /// Computes with this many threads from now on: `n_threads` for a single token, `n_threads_batch` for more.
    ///
    /// # Errors
    ///
    /// [`Error::ContextField`], [`Error::PoolRefused`], [`Error::Poisoned`], or what comes out of C++.
    pub fn set_threads(&mut self, n_threads: u32, n_threads_batch: u32) -> Result<(), Error> {
        self.usable()?;
        check_threads(n_threads, n_threads_batch)?;
        if self.parts.pools.single.n_threads == n_threads && self.parts.pools.batch().n_threads == n_threads_batch {
            return Ok(());
        }
        let pools = Pools::new(n_threads, n_threads_batch, self.poll)?;
        let attached = pools.attach(self.raw());
        self.poisoned_by(attached)?;
        let mut replaced = std::mem::replace(&mut self.parts.pools, pools);
        let slept = replaced.sleep();
        self.parts.replaced.push(replaced);
        self.poisoned_by(slept)
    }

    /// Who waited for cores in the last decode, if they were so many that fewer threads had been better; `None` too where
    /// the system does not tell.
    pub fn crowding(&self) -> Option<Crowding> {
        self.parts.lookout.crowding()
    }

    /// Waits until everything that was decoded has been computed. On a GPU [`decode`](Self::decode) may return before.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`], or what comes out of C++.
    pub fn synchronize(&mut self) -> Result<(), Error> {
        self.usable()?;
        // SAFETY: the context is alive, and `&mut self` excludes other calls.
        let status = unsafe { sys::mullama_synchronize(self.raw()) };
        self.poisoned_by(check("llama_synchronize", status))
    }

    /// Sends the compute threads to sleep at once, instead of letting them poll for more work for a while. The next
    /// decode wakes them. Free if they sleep already.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`], or what comes out of C++.
    pub fn pause_threads(&mut self) -> Result<(), Error> {
        self.usable()?;
        let slept = self.parts.pools.sleep();
        self.poisoned_by(slept)
    }
}

/// What `start` returns, and where Linux tells of the threads that it started and of the one that calls. They bear the
/// caller's name at their start, and so are found by one that nobody else has: `mullama-` and its number.
fn told_of<T>(start: impl FnOnce() -> T) -> (T, Arc<[String]>) {
    let own = Path::new("/proc/thread-self");
    let number = fs::read_link(own).ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let (Some(number), Ok(name)) = (number, fs::read(own.join("comm"))) else { return (start(), Arc::default()) };
    let before: HashSet<OsString> = tasks().collect();
    // A system that forbids it leaves the threads unknown. A number has seven digits at most, a name fifteen letters.
    let theirs = format!("mullama-{number}");
    let _ = fs::write(own.join("comm"), &theirs);
    let started = start();
    let _ = fs::write(own.join("comm"), name.trim_ascii_end());
    let is_theirs = |task: &OsString| {
        let comm = fs::read(Path::new("/proc/self/task").join(task).join("comm"));
        comm.is_ok_and(|name| name.trim_ascii_end() == theirs.as_bytes())
    };
    let new = tasks().filter(|task| !before.contains(task) && is_theirs(task));
    let mut told: Vec<String> = new.map(|task| format!("/proc/self/task/{}/schedstat", task.display())).collect();
    if !told.is_empty() {
        told.push(own.join("schedstat").display().to_string());
    }
    (started, told.into())
}

/// The threads of this process.
fn tasks() -> impl Iterator<Item = OsString> {
    fs::read_dir("/proc/self/task").into_iter().flatten().filter_map(|task| Some(task.ok()?.file_name()))
}

/// Checks both counts against what ggml can start.
pub(crate) fn check_threads(n_threads: u32, n_threads_batch: u32) -> Result<(), Error> {
    for (field, value) in [("n_threads", n_threads), ("n_threads_batch", n_threads_batch)] {
        if !(1..=MAX_THREADS).contains(&value) {
            return Err(Error::ContextField { field, value, range: "1 to 512" });
        }
    }
    Ok(())
}
