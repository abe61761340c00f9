//! A loaded model, as Python sees it.

use std::path::PathBuf;

use mullama::{ModelOptions, TokenId};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::error::to_py;
use crate::exit;
use crate::held::{Closable, Held};
use crate::load::load;
use crate::prompt;
use crate::settings::{Field, Setting};

/// A loaded model: its weights and its tokens.
///
/// Make contexts on it to generate text. It can be shared by any number of contexts and threads.
///
/// Example:
///     >>> model = Model.load("demo")
///     >>> model.detokenize(model.tokenize("Hello", add_special=False))
///     'Hello'
#[pyclass(frozen, weakref, module = "mullama")]
#[derive(Debug)]
pub(crate) struct Model(Closable<mullama::Model>);

/// `n_gpu_layers`, checked as a setting is.
struct Layers(i32);

impl<'py> FromPyObject<'_, 'py> for Layers {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        i32::take(&value, Field::new("n_gpu_layers", None)).map(Self)
    }
}

impl Model {
    /// The native model, or `EngineClosedError`.
    pub(crate) fn held(&self, py: Python<'_>) -> PyResult<Held<mullama::Model>> {
        self.0.get(py)
    }
}

#[pymethods]
impl Model {
    /// Loads a GGUF file. "demo" is the small model inside the package; a file of that name is "./demo".
    ///
    /// Blocks until the weights are there, without the GIL; Ctrl-C ends it.
    ///
    /// Args:
    ///     path: The file; for a model in several files, the first of them.
    ///     n_gpu_layers: Layers that go to a GPU, if there is one; below zero is all of them.
    ///     use_mmap: Maps the file into memory instead of reading it.
    ///     use_mlock: Keeps the weights in RAM, as far as the system allows it.
    ///     check_tensors: Looks at every weight for a NaN or an infinity.
    ///     progress: Called with how far it is, from 0.0 to 1.0; the load stops if it returns False or raises.
    ///
    /// Raises:
    ///     ModelNotFoundError: Nothing is there.
    ///     ModelLoadError: The file is no model that can run, or `progress` returned False.
    #[staticmethod]
    #[pyo3(
        signature = (path, *, n_gpu_layers=Layers(-1), use_mmap=true, use_mlock=false, check_tensors=false, progress=None),
        text_signature = "(path, *, n_gpu_layers=-1, use_mmap=True, use_mlock=False, check_tensors=False, progress=None)"
    )]
    #[expect(clippy::too_many_arguments, clippy::fn_params_excessive_bools, reason = "keywords, named at each call")]
    fn load(
        path: &Bound<'_, PyAny>,
        n_gpu_layers: Layers,
        use_mmap: bool,
        use_mlock: bool,
        check_tensors: bool,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = path.py();
        if progress.is_some_and(|progress| !progress.is_callable()) {
            return Err(PyTypeError::new_err("progress must be callable"));
        }
        let options = ModelOptions {
            n_gpu_layers: n_gpu_layers.0,
            use_mmap,
            use_mlock,
            check_tensors,
            ..ModelOptions::default()
        };
        let model = Held::new(load(py, locate(path)?, options, progress)?);
        exit::remember_model(model.arc());
        Ok(Self(Closable::new("model", model)))
    }

    /// Token ids of a text.
    ///
    /// Args:
    ///     text: The text.
    ///     add_special: Adds the tokens that begin and end a text, as the model says.
    ///     parse_special: Reads the names of control tokens as such; otherwise they are spelled out.
    ///
    /// Raises:
    ///     InvalidPromptError: The tokenizer refuses the text.
    #[pyo3(signature = (text, *, add_special=true, parse_special=true))]
    fn tokenize(&self, text: &Bound<'_, PyString>, add_special: bool, parse_special: bool) -> PyResult<Vec<TokenId>> {
        let py = text.py();
        let model = self.0.get(py)?;
        let text = prompt::text(text)?.map_err(|refusal| refusal.to_py(py))?;
        let tokens = py.detach(|| model.tokenize_with(text, add_special, parse_special));
        tokens.map_err(|error| to_py(py, &error))
    }

    /// Text of token ids. Control tokens have none; bytes that are no text become U+FFFD.
    ///
    /// Raises:
    ///     InvalidPromptError: The model does not have one of the tokens.
    fn detokenize(&self, tokens: &Bound<'_, PyAny>) -> PyResult<String> {
        let py = tokens.py();
        let model = self.0.get(py)?;
        let tokens = prompt::token_ids("tokens", "a sequence of token ids", tokens)?;
        let tokens = tokens.map_err(|refusal| refusal.to_py(py))?;
        let bytes = py.detach(|| model.detokenize(&tokens)).map_err(|error| to_py(py, &error))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The path it was loaded from.
    #[getter]
    fn path(&self, py: Python<'_>) -> PyResult<PathBuf> {
        Ok(self.0.get(py)?.path().to_owned())
    }

    /// The file's metadata, keys and values as text.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let metadata = PyDict::new(py);
        for (key, value) in self.0.get(py)?.metadata() {
            metadata.set_item(key, value)?;
        }
        Ok(metadata)
    }

    /// Architecture, size and number format in a few words.
    #[getter]
    fn description(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.0.get(py)?.description())
    }

    /// Context length that the model was trained for, in tokens.
    #[getter]
    fn n_ctx_train(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(self.0.get(py)?.n_ctx_train())
    }

    /// Width of an embedding.
    #[getter]
    fn n_embd(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(self.0.get(py)?.n_embd())
    }

    /// Number of layers.
    #[getter]
    fn n_layer(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(self.0.get(py)?.n_layer())
    }

    /// Number of weights.
    #[getter]
    fn n_params(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.0.get(py)?.n_params())
    }

    /// Number of tokens in the vocabulary.
    #[getter]
    fn n_vocab(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.0.get(py)?.n_vocab())
    }

    /// Size of all weights in bytes.
    #[getter]
    fn size(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.0.get(py)?.size())
    }

    /// The token that begins a text, if the model has one.
    #[getter]
    fn bos(&self, py: Python<'_>) -> PyResult<Option<TokenId>> {
        Ok(self.0.get(py)?.bos())
    }

    /// The token that ends a text, if the model has one.
    #[getter]
    fn eos(&self, py: Python<'_>) -> PyResult<Option<TokenId>> {
        Ok(self.0.get(py)?.eos())
    }

    /// All tokens that end a generation.
    #[getter]
    fn end_tokens(&self, py: Python<'_>) -> PyResult<Vec<TokenId>> {
        Ok(self.0.get(py)?.end_tokens())
    }

    /// Ends everything that runs on the model; open streams end with `EngineClosedError`, and so do later calls.
    ///
    /// The weights are freed when the last context and stream on them is gone. Closing again does nothing.
    fn close(&self, py: Python<'_>) {
        if let Some(model) = self.0.take() {
            py.detach(|| model.close());
        }
    }

    fn __enter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close(py);
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        match self.0.get(py) {
            Ok(model) => format!("<Model '{}', {}>", model.path().display(), model.description()),
            Err(_) => "<Model, closed>".to_owned(),
        }
    }
}

/// The file that `path` names. Only a `str` can be a name; a path object is always a path.
fn locate(path: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    let py = path.py();
    if path.cast::<PyString>().is_ok_and(|name| name == "demo") {
        let package: PathBuf = py.import("mullama")?.filename()?.extract()?;
        return Ok(package.with_file_name("models").join("demo.gguf"));
    }
    path.extract::<PathBuf>().map_err(|error| {
        if !error.is_instance_of::<PyTypeError>(py) {
            return error;
        }
        let kind = path.get_type().name();
        let mistyped = |kind| PyTypeError::new_err(format!("path must be a str or an os.PathLike, not {kind}"));
        kind.map_or_else(|error| error, mistyped)
    })
}
