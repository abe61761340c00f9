//! Names of models as clients write them.

use mullama_hub::ModelName;

/// The longest name that is looked up, in bytes.
const LONGEST: usize = 512;

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

#[cfg(test)]
mod tests {
    use super::is_same;

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
