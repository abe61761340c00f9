//! A loaded model, for the Python class of that name.

use std::path::PathBuf;
use std::sync::Arc;

use mullama::{ModelLoadFailure, ModelOptions, MullamaError, TokenId};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict, PyString, PyTuple};

use crate::error::to_py;
use crate::held::{Closable, Held};
use crate::prompt::{self, Chat, Ids};
use crate::settings::{Field, Setting};
use crate::wait;

/// A loaded model.
#[pyclass(frozen)]
pub(crate) struct Model(Closable<mullama::Model>);

impl Model {
    /// The native model, or `EngineClosedError`.
    pub(crate) fn held(&self, py: Python<'_>) -> PyResult<Held<mullama::Model>> {
        self.0.get(py)
    }
}

#[pymethods]
impl Model {
    #[staticmethod]
    #[expect(clippy::too_many_arguments, clippy::fn_params_excessive_bools, reason = "Python's keywords")]
    fn load(
        path: &Bound<'_, PyAny>,
        n_gpu_layers: &Bound<'_, PyAny>,
        use_mmap: bool,
        use_mlock: bool,
        check_tensors: bool,
        vocab_only: bool,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = path.py();
        let n_gpu_layers =
            Setting::take(n_gpu_layers, Field { name: "n_gpu_layers", range: Some("-2147483648 to 2147483647") })?;
        let path: PathBuf = path.extract()?;
        let options = ModelOptions { n_gpu_layers, use_mmap, use_mlock, check_tensors, vocab_only };
        let no_thread = {
            let path = path.clone();
            |source| MullamaError::ModelLoad { path, source: ModelLoadFailure::Thread(Arc::new(source)) }
        };
        let load = move |report: &mut dyn FnMut(f32) -> bool| mullama::Model::load_with(path, &options, Some(report));
        Ok(Self(Closable::new("model", Held::new(wait::for_work_with(py, progress, no_thread, load)?))))
    }

    /// What a model tells of itself, by name.
    fn facts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let model = self.held(py)?;
        let facts = PyDict::new(py);
        facts.set_item("path", model.path())?;
        facts.set_item("metadata", model.metadata().into_py_dict(py)?)?;
        facts.set_item("description", model.description())?;
        facts.set_item("n_ctx_train", model.n_ctx_train())?;
        facts.set_item("n_embd", model.n_embd())?;
        facts.set_item("n_layer", model.n_layer())?;
        facts.set_item("n_gpu_layers", model.n_gpu_layers())?;
        facts.set_item("n_params", model.n_params())?;
        facts.set_item("n_vocab", model.n_vocab())?;
        facts.set_item("size", model.size())?;
        facts.set_item("bos", model.bos())?;
        facts.set_item("eos", model.eos())?;
        facts.set_item("end_tokens", PyTuple::new(py, model.end_tokens())?)?;
        Ok(facts)
    }

    fn tokenize(&self, text: &Bound<'_, PyString>, add_special: bool, parse_special: bool) -> PyResult<Vec<TokenId>> {
        let py = text.py();
        let model = self.held(py)?;
        let text = prompt::text(text).map_err(|failure| to_py(py, &failure.into()))?.to_owned();
        let model = Arc::clone(model.arc());
        // A caller who has given up gets no answer, so nothing stands for it.
        let work = move |report: &mut dyn FnMut(f32) -> bool| {
            let done = model.tokenize_while(&text, add_special, parse_special, || report(0.0))?;
            Ok(done.unwrap_or_default())
        };
        wait::for_work_with(py, None, MullamaError::no_thread, work)
    }

    fn apply_chat_template(&self, py: Python<'_>, chat: &Chat) -> PyResult<String> {
        let (model, chat) = (Arc::clone(self.held(py)?.arc()), chat.0.clone());
        wait::for_work(py, move || model.apply_chat_template(&chat?))
    }

    fn tokenize_chat(&self, py: Python<'_>, chat: &Chat) -> PyResult<Vec<TokenId>> {
        let (model, chat) = (Arc::clone(self.held(py)?.arc()), chat.0.clone());
        let work = move |report: &mut dyn FnMut(f32) -> bool| {
            Ok(model.tokenize_chat_while(&chat?, || report(0.0))?.unwrap_or_default())
        };
        wait::for_work_with(py, None, MullamaError::no_thread, work)
    }

    fn detokenize(&self, tokens: &Bound<'_, PyAny>) -> PyResult<String> {
        let py = tokens.py();
        let model = self.held(py)?;
        let ids = Ids { name: "tokens", n_vocab: model.n_vocab(), context_len: None };
        let tokens = ids.read(tokens)?.map_err(|error| to_py(py, &error))?;
        let bytes = py.detach(|| model.detokenize(&tokens)).map_err(|error| to_py(py, &error))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn close(&self, py: Python<'_>) {
        if let Some(model) = self.0.take() {
            py.detach(|| model.close());
        }
    }
}
