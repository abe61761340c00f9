//! Names that try to lead out of the store, or to confuse whoever reads them.

use crate::setup::{Setup, files};

#[test]
fn names_that_attack_are_refused_without_a_request_and_without_a_file() {
    let long = "a".repeat(5000);
    let deep = "a/".repeat(300);
    let names = [
        "",
        " ",
        "../x",
        "a/../b",
        "../../etc/passwd",
        "a/..",
        "a:..",
        "a:../b",
        "..:latest",
        "a/b/c/../d",
        "a//b",
        "a/b/c/d/e",
        "hf.co/../x",
        "hf.co/a/..",
        "hf.co/a/b/../../c.gguf",
        "hf.co/a",
        "hf.co/",
        "hf.co/a/b:..",
        "a\0b",
        "hf.co/a/b\0",
        "a b",
        "a\nb",
        "a\u{202e}b",
        "\u{ff0e}\u{ff0e}/x",
        "a\u{301}",
        "ａ",
        "é",
        "a%2f..%2fb",
        "-a",
        "a/-b",
        "a:-b",
        ".a/b",
        "CON",
        "library/nul",
        "com1:latest",
        "aux/b",
        "a:con",
        "a?b",
        "a#b",
        "a\\b",
        "..\\x",
        "C:\\x",
        "a*",
        "a|b",
        "a<b",
        "http://",
        "ftp://x/a.gguf",
        "http://example.com/a.gguf",
        "user:pass@host/a/b",
        "host:99999/a/b",
        "@",
        "a@b",
        "~a/b:c",
        &long,
        &deep,
    ];
    let setup = Setup::new();
    for name in names {
        let error = setup.pull(name).map(|model| model.path).unwrap_err();
        let code = error.code();
        assert!(matches!(code, "INVALID_CONFIG" | "MODEL_NOT_FOUND"), "{name:?}: {code}: {error}");
        assert!(error.to_string().chars().count() < 1000, "{name:?}: {error}");
        assert!(!error.to_string().contains(['\0', '\n', '\u{202e}']), "{name:?}: {error:?}");
    }
    let asked: Vec<_> = setup.server.requests().into_iter().map(|request| request.path).collect();
    assert!(asked.is_empty(), "{asked:?}");
    assert!(files(setup.folder.path()).is_empty(), "{:?}", files(setup.folder.path()));
}

#[test]
fn names_that_only_look_odd_work() {
    let setup = Setup::new();
    let model = mullama_hub_server::RegistryModel::new(setup.demo());
    for name in ["a.b", "a_b.c-d", "x--y"] {
        setup.server.add_model(&format!("library/{name}:latest"), model.clone());
        setup.pulls(name, &setup.demo());
    }
    setup.server.add_model("UPPER/Case:Q4_K_M", model);
    setup.pulls("UPPER/Case:Q4_K_M", &setup.demo());
}
