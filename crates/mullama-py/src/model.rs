//! A loaded model, for the Python class of that name.

use std::path::PathBuf;
use std::sync::Arc;

use mullama::{BackgroundWork, Field, ModelLoadFailure, ModelOptions, MullamaError, Setting, TokenId};
use mullama_py_common::{Callback, awaitable, in_background, to_py, wait};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict, PyString, PyTuple};

use crate::held::Closable;
use crate::prompt::{self, Chat, Ids};
use mullama_py_common::settings::Value;

/// A loaded model.
#[pyclass(frozen)]
pub(crate) struct Model(pub(crate) Closable<mullama::Model>);

impl Model {
    fn new(model: mullama::Model) -> Self {
        Self(Closable::new("model", model))
    }
}

/// How a model is loaded: Python's keywords, in the order of its call.
#[derive(FromPyObject)]
#[expect(clippy::struct_excessive_bools, reason = "Python's keywords")]
struct Options<'py>(Bound<'py, PyAny>, bool, bool, bool, bool);

impl Options<'_> {
    fn read(self) -> PyResult<ModelOptions> {
        let Self(n_gpu_layers, use_mmap, use_mlock, check_tensors, vocab_only) = self;
        let field = Field::new("n_gpu_layers", |_| Some("-2147483648 to 2147483647"));
        let n_gpu_layers = Setting::take(&Value(n_gpu_layers), field)?;
        Ok(ModelOptions { n_gpu_layers, use_mmap, use_mlock, check_tensors, vocab_only })
    }
}

/// The system refused the thread that would load this file.
fn no_thread(path: PathBuf) -> impl FnOnce(std::io::Error) -> MullamaError {
    |error| MullamaError::ModelLoad { path, source: ModelLoadFailure::Thread(Arc::new(error)) }
}

#[pymethods]
impl Model {
    #[staticmethod]
    fn load(
        py: Python<'_>,
        path: PathBuf,
        options: Options<'_>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let options = options.read()?;
        let refused = no_thread(path.clone());
        let work = BackgroundWork::start(progress.is_some(), move |report| {
            mullama::Model::load_with(path, &options, Some(report))
        });
        wait::for_started(py, work.map_err(refused), progress).map(Self::new)
    }

    /// As `load`, awaited on the event loop. `progress` is called on the thread that loads.
    #[staticmethod]
    fn load_async<'py>(
        event_loop: &Bound<'py, PyAny>,
        path: PathBuf,
        options: Options<'py>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = options.read()?;
        let refused = no_thread(path.clone());
        let progress = Arc::new(Callback::new(progress));
        let heard = Arc::clone(&progress);
        let work = in_background(move |report| {
            let mut goes_on = |fraction| report(fraction) && heard.goes_on(fraction);
            mullama::Model::load_with(path, &options, Some(&mut goes_on))
        });
        let work = work.map_err(|error| to_py(event_loop.py(), &refused(error)))?;
        awaitable(event_loop, work, move |py, loaded| match progress.take_error() {
            Some(raised) => Err(raised),
            None => Ok(Py::new(py, Self::new(loaded.map_err(|error| to_py(py, &error))?))?.into_any()),
        })
    }

    /// The properties of the model by name.
    fn facts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let model = self.0.get(py)?;
        let facts = PyDict::new(py);
        macro_rules! set { ($($name:ident),*) => { $(facts.set_item(stringify!($name), model.$name())?;)* } }
        set!(path, description, n_ctx_train, n_embd, n_layer, n_gpu_layers, n_params, n_vocab, size, bos, eos);
        facts.set_item("metadata", model.metadata().into_py_dict(py)?)?;
        facts.set_item("end_tokens", PyTuple::new(py, model.end_tokens())?)?;
        Ok(facts)
    }

    fn tokenize(&self, text: &Bound<'_, PyString>, add_special: bool, parse_special: bool) -> PyResult<Vec<TokenId>> {
        let py = text.py();
        let model = self.0.get(py)?.arc();
        let text = prompt::text(text).map_err(|failure| to_py(py, &failure.into()))?.to_owned();
        wait::for_work(py, move |go_on| model.tokenize_while(&text, add_special, parse_special, go_on))
    }

    fn apply_chat_template(&self, py: Python<'_>, chat: &Chat) -> PyResult<String> {
        let (model, chat) = (self.0.get(py)?.arc(), chat.0.clone());
        wait::for_work(py, move |go_on| model.apply_chat_template_while(&chat?, go_on))
    }

    fn tokenize_chat(&self, py: Python<'_>, chat: &Chat) -> PyResult<Vec<TokenId>> {
        let (model, chat) = (self.0.get(py)?.arc(), chat.0.clone());
        wait::for_work(py, move |go_on| model.tokenize_chat_while(&chat?, go_on))
    }

    fn detokenize(&self, py: Python<'_>, tokens: &Bound<'_, PyAny>) -> PyResult<String> {
        let model = self.0.get(py)?;
        let ids = Ids { name: "tokens", n_vocab: model.n_vocab(), context_len: None };
        let tokens = ids.read(&Value(tokens.clone()))?.map_err(|error| to_py(py, &error))?;
        let bytes = py.detach(|| model.detokenize(&tokens)).map_err(|error| to_py(py, &error))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn close(&self, py: Python<'_>) {
        if let Some(model) = self.0.take() {
            py.detach(|| model.close());
        }
    }
}
