//! Bodies of requests: bounded, parsed, and read field by field with errors that name the path.

mod body;
pub(crate) mod fields;
mod value;

pub(crate) use body::{Budget, read};
pub(crate) use value::Json;
