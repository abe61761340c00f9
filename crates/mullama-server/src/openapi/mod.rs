//! `/openapi.json`: the description of the API, whose requests are generated from the tables of fields that check them.

mod endpoints;
mod schema;

use std::sync::LazyLock;

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};

use crate::state::State;
use endpoints::{ENDPOINTS, Endpoint};

/// What the tables do not say: the paths without a body, the answers, and the errors.
const BASE: &str = include_str!("base.json");

/// Other paths of the same endpoints, which clients of llama-server and of older versions use.
const ALIASES: &[(&str, &str)] = &[
    ("/v1/models", "/models"),
    ("/v1/chat/completions", "/chat/completions"),
    ("/v1/responses", "/responses"),
    ("/completion", "/completions"),
    ("/embeddings", "/embedding"),
    ("/api/embed", "/api/embeddings"),
    ("/health", "/v1/health"),
];

static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());

pub(crate) fn routes() -> Router<State> {
    Router::new().route("/openapi.json", get(openapi))
}

async fn openapi() -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    (headers, DOCUMENT.as_str()).into_response()
}

fn document() -> Value {
    let mut document: Value = serde_json::from_str(BASE).unwrap_or_default();
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    let empty = Map::new();
    let names: Vec<String> = document["paths"].as_object().unwrap_or(&empty).keys().cloned().collect();
    for name in names {
        for operation in document["paths"][&name].as_object_mut().into_iter().flat_map(Map::values_mut) {
            let name = match operation["tags"][0].as_str() {
                Some("Ollama") => "OllamaError",
                Some("llama-server") => "LlamaError",
                _ => "OpenAIError",
            };
            operation["responses"]["default"] = error_response(name);
        }
    }
    for endpoint in ENDPOINTS {
        document["paths"][endpoint.path][endpoint.method] = operation(endpoint);
    }
    for (path, alias) in ALIASES {
        for operation in document["paths"][path].as_object_mut().into_iter().flat_map(Map::values_mut) {
            let summary = operation["summary"].as_str().unwrap_or_default();
            operation["summary"] = format!("{summary} {alias} is the same.").into();
        }
    }
    document
}

fn error_response(name: &str) -> Value {
    let schema = json!({"$ref": format!("#/components/schemas/{name}")});
    json!({"description": "The request is refused or has failed.", "content": {"application/json": {"schema": schema}}})
}

fn operation(endpoint: &Endpoint) -> Value {
    let answer = json!({"$ref": format!("#/components/schemas/{}", endpoint.answer)});
    let mut content = json!({"application/json": {"schema": answer}});
    if let Some(stream) = endpoint.stream {
        // OpenAPI 3.1 does not say whether a schema here is that of the stream or of each event, so there is none.
        content[stream] = json!({});
    }
    json!({
        "operationId": endpoint.path.trim_start_matches('/').replace('/', "_"),
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "requestBody": {"required": true, "content": {"application/json": {"schema": schema::of_request(endpoint)}}},
        "responses": {
            "200": {"description": "The answer, streamed or as one document.", "content": content},
            "default": error_response(endpoint.error),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use mullama::StreamConfig;
    use proptest::prelude::*;

    use super::*;
    use crate::json::{Json, arbitrary, fields};

    proptest! {
        #[test]
        fn any_value_of_any_field_is_taken_or_refused_by_its_name(value in arbitrary::value()) {
            for endpoint in ENDPOINTS {
                for field in endpoint.tables.iter().flat_map(|table| table.iter()) {
                    let body = json!({field.name: value});
                    let applied = fields::apply(endpoint.tables, &Json::new(&body, ""), &mut StreamConfig::new());
                    let Err(error) = applied else { continue };
                    prop_assert_eq!(error.status.as_u16(), 400);
                    let path = error.field.unwrap_or_default();
                    prop_assert!(path.starts_with(field.name), "{}: {}: {}", endpoint.path, field.name, path);
                    prop_assert!(error.message.starts_with(&path), "{}", error.message);
                }
            }
        }
    }

    #[test]
    fn the_description_is_valid_json_with_every_endpoint() {
        let document = document();
        for endpoint in ENDPOINTS {
            assert!(document["paths"][endpoint.path][endpoint.method]["requestBody"].is_object(), "{}", endpoint.path);
        }
        assert!(document["paths"]["/health"]["get"]["responses"]["default"].is_object());
    }

    /// The paths of routes in the code of the server, which axum does not list.
    fn routes_in(folder: &Path, paths: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).expect("the folder is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                routes_in(&path, paths);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let code = std::fs::read_to_string(&path).expect("it is text");
                let routes = code.split(concat!(".rou", "te(\"")).skip(1).filter_map(|rest| rest.split('"').next());
                paths.extend(routes.map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_route_with_a_literal_path_is_described_or_an_alias_of_one_that_is() {
        let mut paths = BTreeSet::new();
        routes_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut paths);
        assert!(paths.contains("/v1/chat/completions") && paths.len() > 30, "{paths:?}");
        let document = document();
        let is_described = |path: &str| !document["paths"][path].is_null();
        // What answers that there is no such endpoint.
        let is_unknown = |path: &str| path.ends_with("/{*path}") || path.ends_with('/') || path == "/api";
        for path in paths.iter().map(|path| path.replace("{*name}", "{model}")) {
            let is_alias = ALIASES.iter().any(|(of, alias)| *alias == path && is_described(of));
            assert!(is_described(&path) || is_alias || is_unknown(&path) || path == "/v1/complete", "{path}");
        }
        for (of, alias) in ALIASES {
            let of = of.replace("{model}", "{*name}");
            assert!(paths.contains(*alias) && paths.contains(&of), "{of} {alias}");
        }
    }

    #[test]
    fn every_reference_has_a_schema() {
        let document = document();
        let mut open = vec![&document];
        while let Some(value) = open.pop() {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(reference)) = fields.get("$ref") {
                        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
                    }
                    open.extend(fields.values());
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
    }

    #[test]
    fn nothing_in_the_description_is_null() {
        let mut open = vec![document()];
        while let Some(value) = open.pop() {
            match value {
                Value::Object(mut fields) => {
                    // A null among the allowed values of a field stands for no field.
                    fields.remove("enum");
                    open.extend(fields.into_iter().map(|(_, value)| value));
                }
                Value::Array(items) => open.extend(items),
                value => assert!(!value.is_null()),
            }
        }
    }

    #[test]
    fn every_field_of_every_table_is_described() {
        let document = document();
        for endpoint in ENDPOINTS {
            let schema = &document["paths"][endpoint.path][endpoint.method]["requestBody"]["content"]["application/json"]
                ["schema"];
            for field in endpoint.tables.iter().flat_map(|table| table.iter()) {
                let described = &schema["properties"][field.name];
                let is_described = described.as_object().is_some_and(|described| !described.is_empty());
                assert!(is_described, "{} {} needs a schema in fields.json", endpoint.path, field.name);
            }
        }
    }
}
