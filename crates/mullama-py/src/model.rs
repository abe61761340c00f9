//! A loaded model, for the Python class of that name.

use std::path::PathBuf;

use mullama::{ModelOptions, TokenId};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::error::to_py;
use crate::exit;
use crate::held::{Closable, Held};
use crate::load::load;
use crate::prompt;
use crate::settings::{Field, Setting};

/// A loaded model. What it tells of itself it still tells when it is closed.
#[pyclass(frozen)]
#[derive(Debug)]
pub(crate) struct Model {
    model: Closable<mullama::Model>,
    #[pyo3(get)]
    path: PathBuf,
    #[pyo3(get)]
    metadata: Vec<(String, String)>,
    #[pyo3(get)]
    description: String,
    #[pyo3(get)]
    n_ctx_train: u32,
    #[pyo3(get)]
    n_embd: u32,
    #[pyo3(get)]
    n_layer: u32,
    #[pyo3(get)]
    n_params: u64,
    #[pyo3(get)]
    n_vocab: usize,
    #[pyo3(get)]
    size: u64,
    #[pyo3(get)]
    bos: Option<TokenId>,
    #[pyo3(get)]
    eos: Option<TokenId>,
    #[pyo3(get)]
    end_tokens: Vec<TokenId>,
}

impl Model {
    fn of(model: Held<mullama::Model>) -> Self {
        Self {
            path: model.path().to_owned(),
            metadata: model.metadata(),
            description: model.description(),
            n_ctx_train: model.n_ctx_train(),
            n_embd: model.n_embd(),
            n_layer: model.n_layer(),
            n_params: model.n_params(),
            n_vocab: model.n_vocab(),
            size: model.size(),
            bos: model.bos(),
            eos: model.eos(),
            end_tokens: model.end_tokens(),
            model: Closable::new("model", model),
        }
    }

    /// The native model, or `EngineClosedError`.
    pub(crate) fn held(&self, py: Python<'_>) -> PyResult<Held<mullama::Model>> {
        self.model.get(py)
    }
}

#[pymethods]
impl Model {
    #[staticmethod]
    #[expect(clippy::too_many_arguments, reason = "the keywords of Python's Model.load")]
    fn load(
        py: Python<'_>,
        path: PathBuf,
        n_gpu_layers: &Bound<'_, PyAny>,
        use_mmap: bool,
        use_mlock: bool,
        check_tensors: bool,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let n_gpu_layers = Setting::take(n_gpu_layers, Field { name: "n_gpu_layers", range: None })?;
        let options = ModelOptions { n_gpu_layers, use_mmap, use_mlock, check_tensors, ..ModelOptions::default() };
        let model = Held::new(load(py, path, options, progress)?);
        exit::remember_model(model.arc());
        Ok(Self::of(model))
    }

    fn tokenize(&self, text: &Bound<'_, PyString>, add_special: bool, parse_special: bool) -> PyResult<Vec<TokenId>> {
        let py = text.py();
        let model = self.held(py)?;
        let text = prompt::text(text)?.map_err(|refusal| refusal.to_py(py))?;
        let tokens = py.detach(|| model.tokenize_with(text, add_special, parse_special));
        tokens.map_err(|error| to_py(py, &error))
    }

    fn detokenize(&self, tokens: &Bound<'_, PyAny>) -> PyResult<String> {
        let py = tokens.py();
        let model = self.held(py)?;
        let tokens = prompt::token_ids("tokens", tokens)?.map_err(|refusal| refusal.to_py(py))?;
        let bytes = py.detach(|| model.detokenize(&tokens)).map_err(|error| to_py(py, &error))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn close(&self, py: Python<'_>) {
        if let Some(model) = self.model.take() {
            py.detach(|| model.close());
        }
    }

    #[getter]
    fn closed(&self) -> bool {
        self.model.is_closed()
    }
}
