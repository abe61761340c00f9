//! JSON schemas of requests, from the tables of fields and the limits of the stream's config.

use std::sync::LazyLock;

use mullama::{Limits, StreamConfig};
use serde_json::{Map, Value, json};

use super::endpoints::Endpoint;
use crate::json::fields::{Field, Handling};
use crate::json::{Json, or_null};

/// The schemas of the fields that endpoints read themselves. A name with the endpoint's path before it goes first.
static READ: LazyLock<Map<String, Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("fields.json")).unwrap_or_default());

/// The schema of an endpoint's body.
pub(super) fn of_request(endpoint: &Endpoint) -> Value {
    let mut schema = of_object(endpoint, endpoint.tables, endpoint.required);
    for (name, tables) in endpoint.nested {
        let mut nested = of_object(endpoint, tables, &[]);
        nested["type"] = json!(["object", "null"]);
        nested["description"] = schema["properties"][*name]["description"].take();
        schema["properties"][*name] = nested;
    }
    schema
}

fn of_object(endpoint: &Endpoint, tables: &[&[Field]], required: &[&str]) -> Value {
    let fields = tables.iter().flat_map(|table| table.iter());
    let mut properties: Map<String, Value> =
        fields.map(|field| (field.name.to_owned(), of_field(field, endpoint.path))).collect();
    for name in required {
        // A field that may be null elsewhere may not be missing here.
        if let Some(kinds) = properties.get_mut(*name).and_then(|schema| schema.get_mut("type")?.as_array_mut()) {
            kinds.retain(|kind| kind != "null");
        }
    }
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn of_field(field: &Field, path: &str) -> Value {
    match field.handling {
        Handling::Sets(name) => READ.get(field.name).cloned().unwrap_or_else(|| of_setting(name)),
        Handling::Read | Handling::Checked(_) => {
            let own = READ.get(&format!("{path} {}", field.name)).or_else(|| READ.get(field.name)).cloned();
            own.unwrap_or_else(|| match field.handling {
                Handling::Checked(kind) => or_null(&kind.schema()),
                _ => json!({}),
            })
        }
        Handling::Only(values) | Handling::OnlyYet(values) => {
            let values = values.iter().filter_map(|value| serde_json::from_str::<Value>(value).ok());
            json!({"enum": values.chain([Value::Null]).collect::<Vec<_>>()})
        }
        Handling::NoEffect(kind, reason) => {
            let mut schema = or_null(&kind.schema());
            schema["description"] = format!("Has no effect: {reason}.").into();
            schema
        }
        // A null is as good as no field at all.
        Handling::Refused(reason) => json!({"type": "null", "description": format!("A value {reason}.")}),
    }
}

/// The schema of a field of the config: its type is found out by setting it, its limits are the config's own.
fn of_setting(name: &str) -> Value {
    let takes = |value: Value| StreamConfig::new().set(name, &Json::new(&value, name)).is_ok();
    let limits = StreamConfig::limits().into_iter().find(|(limited, _)| *limited == name).map(|(_, limits)| limits);
    match limits {
        None => json!({"type": ["boolean", "null"]}),
        Some(Limits::Items(most)) => {
            let kind = if takes(json!([1])) { "integer" } else { "string" };
            json!({"type": ["array", "null"], "items": {"type": kind}, "maxItems": most})
        }
        Some(Limits::Numbers(least, most)) => {
            // Half of the way to the next integer is a value of every field that is not an integer.
            let is_integer = !takes(json!(least + ((most - least) / 2.0).min(0.5)));
            let kind = if is_integer { "integer" } else { "number" };
            json!({"type": [kind, "null"], "minimum": number(least, is_integer), "maximum": number(most, is_integer)})
        }
    }
}

/// A limit as JSON; integers without a fraction where they are exact.
#[expect(clippy::cast_possible_truncation, reason = "larger numbers stay floats")]
fn number(limit: f64, is_integer: bool) -> Value {
    if is_integer && limit.abs() < 9e15 { json!(limit as i64) } else { json!(limit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_has_its_type_and_its_limits() {
        assert_eq!(of_setting("top_p"), json!({"type": ["number", "null"], "minimum": 0.0, "maximum": 1.0}));
        assert_eq!(of_setting("mirostat"), json!({"type": ["integer", "null"], "minimum": 0, "maximum": 2}));
        assert_eq!(of_setting("ignore_eos"), json!({"type": ["boolean", "null"]}));
        assert_eq!(of_setting("stop_tokens")["items"], json!({"type": "integer"}));
        assert_eq!(of_setting("dry_sequence_breakers")["items"], json!({"type": "string"}));
        assert_eq!(of_setting("repeat_penalty")["type"], json!(["number", "null"]));
        assert_eq!(of_setting("dry_base")["minimum"], json!(1.0));
    }
}
