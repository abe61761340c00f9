//! Tables of the fields of each endpoint: every field is honoured or refused by name, and none is ignored.
//!
//! The same tables are the source of the documentation's tables and of the tests.

use mullama::{Field as Target, Setting, StreamConfig, TokenId};
use serde_json::Value;

use super::Json;
use crate::error::ApiError;

/// What happens with a field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Handling {
    /// It sets this field of [`StreamConfig`].
    Sets(&'static str),
    /// The endpoint reads it.
    Read,
    /// It is accepted if it has one of these values (as JSON), which say what the server does anyway.
    Only(&'static [&'static str]),
    /// As `Only`, until the rest is built.
    OnlyYet(&'static [&'static str]),
    /// Its meaning allows to do nothing, for this reason.
    NoEffect(&'static str),
    /// It is refused, for this reason.
    Refused(&'static str),
}

/// A field of an endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) handling: Handling,
}

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
        Handling::Sets("logit_bias") => set_logit_bias(value, config),
        Handling::Sets(name) => config.set(name, value).map(drop),
        _ => allowed(known, value),
    })?;
    // A client may shorten the server's own limit, and not lengthen it.
    if let Some(most) = most_ms {
        config.timeout_ms = Some(config.timeout_ms.filter(|ms| *ms > 0).map_or(most, |ms| ms.min(most)));
    }
    config.validate().map_err(|error| renamed(error.into(), tables))
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
        let known = tables.iter().flat_map(|table| table.iter()).find(|field| field.name == name);
        let Some(known) = known else { return Err(unknown(tables, object, name)) };
        if let Some(value) = object.get(name)? {
            handle(known, &value)?;
        }
    }
    Ok(())
}

/// The error of a field that no table has, with the name that was meant if one is close.
fn unknown(tables: &[&[Field]], object: &Json<'_>, name: &str) -> ApiError {
    let name = shortened(name);
    let at = if object.path().is_empty() { name.clone() } else { format!("{}.{name}", object.path()) };
    let likeness = |field: &&Field| strsim::jaro_winkler(field.name, &name);
    let all = tables.iter().flat_map(|table| table.iter());
    let nearest = all.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|field| likeness(field) > CLOSE);
    match nearest {
        Some(nearest) => ApiError::field(at, format_args!("is not a known field; did you mean {}?", nearest.name)),
        None => ApiError::field(at, "is not a known field"),
    }
}

fn allowed(field: &Field, value: &Json<'_>) -> Result<(), ApiError> {
    match field.handling {
        Handling::Sets(_) | Handling::Read | Handling::NoEffect(_) => Ok(()),
        Handling::Only(values) | Handling::OnlyYet(values) if values.contains(&value.value().to_string().as_str()) => {
            Ok(())
        }
        Handling::Only(values) => Err(value.error(format_args!("must be {} here", values.join(" or ")))),
        Handling::OnlyYet(values) => {
            Err(value.error(format_args!("is not supported yet; it must be {} or left out", values.join(" or "))))
        }
        Handling::Refused(reason) => Err(value.error(reason)),
    }
}

/// Biases as an object of token ids, or as llama-server's list of pairs.
fn set_logit_bias(value: &Json<'_>, config: &mut StreamConfig) -> Result<(), ApiError> {
    let bias = |token: TokenId, bias: &Json<'_>| match bias.value() {
        Value::Bool(false) => Ok((token, f32::NEG_INFINITY)),
        _ => Ok::<_, ApiError>((token, Setting::take(bias, Target::new("logit_bias", |_| None))?)),
    };
    let biases = match value.value() {
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(key, number)| {
                let at = Json::new(number, format!("{}.{}", value.path(), shortened(key)));
                let token = key.parse().map_err(|_| at.error("must have a token id as its key"))?;
                bias(token, &at)
            });
            pairs.collect::<Result<Vec<_>, _>>()
        }
        Value::Array(_) => {
            let pairs = value.list()?.into_iter().map(|pair| match pair.list()?.as_slice() {
                [token, number] => {
                    bias(TokenId::try_from(token.integer(0, i32::MAX.into())?).unwrap_or(TokenId::MAX), number)
                }
                _ => Err(pair.error("must be a pair of a token id and a bias")),
            });
            pairs.collect()
        }
        _ => Err(value.must_be("an object of token ids and biases")),
    }?;
    config.logit_bias = biases;
    Ok(())
}

/// The error of the config's own check, with the name that the field has in this endpoint.
pub(crate) fn renamed(error: ApiError, tables: &[&[Field]]) -> ApiError {
    let Some(name) = error.field.as_deref() else { return error };
    let sets = |field: &&Field| matches!(field.handling, Handling::Sets(set) if set == name);
    let Some(field) = tables.iter().flat_map(|table| table.iter()).find(sets) else { return error };
    let message = match error.message.strip_prefix(name) {
        Some(rest) => format!("{}{rest}", field.name),
        None => error.message.clone(),
    };
    ApiError { message, field: Some(field.name.to_owned()), ..error }
}

/// A name of a field as an error repeats it.
fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}

/// The tables as Markdown, for the documentation.
#[cfg(test)]
pub(crate) fn markdown(tables: &[&[Field]]) -> String {
    let mut lines = String::from("| Field | What happens |\n|---|---|\n");
    let mut seen = std::collections::HashSet::new();
    for field in tables.iter().flat_map(|table| table.iter()).filter(|field| seen.insert(field.name)) {
        let what = match field.handling {
            Handling::Sets(name) if name == field.name => "is honoured".to_owned(),
            Handling::Sets(name) => format!("is honoured, as `{name}`"),
            Handling::Read => "is honoured".to_owned(),
            Handling::Only(values) => format!("only `{}`", values.join("` or `")),
            Handling::OnlyYet(values) => format!("only `{}` until the rest is supported", values.join("` or `")),
            Handling::NoEffect(reason) => format!("has no effect: {reason}"),
            Handling::Refused(reason) => format!("refused: it {reason}"),
        };
        lines.extend(["| `", field.name, "` | ", &what, " |\n"]);
    }
    lines
}
