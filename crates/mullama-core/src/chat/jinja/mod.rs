//! Jinja for chat templates, rendered as Hugging Face's libraries render it, within a budget.
//!
//! They set Jinja2 up with `trim_blocks` and `lstrip_blocks`, the tags `break`, `continue` and `generation`, the
//! functions
//! `raise_exception` and `strftime_now`, a `tojson` of their own, and a sandbox in which no list or dict changes
//! (`transformers.utils.chat_template_utils`).
//!
//! A template comes from an untrusted file, so it is a program that may try to use all memory or never end. Here no
//! operation on values is free: each pays the meter of its rendering for what it visits, copies and holds, before it
//! does so. That is why this interpreter exists: in an engine whose values compare, hash and print themselves, these
//! operations cannot check a limit.
//!
//! Flow: source → `lexer` → `parser` → `runner` → text.

mod arguments;
mod ast;
#[cfg(test)]
mod budget_tests;
mod calls;
mod compare;
mod convert;
mod dict;
mod error;
mod eval;
mod expression;
mod filters;
mod format;
mod functions;
mod json;
mod lexer;
mod list_filters;
mod loops;
mod meter;
mod methods;
mod operators;
mod parser;
mod percent;
mod print;
#[cfg(test)]
mod rendering_tests;
mod runner;
mod scope;
mod spec;
mod tests;
mod text;
mod text_filters;
mod text_methods;
mod value;

use std::rc::Rc;

pub(super) use convert::{Input, size_of_input};
pub(super) use error::{Error, Kind};
pub(super) use meter::{Limits, Meter};

/// Maximum length of a template in bytes. Well-known ones have up to 30,000.
const MAX_SOURCE: usize = 256 << 10;

/// Renders a template with these variables. Several renderings may share a meter, and so the work that they may do.
pub(super) fn rendered(source: &str, variables: &[(&str, Input<'_>)], meter: &Rc<Meter>) -> Result<String, Error> {
    if source.len() > MAX_SOURCE {
        let reason = format!("the template has {} bytes, at most {MAX_SOURCE} are allowed", source.len());
        return Err(Error::syntax(reason, 1));
    }
    let body = parser::parse(source, meter)?;
    let variables = variables.iter().map(|(name, value)| Ok(((*name).into(), convert::value(value, meter)?)));
    runner::Runner::new(variables.collect::<Result<_, Error>>()?, meter)?.render(&body)
}
