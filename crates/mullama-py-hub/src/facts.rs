//! What the hub knows, as dicts of which the package makes its values.

use std::path::Path;

use mullama_hub::{Listed, LocalModel, Shown};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use serde::Serialize;
use serde_json::Value;

/// A model on this machine.
pub(crate) fn local<'py>(py: Python<'py>, model: &LocalModel) -> PyResult<Bound<'py, PyDict>> {
    with_path(dict(py, model)?, &model.path)
}

/// A model in the list.
pub(crate) fn listed<'py>(py: Python<'py>, model: &Listed) -> PyResult<Bound<'py, PyDict>> {
    with_path(dict(py, model)?, &model.path)
}

/// What is known about a model.
pub(crate) fn shown<'py>(py: Python<'py>, model: &Shown) -> PyResult<Bound<'py, PyDict>> {
    let facts = dict(py, model)?;
    facts.set_item("files", PyTuple::new(py, &model.files)?)?;
    Ok(facts)
}

/// The path itself in place of its text, which need not be the whole truth.
fn with_path<'py>(facts: Bound<'py, PyDict>, path: &Path) -> PyResult<Bound<'py, PyDict>> {
    facts.set_item("path", path)?;
    Ok(facts)
}

/// A value of the hub with its fields by name, as they are in JSON.
fn dict<'py>(py: Python<'py>, value: &impl Serialize) -> PyResult<Bound<'py, PyDict>> {
    let value = serde_json::to_value(value).expect("its keys are texts");
    Ok(object(py, &value)?.cast_into::<PyDict>()?)
}

/// JSON as Python's `json` would make objects of it.
fn object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::Null => Ok(py.None().into_bound(py)),
        Value::Bool(flag) => Ok(flag.into_pyobject(py)?.to_owned().into_any()),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Ok(number.into_pyobject(py)?.into_any()),
            None => Ok(number.as_f64().unwrap_or(f64::NAN).into_pyobject(py)?.into_any()),
        },
        Value::String(text) => Ok(text.into_pyobject(py)?.into_any()),
        Value::Array(items) => {
            let items = items.iter().map(|item| object(py, item)).collect::<PyResult<Vec<_>>>()?;
            Ok(PyTuple::new(py, items)?.into_any())
        }
        Value::Object(fields) => {
            let made = PyDict::new(py);
            for (name, value) in fields {
                made.set_item(name, object(py, value)?)?;
            }
            Ok(made.into_any())
        }
    }
}
