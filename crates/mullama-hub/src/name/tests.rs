use proptest::prelude::*;

use super::super::{HuggingFaceName, ModelName, RegistryName};
use mullama::MullamaError;

fn parsed(text: &str) -> ModelName {
    ModelName::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> (String, String) {
    match ModelName::parse(text) {
        Err(MullamaError::InvalidConfig { field: "model", value, range }) => (value, range),
        other => panic!("{text:?} gave {other:?}"),
    }
}

#[test]
fn names_have_one_canonical_form() {
    let cases = [
        ("demo", "demo"),
        ("llama3.2", "llama3.2:latest"),
        ("llama3.2:1b", "llama3.2:1b"),
        ("library/llama3.2:1b", "llama3.2:1b"),
        ("mike/tiny", "mike/tiny:latest"),
        ("example.com/library/tiny", "example.com/library/tiny:latest"),
        ("LOCALHOST:5000/me/tiny:x", "localhost:5000/me/tiny:x"),
        ("registry.ollama.ai/library/tiny:x", "tiny:x"),
        ("ollama://tiny:x", "tiny:x"),
        ("ollama://localhost:5000/me/tiny", "localhost:5000/me/tiny:latest"),
        ("https://ollama.com/library/llama3.2:1b", "llama3.2:1b"),
        ("https://ollama.com/mike/tiny", "mike/tiny:latest"),
        ("ollama.com/library/llama3.2:1b", "llama3.2:1b"),
        ("hf.co/user/repo", "hf.co/user/repo"),
        ("hf.co/user/repo:latest", "hf.co/user/repo"),
        ("HF.co/User/Repo:q4_k_m", "hf.co/User/Repo:q4_k_m"),
        ("hf://user/repo:Q8_0", "hf.co/user/repo:Q8_0"),
        ("ollama://hf.co/user/repo:Q8_0", "hf.co/user/repo:Q8_0"),
        ("huggingface.co/user/repo/sub/a.gguf", "hf.co/user/repo/sub/a.gguf"),
        ("hf.co/user/repo:a-Q4_K_M.gguf", "hf.co/user/repo/a-Q4_K_M.gguf"),
        ("https://huggingface.co/user/repo", "hf.co/user/repo"),
        ("https://huggingface.co/user/repo/tree/main", "hf.co/user/repo"),
        ("https://huggingface.co/user/repo?show_file_info=a%20b.gguf", "hf.co/user/repo/a b.gguf"),
        ("https://huggingface.co/user/repo/blob/main/a%20b.gguf", "hf.co/user/repo/a b.gguf"),
        ("https://huggingface.co/user/repo/resolve/main/s/a.gguf?download=true", "hf.co/user/repo/s/a.gguf"),
        ("https://huggingface.co/user/repo/resolve/v1/a.gguf", "https://huggingface.co/user/repo/resolve/v1/a.gguf"),
        ("https://example.com/a.gguf?sig=1#top", "https://example.com/a.gguf?sig=1"),
        ("http://127.0.0.1:99/a.GGUF", "http://127.0.0.1:99/a.GGUF"),
        ("./demo", "./demo"),
        ("model.gguf", "model.gguf"),
        ("a/b/c.GGUF", "a/b/c.GGUF"),
        ("~/m", "~/m"),
        ("C:\\models\\a.gguf", "C:\\models\\a.gguf"),
        ("..", ".."),
    ];
    for (text, canonical) in cases {
        assert_eq!(parsed(text).to_string(), canonical, "{text}");
        assert_eq!(parsed(canonical), parsed(text), "{text}");
    }
}

#[test]
fn what_is_a_path_a_name_or_an_address_is_told_apart() {
    for path in ["./demo", "/a/b", "a.gguf", "x/y.gguf", "~", "a\\b", "d:/x"] {
        assert!(matches!(parsed(path), ModelName::Path(_)), "{path}");
    }
    let registry = RegistryName { host: None, namespace: "u".into(), model: "r".into(), tag: "latest".into() };
    assert_eq!(parsed("u/r"), ModelName::Registry(registry));
    let name = HuggingFaceName { user: "u".into(), repo: "r".into(), quant: None, file: Some("f.gguf".into()) };
    assert_eq!(parsed("hf.co/u/r/f.gguf"), ModelName::HuggingFace(name));
}

#[test]
fn texts_that_cannot_be_names_are_refused_with_what_is_allowed() {
    let long = "a".repeat(5000);
    let texts = [
        "",
        " ",
        "a b",
        "a:b:c",
        "a//b",
        "a/",
        "a/b/c/d",
        "-x",
        "a..b",
        "nul",
        "library/con:1",
        "é",
        "a\nb",
        "a\0.gguf",
        "example.com/x",
        "localhost:5000/x",
        "a.b/c/d/e",
        "hf.co",
        "hf.co/",
        "hf.co/user",
        "hf.co/../x",
        "hf.co/a--b/c",
        "hf.co/u/r/../../x.gguf",
        "hf.co/u/r/readme.md",
        "hf.co/u/r:..",
        "hf.co/u/r:a:b",
        "ftp://x/y.gguf",
        "file:///x.gguf",
        "https://",
        "https://x/y.bin",
        "http://example.com/y.gguf",
        "a@b",
        "a:b@sha",
        "https://huggingface.co/u/r/blob/dev/x.gguf",
        "https://huggingface.co/u/r/resolve/main/%zz.gguf",
        "https://huggingface.co/u/r/resolve/main/..%2fx.gguf",
        "nul:5/a/b",
        "a:0/b/c",
        "registry.ollama.ai/a.b/c",
        "ollama.com/x:y.gguf",
        "https://ollama.com/library/x/tags",
        &long,
    ];
    for text in texts {
        let (value, range) = refused(text);
        assert!(!value.is_empty() && value.len() < 1000 && range.len() > 10, "{text:?}: {value:?} {range:?}");
        assert!(!value.contains(['\n', '\0']), "{text:?}: {value:?}");
    }
}

#[test]
fn an_error_and_a_stored_name_reveal_no_secret_of_an_address() {
    for text in [
        "https://user:hunter2@example.com/a.gguf",
        "https://example.com/a.bin?token=hunter2",
        "http://example.com/a.gguf?token=hunter2",
        "ftp://user:hunter2@example.com/a.gguf",
        "ftp://x y:hunter2@example.com/a.gguf?x",
        "https://exa mple.com/a.gguf?token=hunter2",
    ] {
        let (value, range) = refused(text);
        assert!(!value.contains("hunter2") && !range.contains("hunter2"), "{text}: {value}");
    }
    assert_eq!(parsed("https://example.com/a.gguf?token=hunter2").without_query(), "https://example.com/a.gguf");
}

#[test]
fn folders_of_a_manifest_give_back_their_name() {
    for text in ["tiny:x", "a/b:c", "localhost:5000/me/tiny:x"] {
        let ModelName::Registry(name) = parsed(text) else { panic!("no name of a registry") };
        let parts = name.parts();
        assert_eq!(ModelName::from_parts(parts.each_ref().map(String::as_str)), Some(ModelName::Registry(name)));
    }
    assert_eq!(ModelName::from_parts(["hf.co", "u", "r", "Q8_0"]), Some(parsed("hf.co/u/r:Q8_0")));
    assert_eq!(ModelName::from_parts(["h", "n", "..", "x"]), None);
    assert_eq!(ModelName::from_parts([".", "n", "m", "x"]), None);
}

/// Texts with the characters that matter to names, more often than random ones have them.
fn texts() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("hf.co".to_owned()),
        Just("https://".to_owned()),
        Just("huggingface.co".to_owned()),
        Just("..".to_owned()),
        Just("ollama.com".to_owned()),
        Just(".gguf".to_owned()),
        Just("blob/main".to_owned()),
        Just("demo".to_owned()),
        Just("%2e%2e%2f".to_owned()),
        Just("resolve/main/".to_owned()),
        Just("library".to_owned()),
        "[a-zA-Z0-9._-]{0,8}",
        "[/:@?#\\\\ ~.]{1,2}",
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(word, 0..10).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_text_is_a_name_that_stays_itself_or_an_error(text in prop_oneof![texts(), any::<String>()]) {
        if let Ok(name) = ModelName::parse(&text) {
            let shown = name.to_string();
            prop_assert_eq!(ModelName::parse(&shown).ok(), Some(name), "{}", shown);
        }
    }

    #[test]
    fn no_name_leaves_the_folder_it_belongs_to(text in texts()) {
        match ModelName::parse(&text) {
            Ok(ModelName::Registry(name)) => for part in name.parts() {
                prop_assert!(!part.is_empty() && part != "." && !part.contains("..") && !part.contains(['/', '\\', '\0']));
            },
            Ok(ModelName::HuggingFace(HuggingFaceName { user, repo, file, .. })) => {
                let both = user + &repo;
                prop_assert!(!both.contains(['/', '\\', ':']) && !repo.contains("--"));
                let mut parts = file.iter().flat_map(|file| file.split('/'));
                prop_assert!(parts.all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':'])));
            }
            _ => {}
        }
    }
}
