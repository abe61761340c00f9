//! What `TokenStream.__anext__` returns: a coroutine for one token, written natively.
//!
//! A coroutine written in Python would keep the stream in its frame, and a traceback that is kept would keep that
//! frame: the stream of a cancelled reader would go on running. This one drops the stream before it raises.

use std::task::{Poll, Waker};

use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyStopIteration};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyIterator};

use crate::held::lock;
use crate::notifier::NotifyHandle;
use crate::stream::TokenStream;
use crate::token::{Item, Token};

/// How a stream reaches the event loop that reads it. It has only weak references to the loop, because a stream must
/// not keep a closed loop alive.
pub(crate) struct Subscription {
    /// Weak references to the loop and to the package's notifier of that loop.
    event_loop: Py<PyAny>,
    notifier: Py<PyAny>,
    waker: Waker,
    key: u64,
}

/// A future of the event loop that the notifier completes when there is something to read.
struct Wait {
    iterator: Py<PyIterator>,
    waiting: Py<PyDict>,
    key: u64,
}

/// One read of a stream by a task.
#[pyclass(module = "mullama._mullama")]
pub(crate) struct NextToken {
    /// `None` once the read is over.
    stream: Option<Py<TokenStream>>,
    /// Whether this read is the stream's one reader.
    reading: bool,
    wait: Option<Wait>,
}

impl NextToken {
    pub(crate) fn new(stream: Py<TokenStream>) -> Self {
        Self { stream: Some(stream), reading: false, wait: None }
    }

    /// Runs the coroutine up to what it yields. It returns a token as all coroutines do, as a `StopIteration`.
    fn step(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Some(stream) = &self.stream else {
            return Err(PyRuntimeError::new_err("cannot reuse an already awaited __anext__()"));
        };
        let stream = stream.clone_ref(py);
        let stream = stream.get();
        if !self.reading {
            stream.begin_read(py)?;
            self.reading = true;
            subscribe(py, stream)?;
            if stream.must_yield() {
                return Ok(py.None());
            }
        }
        loop {
            if let Some(wait) = &self.wait {
                if let Some(yielded) = wait.iterator.bind(py).clone().next() {
                    return yielded.map(Bound::unbind);
                }
                self.end_wait(py)?;
            }
            if let Poll::Ready(item) = self.poll(py, stream)? {
                let token = Token::from_read(py, item, || PyStopAsyncIteration::new_err(()))?;
                return Err(PyStopIteration::new_err((Py::new(py, token)?,)));
            }
        }
    }

    /// Polls the stream, and begins to wait if there is nothing to read yet.
    fn poll(&mut self, py: Python<'_>, stream: &TokenStream) -> PyResult<Poll<Item>> {
        let subscription = lock(&stream.subscription);
        let waker = subscription.as_ref().map_or(Waker::noop(), |known| &known.waker);
        let polled = stream.poll(waker);
        if polled.is_pending() {
            let known = subscription.as_ref().ok_or_else(|| without_a_loop(py))?;
            let event_loop = known.event_loop.bind(py).call0()?;
            let notifier = known.notifier.bind(py).call0()?;
            let key = known.key;
            drop(subscription);
            let waiting = notifier.getattr(intern!(py, "waiting"))?.cast_into::<PyDict>()?.unbind();
            // The notifier completes futures on the loop's own thread, which is this one, so it cannot run in between.
            let future = event_loop.call_method0(intern!(py, "create_future"))?;
            waiting.bind(py).set_item(key, &future)?;
            let iterator = future.try_iter()?.unbind();
            self.wait = Some(Wait { iterator, waiting, key });
        }
        Ok(polled)
    }

    fn end_wait(&mut self, py: Python<'_>) -> PyResult<()> {
        let Some(wait) = self.wait.take() else { return Ok(()) };
        wait.waiting.bind(py).call_method1(intern!(py, "pop"), (wait.key, py.None())).map(drop)
    }

    /// Drops the stream; others may read it from now on.
    fn finish(&mut self, py: Python<'_>) {
        let _ = self.end_wait(py);
        if let Some(stream) = self.stream.take()
            && std::mem::take(&mut self.reading)
        {
            stream.get().end_read();
        }
    }
}

#[pymethods]
impl NextToken {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.step(py).inspect_err(|_| self.finish(py))
    }

    /// Resumes the read.
    #[pyo3(signature = (_value, /))]
    fn send(&mut self, py: Python<'_>, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.__next__(py)
    }

    /// Ends the read with an exception, which a cancelled task does.
    #[pyo3(signature = (kind, value=None, _traceback=None, /))]
    fn throw(
        &mut self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.finish(py);
        Err(PyErr::from_value(value.unwrap_or(kind).clone()))
    }

    /// Ends the read without an exception.
    fn close(&mut self, py: Python<'_>) {
        self.finish(py);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.stream)?;
        if let Some(wait) = &self.wait {
            visit.call(&wait.iterator)?;
            visit.call(&wait.waiting)?;
        }
        Ok(())
    }

    fn __clear__(&mut self, py: Python<'_>) {
        self.finish(py);
    }
}

impl Drop for NextToken {
    fn drop(&mut self) {
        if self.stream.is_some() {
            // While the interpreter shuts down, there are no other readers left.
            Python::try_attach(|py| self.finish(py));
        }
    }
}

/// `RuntimeError`: there is no event loop that could wake this reader.
fn without_a_loop(py: Python<'_>) -> PyErr {
    let message = py.import("mullama._notifier").and_then(|module| module.getattr("WITHOUT_A_LOOP"));
    message.map_or_else(|failed| failed, |message| PyRuntimeError::new_err(message.unbind()))
}

/// Has the notifier of the running event loop wake this stream's reader. Without a loop, buffered tokens can be read.
fn subscribe(py: Python<'_>, stream: &TokenStream) -> PyResult<()> {
    static RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static SUBSCRIBE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let event_loop = RUNNING_LOOP.import(py, "asyncio", "_get_running_loop")?.call0()?;
    let known = lock(&stream.subscription).as_ref().map(|known| known.event_loop.clone_ref(py));
    if let Some(known) = known
        && !event_loop.is_none()
        && known.bind(py).call0()?.is(&event_loop)
    {
        return Ok(());
    }
    let subscribed = SUBSCRIBE.import(py, "mullama._notifier", "subscribe")?.call1((event_loop,))?;
    let subscribed: Option<(_, _, Bound<'_, NotifyHandle>, _)> = subscribed.extract()?;
    *lock(&stream.subscription) = subscribed.map(|(event_loop, notifier, handle, key)| {
        let waker = handle.get().0.clone().into_waker();
        Subscription { event_loop, notifier, waker, key }
    });
    Ok(())
}
