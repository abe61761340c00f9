//! What `TokenStream.__anext__` returns: a coroutine for one token, written natively.
//!
//! A coroutine written in Python would keep the stream in its frame, and a traceback that somebody keeps would keep that
//! frame: the stream of a cancelled reader would run on. This one lets go of the stream before it raises.

use std::sync::PoisonError;
use std::task::{Poll, Waker};

use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyStopIteration};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyIterator};

use crate::error::to_py;
use crate::notifier::NotifyHandle;
use crate::stream::TokenStream;
use crate::token::Token;

/// How a stream knows the event loop that reads it. It refers to nothing of the loop strongly: a stream must not keep a
/// closed loop alive.
pub(crate) struct Subscription {
    /// Weak references to the loop and to the package's notifier of that loop.
    event_loop: Py<PyAny>,
    notifier: Py<PyAny>,
    waker: Waker,
    key: u64,
}

/// A future of the event loop that the notifier completes at the next news.
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

/// What a step of the coroutine comes to.
enum Step {
    Yield(Py<PyAny>),
    Return(Token),
}

impl NextToken {
    pub(crate) fn new(stream: Py<TokenStream>) -> Self {
        Self { stream: Some(stream), reading: false, wait: None }
    }

    fn step(&mut self, py: Python<'_>) -> PyResult<Step> {
        let Some(stream) = &self.stream else {
            return Err(PyRuntimeError::new_err("cannot reuse an already awaited __anext__()"));
        };
        let stream = stream.clone_ref(py);
        let stream = stream.get();
        if !self.reading {
            let event_loop = running_loop(py)?;
            stream.begin_read(py)?;
            self.reading = true;
            subscribe(stream, event_loop.as_ref())?;
            if stream.must_yield() {
                return Ok(Step::Yield(py.None()));
            }
        }
        loop {
            if let Some(wait) = &self.wait {
                if let Some(yielded) = wait.iterator.bind(py).clone().next() {
                    return Ok(Step::Yield(yielded?.unbind()));
                }
                self.end_wait(py)?;
            }
            match self.poll(py, stream)? {
                Poll::Ready(Some(Ok(token))) => return Ok(Step::Return(token.into())),
                Poll::Ready(Some(Err(error))) => return Err(to_py(py, &error)),
                Poll::Ready(None) => return Err(PyStopAsyncIteration::new_err(())),
                Poll::Pending => {}
            }
        }
    }

    /// Polls the stream, and begins to wait where there is nothing yet.
    fn poll(
        &mut self,
        py: Python<'_>,
        stream: &TokenStream,
    ) -> PyResult<Poll<Option<Result<mullama::Token, mullama::MullamaError>>>> {
        let subscription = stream.subscription.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = subscription.as_ref().map_or(Waker::noop(), |known| &known.waker);
        let polled = stream.poll(waker);
        if polled.is_pending() {
            let known = subscription.as_ref().ok_or_else(without_a_loop)?;
            let event_loop = known.event_loop.bind(py).call0()?;
            let notifier = known.notifier.bind(py).call0()?;
            let key = known.key;
            drop(subscription);
            let waiting = notifier.getattr(intern!(py, "waiting"))?.cast_into::<PyDict>()?.unbind();
            // The notifier completes futures on the loop's own thread, which is this one: it cannot come in between.
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

    /// Lets go of the stream; somebody else may read it from now on.
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
        let step = self.step(py);
        if !matches!(step, Ok(Step::Yield(_))) {
            self.finish(py);
        }
        match step? {
            Step::Yield(yielded) => Ok(yielded),
            Step::Return(token) => Err(PyStopIteration::new_err((Py::new(py, token)?,))),
        }
    }

    /// Resumes the read.
    fn send(&mut self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let _ = value;
        self.__next__(py)
    }

    /// Ends the read with an exception, which a cancelled task does.
    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &mut self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = traceback;
        self.finish(py);
        let raised = value.filter(|value| !value.is_none()).unwrap_or(kind);
        Err(PyErr::from_value(raised.clone()))
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
            // While the interpreter ends there is nobody left to hand the stream to.
            Python::try_attach(|py| self.finish(py));
        }
    }
}

/// The running event loop of asyncio; `None` where no event loop runs at all, which is enough for a buffered token.
fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let event_loop = RUNNING_LOOP.import(py, "asyncio", "_get_running_loop")?.call0()?;
    if !event_loop.is_none() {
        return Ok(Some(event_loop));
    }
    // trio brings sniffio, which tells the two apart.
    let modules = py.import("sys")?.getattr("modules")?;
    let sniffio = modules.call_method1("get", ("sniffio",))?;
    if !sniffio.is_none() && sniffio.call_method0("current_async_library").is_ok() {
        return Err(without_a_loop());
    }
    Ok(None)
}

fn without_a_loop() -> PyErr {
    PyRuntimeError::new_err(
        "reading a stream with `async` needs a running asyncio event loop (trio is not supported); \
         read it with a plain `for` in a worker thread instead",
    )
}

/// Has the loop's notifier wake this stream's reader.
fn subscribe(stream: &TokenStream, event_loop: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    static SUBSCRIBE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let lock = || stream.subscription.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(event_loop) = event_loop else {
        *lock() = None;
        return Ok(());
    };
    let py = event_loop.py();
    let known = lock().as_ref().map(|known| known.event_loop.clone_ref(py));
    if let Some(known) = known
        && known.bind(py).call0()?.is(event_loop)
    {
        return Ok(());
    }
    let subscribed = SUBSCRIBE.import(py, "mullama._notifier", "subscribe")?.call1((event_loop,))?;
    let (event_loop, notifier, handle, key): (_, _, Bound<'_, NotifyHandle>, _) = subscribed.extract()?;
    let waker = handle.get().0.clone().into_waker();
    *lock() = Some(Subscription { event_loop, notifier, waker, key });
    Ok(())
}
