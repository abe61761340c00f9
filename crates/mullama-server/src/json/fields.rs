//! Tables of the fields of each endpoint: every field is honoured or refused by name, and none is ignored.
//!
//! The same tables are the source of the documentation's tables and of the tests.

use std::sync::LazyLock;

use mullama::{DynamicValue as _, MullamaError, StreamConfig};
use serde_json::Value;

use super::kind::Kind;
use super::value::{is_same, shortened};
use super::{Json, biases};
use crate::error::ApiError;

/// What happens with a field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Handling {
    /// It sets this field of [`StreamConfig`].
    Sets(&'static str),
    /// The endpoint reads it.
    Read,
    /// The endpoint reads it, after its type was checked.
    Checked(Kind),
    /// It is accepted if it has one of these values (as JSON), which say what the server does anyway.
    Only(&'static [&'static str]),
    /// As `Only`, until the rest is built.
    OnlyYet(&'static [&'static str]),
    /// Its meaning allows to do nothing, for this reason; its type is checked.
    NoEffect(Kind, &'static str),
    /// It is refused, for this reason.
    Refused(&'static str),
}

/// A field of an endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) handling: Handling,
}

/// Settings that 0 turns off, and that some clients turn off with -1.
const OFF_BELOW_ZERO: [&str; 2] = ["top_k", "top_n_sigma"];
static OFF: LazyLock<Value> = LazyLock::new(|| 0.into());

/// From this likeness on a wrong name of a field is taken for a slip of the keyboard.
const CLOSE: f64 = 0.9;

/// What a field is refused with until it is built.
pub(crate) const NOT_YET: Handling = Handling::Refused("is not supported yet");

pub(crate) const fn field(name: &'static str, handling: Handling) -> Field {
    Field { name, handling }
}

/// Checks every field of a request against the tables of its endpoint, and sets those of the config.
pub(crate) fn apply(tables: &[&[Field]], body: &Json<'_>, config: &mut StreamConfig) -> Result<(), ApiError> {
    let most_ms = config.timeout_ms.filter(|ms| *ms > 0);
    each(tables, body, |known, value| match known.handling {
        Handling::Sets(name) => {
            check_aliases(name, known, tables, body, value)?;
            if name == "logit_bias" {
                config.logit_bias = biases::read(value)?;
                return Ok(());
            }
            if OFF_BELOW_ZERO.contains(&name) && is_one_of(value.value(), &["-1"]) {
                return config.set(name, &Json::new(&OFF, known.name)).map(drop);
            }
            config.set(name, value)?;
            check_timeout(name, value, most_ms, config)?;
            check_alias(name, known, value, config)
        }
        _ => allowed(known, value),
    })?;
    config.validate().map_err(|error| renamed(error.into(), tables))
}

/// Refuses a limit of the whole request that is longer than the server's own.
fn check_timeout(setting: &str, value: &Json<'_>, most: Option<u64>, config: &StreamConfig) -> Result<(), ApiError> {
    let Some(most) = most.filter(|_| setting == "timeout_ms") else { return Ok(()) };
    if config.timeout_ms.is_some_and(|ms| (1..=most).contains(&ms)) {
        return Ok(());
    }
    Err(value.error(format_args!("is {}, but this server allows 1 to {most}", value.value())))
}

/// Checks every field of an object inside a request; none of them sets a field of a config.
pub(crate) fn check(table: &[Field], object: &Json<'_>) -> Result<(), ApiError> {
    each(&[table], object, allowed)
}

/// Calls `handle` for each field that is not null; a field that is in no table is refused. The first table that has a
/// field decides what happens with it.
fn each(
    tables: &[&[Field]],
    object: &Json<'_>,
    mut handle: impl FnMut(&Field, &Json<'_>) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    for name in object.object()?.keys() {
        let Some(value) = object.get(name)? else { continue };
        let Some(known) = find(tables, |field| field.name == name) else { return Err(unknown(tables, object, name)) };
        handle(known, &value)?;
    }
    Ok(())
}

fn find<'t>(tables: &'t [&[Field]], is_meant: impl Fn(&Field) -> bool) -> Option<&'t Field> {
    tables.iter().flat_map(|table| table.iter()).find(|field| is_meant(field))
}

/// Checks a setting that the request gives under another name, so that the error has that name.
fn check_alias(setting: &str, known: &Field, value: &Json<'_>, config: &StreamConfig) -> Result<(), ApiError> {
    if known.name == setting {
        return Ok(());
    }
    match config.validate() {
        Err(error @ MullamaError::InvalidConfig { field, .. }) if field == setting => Err(value.raised(error)),
        _ => Ok(()),
    }
}

