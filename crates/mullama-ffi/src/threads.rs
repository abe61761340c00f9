//! The compute threads of a context. They live as long as the context and sleep when the engine is idle.
//!
//! Without its own thread pool, llama.cpp would start and join threads for every graph.

use std::ptr::{self, NonNull};

use crate::contention::{ContentionMeter, CpuContention, measured};
use crate::error::{Error, check};
use crate::sys;

/// One ggml thread pool.
#[derive(Debug)]
struct Pool {
    raw: NonNull<sys::ggml_threadpool>,
    n_threads: u32,
}

impl Pool {
    fn new(n_threads: u32, poll: u32) -> Result<Self, Error> {
        let mut raw = ptr::null_mut();
        // SAFETY: the shim only writes the pointer.
        let status = unsafe { sys::mullama_pool_new(n_threads.cast_signed(), poll, &raw mut raw) };
        check("ggml_threadpool_new", status)?;
        let raw = NonNull::new(raw).ok_or(Error::PoolRefused { n_threads })?;
        Ok(Self { raw, n_threads })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: the pool is freed once, here, and no context computes with it any more. A failure leaves it
        // allocated.
        let _ = unsafe { sys::mullama_pool_free(self.raw.as_ptr()) };
    }
}

/// A pool with the meter of its threads.
#[derive(Debug)]
struct MeteredPool {
    pool: Pool,
    meter: ContentionMeter,
}

impl MeteredPool {
    fn new(n_threads: u32, poll: u32) -> Result<Self, Error> {
        // The decoding thread is one of the pool's threads, and already exists.
        let workers = n_threads.saturating_sub(1) as usize;
        measured(workers, || Pool::new(n_threads, poll)).map(|(pool, meter)| Self { pool, meter })
    }
}

/// The pool for single tokens and the pool for batches. If both need the same number of threads, they are one pool.
#[derive(Debug)]
pub(crate) struct Pools {
    single: MeteredPool,
    batch: Option<MeteredPool>,
    asleep: bool,
}

// SAFETY: a pool is a heap object that any thread may use, one at a time; `Context` ensures that.
unsafe impl Send for Pools {}

impl Pools {
    pub(crate) fn new(n_threads: u32, n_threads_batch: u32, poll: u32) -> Result<Self, Error> {
        let single = MeteredPool::new(n_threads, poll)?;
        let batch = (n_threads_batch != n_threads).then(|| MeteredPool::new(n_threads_batch, poll)).transpose()?;
        // The shim creates pools whose threads sleep.
        Ok(Self { single, batch, asleep: true })
    }

    fn batch(&self) -> &Pool {
        &self.batch.as_ref().unwrap_or(&self.single).pool
    }

    /// Number of threads for a single token, and for several tokens.
    pub(crate) fn sizes(&self) -> (u32, u32) {
        (self.single.pool.n_threads, self.batch().n_threads)
    }

    /// The meter of the pool that decodes this many rows, and that of the other pool if there is one. (If the last part
    /// of a batch is a single row, the other pool computes it; the reading leaves that out.)
    fn meters(&mut self, rows: usize) -> (&mut ContentionMeter, Option<&mut ContentionMeter>) {
        let single = &mut self.single.meter;
        match self.batch.as_mut().map(|batch| &mut batch.meter) {
            Some(batch) if rows > 1 => (batch, Some(single)),
            batch => (single, batch),
        }
    }

    /// Attaches these pools to the context, with their thread counts.
    pub(crate) fn attach(&self, context: *mut sys::llama_context) -> Result<(), Error> {
        let (n_threads, n_threads_batch) = self.sizes();
        let pools = sys::Pools {
            single: self.single.pool.raw.as_ptr(),
            batch: self.batch().raw.as_ptr(),
            n_threads: n_threads.cast_signed(),
            n_threads_batch: n_threads_batch.cast_signed(),
        };
        // SAFETY: all three are alive; the context is freed or gets other pools before these are dropped.
        let status = unsafe { sys::mullama_pool_attach(context, &raw const pools) };
        check("llama_attach_threadpool", status)
    }

    /// Records that a decode of this many rows begins, which wakes the threads by itself.
    pub(crate) fn begin_decode(&mut self, rows: usize) {
        self.asleep = false;
        let (meter, other) = self.meters(rows);
        meter.begin();
        if let Some(other) = other {
            other.interrupt();
        }
    }

    /// Records that the decode of this many rows has ended.
    pub(crate) fn end_decode(&mut self, rows: usize) {
        self.meters(rows).0.end();
    }

    /// The reading that was completed by the last decode, which had this many rows.
    pub(crate) fn contention(&self) -> Option<CpuContention> {
        self.single.meter.latest().or_else(|| self.batch.as_ref()?.meter.latest())
    }

    pub(crate) fn sleep(&mut self) -> Result<(), Error> {
        if self.asleep {
            return Ok(());
        }
        for MeteredPool { pool, meter } in [Some(&mut self.single), self.batch.as_mut()].into_iter().flatten() {
            meter.interrupt();
            // SAFETY: the pool is alive, and `&mut self` means that nothing computes with it.
            let status = unsafe { sys::mullama_pool_pause(pool.raw.as_ptr()) };
            check("ggml_threadpool_pause", status)?;
        }
        self.asleep = true;
        Ok(())
    }
}
