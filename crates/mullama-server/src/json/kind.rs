//! Types of the values of fields, which are checked before the endpoint reads them.

use serde_json::{Value, json};

use super::Json;
use super::fields::{self, Field};
use crate::error::ApiError;

/// Most items of a list.
const MOST_ITEMS: usize = 4096;

/// A type of values.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Flag,
    /// An integer of this range.
    Integer(i64, i64),
    /// Any number.
    Number,
    /// One of these texts.
    Word(&'static [&'static str]),
    /// A list of values of this type.
    List(&'static Kind),
    /// An object with these fields.
    Object(&'static [Field]),
    /// An object with any fields, which belongs to others.
    AnyObject,
    /// Any of these types.
    Either(&'static [Kind]),
    /// Texts by name, within `OpenAI`'s limits.
    Metadata,
}

/// Most pairs of metadata, and most characters of a name and of a value: `OpenAI`'s limits.
const METADATA: (usize, usize, usize) = (16, 64, 512);

impl Kind {
    /// Checks a value.
    pub(crate) fn check(self, value: &Json<'_>) -> Result<(), ApiError> {
        match self {
            Self::Text => value.text().map(drop),
            Self::Flag => value.flag().map(drop),
            Self::Integer(least, most) => value.integer(least..=most).map(drop),
            Self::Number if value.value().is_number() => Ok(()),
            Self::Number => Err(value.must_be("a number")),
            Self::Word(words) if words.contains(&value.text()?) => Ok(()),
            Self::Word(words) => Err(value.error(format_args!("must be {}", words.join(" or ")))),
            Self::List(kind) => value.list_of(MOST_ITEMS, "items")?.try_for_each(|item| kind.check(&item)),
            Self::Object(table) => fields::check(table, value),
            Self::AnyObject => value.object().map(drop),
            Self::Either(kinds) => check_either(kinds, value),
            Self::Metadata => check_metadata(value),
        }
    }

    /// The type in words.
    fn words(self) -> &'static str {
        match self {
            Self::Text | Self::Word(_) => "a string",
            Self::Flag => "true or false",
            Self::Integer(..) => "an integer",
            Self::Number => "a number",
            Self::List(_) => "a list",
            Self::Object(_) | Self::AnyObject | Self::Metadata => "an object",
            Self::Either(_) => "another value",
        }
    }

    /// Whether a value has this type as far as JSON's own types go.
    fn is_like(self, value: &Value) -> bool {
        match self {
            Self::Text | Self::Word(_) => value.is_string(),
            Self::Flag => value.is_boolean(),
            Self::Integer(..) | Self::Number => value.is_number(),
            Self::List(_) => value.is_array(),
            Self::Object(_) | Self::AnyObject | Self::Metadata => value.is_object(),
            Self::Either(kinds) => kinds.iter().any(|kind| kind.is_like(value)),
        }
    }

    /// The type as a JSON schema.
    pub(crate) fn schema(self) -> Value {
        match self {
            Self::Text => json!({"type": "string"}),
            Self::Flag => json!({"type": "boolean"}),
            Self::Integer(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
            Self::Number => json!({"type": "number"}),
            Self::Word(words) => json!({"enum": words}),
            Self::List(kind) => json!({"type": "array", "items": kind.schema(), "maxItems": MOST_ITEMS}),
            Self::Object(table) => {
                let fields = table.iter().map(|field| (field.name.to_owned(), schema_of(field)));
                let properties: serde_json::Map<_, _> = fields.collect();
                json!({"type": "object", "properties": properties, "additionalProperties": false})
            }
            Self::AnyObject => json!({"type": "object"}),
            Self::Either(kinds) => json!({"anyOf": kinds.iter().map(|kind| kind.schema()).collect::<Vec<_>>()}),
            Self::Metadata => json!({
                "type": "object",
                "maxProperties": METADATA.0,
                "propertyNames": {"maxLength": METADATA.1},
                "additionalProperties": {"type": "string", "maxLength": METADATA.2},
            }),
        }
    }
}

/// The schema of a field inside an object.
fn schema_of(field: &Field) -> Value {
    match field.handling {
        fields::Handling::NoEffect(kind, _) | fields::Handling::Checked(kind) => or_null(&kind.schema()),
        fields::Handling::Only(values) | fields::Handling::OnlyYet(values) => {
            let values = values.iter().filter_map(|value| serde_json::from_str::<Value>(value).ok());
            json!({"enum": values.chain([Value::Null]).collect::<Vec<_>>()})
        }
        fields::Handling::Refused(_) => json!({"type": "null"}),
        fields::Handling::Read | fields::Handling::Sets(_) => json!({}),
    }
}

/// A schema that takes null as well.
pub(crate) fn or_null(schema: &Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

fn check_length(value: &Json<'_>, most: usize) -> Result<(), ApiError> {
    let count = value.text()?.chars().count();
    if count > most {
        return Err(value.error(format_args!("has {count} characters, but may have at most {most}")));
    }
    Ok(())
}

fn check_either(kinds: &[Kind], value: &Json<'_>) -> Result<(), ApiError> {
    match kinds.iter().find(|kind| kind.is_like(value.value())) {
        Some(kind) => kind.check(value),
        None => Err(value.must_be(&kinds.iter().map(|kind| kind.words()).collect::<Vec<_>>().join(" or "))),
    }
}

/// Texts by name, for the client's own use.
fn check_metadata(value: &Json<'_>) -> Result<(), ApiError> {
    let (most, name_chars, value_chars) = METADATA;
    let count = value.object()?.len();
    if count > most {
        return Err(value.error(format_args!("has {count} pairs, but may have at most {most}")));
    }
    for name in value.object()?.keys() {
        if name.chars().count() > name_chars {
            return Err(value.error(format_args!("has a name of more than {name_chars} characters")));
        }
        check_length(&value.require(name)?, value_chars)?;
    }
    Ok(())
}
