//! Bodies of requests: bounded, parsed, and read field by field with errors that name the path.

#[cfg(test)]
pub(crate) mod arbitrary;
mod biases;
mod body;
mod content;
pub(crate) mod fields;
mod kind;
mod parse;
mod value;

pub(crate) use biases::Biases;
pub(crate) use body::{Budget, Parsed, parsed_bytes, read, sized};
#[cfg(test)]
pub(crate) use fields::{Field, Handling, markdown};
pub(crate) use kind::{Kind, or_null};
pub(crate) use parse::parse;
pub(crate) use value::{Json, shortened};
