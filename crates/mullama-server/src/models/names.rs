//! Names of models as clients write them.

use axum::http::StatusCode;
use mullama_hub::ModelName;

use crate::error::ApiError;

/// The longest name that is looked up, in bytes.
const LONGEST: usize = 512;
/// Most names that an error lists.
const NAMES_LISTED: usize = 5;
/// Most characters that an error repeats of a name.
const NAME_SHOWN: usize = 128;

/// A name in the forms in which it can be the same as another.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    name: &'a str,
    canonical: Option<String>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(name: &'a str) -> Self {
        Self { name, canonical: canonical(name) }
    }

    /// Whether two names mean the same model: Ollama's clients add the tag `latest`, and the names of hubs have
    /// several forms.
    pub(super) fn is(&self, known: &str) -> bool {
        let untagged = |name: &'a str| name.strip_suffix(":latest").unwrap_or(name);
        let known_untagged = known.strip_suffix(":latest").unwrap_or(known);
        untagged(self.name) == known_untagged || (self.canonical.is_some() && self.canonical == canonical(known))
    }
}

fn canonical(name: &str) -> Option<String> {
    if name.len() > LONGEST {
        return None;
    }
    ModelName::parse(name).ok().map(|name| name.to_string())
}

/// Whether two names mean the same model.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    Asked::new(one).is(other)
}

/// The error of a name that no model has. `known` are those that models have.
pub(super) fn unknown(name: Option<&str>, known: &[String]) -> ApiError {
    const NONE: &str = "no models are configured";
    let Some(name) = name.filter(|name| !name.is_empty()) else { return ApiError::not_found(NONE) };
    let shown: String = name.chars().take(NAME_SHOWN).collect();
    let mut names: Vec<(f64, &str)> = known.iter().map(|known| (strsim::jaro(known, &shown), known.as_str())).collect();
    names.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let nearest: Vec<&str> = names.iter().take(NAMES_LISTED).map(|(_, name)| *name).collect();
    let nearest = nearest.join(", ");
    let known = match known.len() {
        0 => NONE.to_owned(),
        1..=NAMES_LISTED => format!("it has {nearest}"),
        _ => format!("the closest names are {nearest}"),
    };
    let message = format!("this server has no model named {shown}; {known}");
    ApiError { field: Some("model".to_owned()), ..ApiError::new(StatusCode::NOT_FOUND, "MODEL_NOT_FOUND", message) }
}

/// The error of a model whose file is not there.
pub(crate) fn missing(name: &str) -> ApiError {
    let shown: String = name.chars().take(NAME_SHOWN).collect();
    let message = format!("the file of {shown} is missing on the server");
    ApiError { field: Some("model".to_owned()), ..ApiError::new(StatusCode::NOT_FOUND, "MODEL_NOT_FOUND", message) }
}

#[cfg(test)]
mod tests {
    use super::{is_same, unknown};

    #[test]
    fn a_name_that_no_model_has_is_answered_with_all_names_or_the_closest() {
        let told = |count: usize| {
            let known: Vec<String> = (0..count).map(|index| format!("model-{index}")).collect();
            unknown(Some("model-3"), &known).message
        };
        assert_eq!(told(0), "this server has no model named model-3; no models are configured");
        assert_eq!(told(2), "this server has no model named model-3; it has model-0, model-1");
        assert!(told(6).contains("; the closest names are model-3, "), "{}", told(6));
        assert_eq!(unknown(None, &[]).message, "no models are configured");
    }

    #[test]
    fn a_model_is_found_by_every_form_of_its_name() {
        for (one, other) in [
            ("demo", "demo:latest"),
            ("mine", "mine"),
            ("llama3.2", "registry.ollama.ai/library/llama3.2:latest"),
            ("llama3.2:1b", "https://ollama.com/library/llama3.2:1b"),
            ("hf.co/user/repo:Q4_K_M", "hf://user/repo:Q4_K_M"),
        ] {
            assert!(is_same(one, other), "{one} is {other}");
            assert!(is_same(other, one), "{other} is {one}");
        }
    }

    #[test]
    fn another_tag_is_another_model() {
        for (one, other) in [("demo", "demo:1b"), ("llama3.2:1b", "llama3.2"), ("demo", "demon"), ("demo", "Demo ")] {
            assert!(!is_same(one, other), "{one} is not {other}");
        }
        assert!(!is_same(&"a/".repeat(9999), "a"));
    }
}
