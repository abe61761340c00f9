//! Bodies of requests: bounded, parsed, and read field by field with errors that name the path.

mod body;
pub(crate) mod fields;
mod value;

pub(crate) use body::{Budget, Parsed, read};
#[cfg(test)]
pub(crate) use fields::{Field, Handling, markdown};
pub(crate) use value::Json;