/// Refuses a field whose setting another field of the request sets to another value.
fn check_aliases(
    setting: &str,
    known: &Field,
    tables: &[&[Field]],
    body: &Json<'_>,
    value: &Json<'_>,
) -> Result<(), ApiError> {
    let is_alias = |field: &&Field| {
        field.name != known.name && matches!(field.handling, Handling::Sets(other) if other == setting)
    };
    for alias in tables.iter().flat_map(|table| table.iter()).filter(is_alias) {
        if body.get(alias.name)?.is_some_and(|other| !is_same(other.value(), value.value())) {
            let message = format_args!("and {} differ, but mean the same: give one of them", alias.name);
            return Err(value.error(message));
        }
    }
    Ok(())
}

/// The error of a field that no table has, with the name that was meant if one is close.
fn unknown(tables: &[&[Field]], object: &Json<'_>, name: &str) -> ApiError {
    let at = object.child(name);
    let name = shortened(name);
    let all = tables.iter().flat_map(|table| table.iter());
    let likeness = all.map(|field| (strsim::jaro_winkler(field.name, &name), field.name));
    match likeness.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(likeness, _)| *likeness > CLOSE) {
        Some((_, nearest)) => ApiError::field(at, format_args!("is not a known field; did you mean {nearest}?")),
        None => ApiError::field(at, "is not a known field"),
    }
}

fn allowed(field: &Field, value: &Json<'_>) -> Result<(), ApiError> {
    match field.handling {
        Handling::Sets(_) | Handling::Read => Ok(()),
        Handling::Checked(kind) | Handling::NoEffect(kind, _) => kind.check(value),
        Handling::Only(values) | Handling::OnlyYet(values) if is_one_of(value.value(), values) => Ok(()),
        Handling::Only(values) => Err(value.error(format_args!("must be {} or left out", values.join(", ")))),
        Handling::OnlyYet(values) => {
            Err(value.error(format_args!("is not supported yet; it must be {} or left out", values.join(", "))))
        }
        Handling::Refused(reason) => Err(value.error(reason)),
    }
}

/// Whether a value is one of these, which are JSON.
fn is_one_of(value: &Value, values: &[&str]) -> bool {
    values.iter().any(|known| serde_json::from_str(known).is_ok_and(|known| is_same(&known, value)))
}

/// The error of the config's own check, with the name that the field has in this endpoint.
pub(crate) fn renamed(error: ApiError, tables: &[&[Field]]) -> ApiError {
    let Some(name) = error.field.as_deref() else { return error };
    let sets = |field: &Field| matches!(field.handling, Handling::Sets(set) if set == name);
    let Some(field) = find(tables, sets) else { return error };
    let message = match error.message.strip_prefix(name) {
        Some(rest) => format!("{}{rest}", field.name),
        None => error.message.clone(),
    };
    ApiError { message, field: Some(field.name.to_owned()), ..error }
}

/// How a field that an endpoint reads is honoured.
#[cfg(test)]
fn honoured(name: &str) -> &'static str {
    match name {
        "samplers" => "is honoured: it must name, in llama.cpp's default order, all samplers that are not turned off",
        "verbosity" | "reasoning_effort" => "is honoured: the model's template is given it",
        "penalize_nl" | "penalize_newline" => "is honoured: together with penalties it must be `true`",
        _ => "is honoured",
    }
}

/// The tables as Markdown, for the documentation.
#[cfg(test)]
pub(crate) fn markdown(tables: &[&[Field]]) -> String {
    let mut lines = String::from("| Field | What happens |\n|---|---|\n");
    let mut seen = std::collections::HashSet::new();
    for field in tables.iter().flat_map(|table| table.iter()).filter(|field| seen.insert(field.name)) {
        let what = match field.handling {
            Handling::Sets(name) if name == field.name && OFF_BELOW_ZERO.contains(&name) => {
                "is honoured; -1 is off, as 0 is".to_owned()
            }
            Handling::Sets(name) if name == field.name => "is honoured".to_owned(),
            Handling::Sets(name) => format!("is honoured, as `{name}`"),
            Handling::Read | Handling::Checked(_) => honoured(field.name).to_owned(),
            Handling::Only(values) => format!("only `{}`", values.join("` or `")),
            Handling::OnlyYet(values) => format!("only `{}` until the rest is supported", values.join("` or `")),
            Handling::NoEffect(_, reason) => format!("has no effect: {reason}"),
            Handling::Refused(reason) => format!("refused: it {reason}"),
        };
        lines.extend(["| `", field.name, "` | ", &what, " |\n"]);
    }
    lines
}
