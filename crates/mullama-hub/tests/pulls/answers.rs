//! Manifests and API answers that are not what the protocols say.

use mullama_hub_server::{Content, Fault};
use serde_json::{Value, json};

use crate::setup::{ALWAYS, Setup, all_at_once, files};

const MANIFEST: &str = "/v2/library/tiny/manifests/latest";
const API: &str = "/api/models/mullama/demo-GGUF/revision/main";

/// Checks that a pull fails with a protocol error without having written a file, and that the next one succeeds.
fn is_refused(path: &str, name: &str, fault: &Fault) {
    let setup = Setup::new();
    setup.fault(path, fault.clone(), ALWAYS);
    let failure = setup.failure(name);
    assert_eq!(failure.reason(), "protocol", "{failure}");
    assert!(failure.url().is_some_and(|url| url.ends_with(path)), "{failure}");
    assert!(failure.to_string().len() < 1000, "{} characters", failure.to_string().len());
    assert_eq!(setup.file_requests().len(), 0, "nothing was downloaded");
    let written: Vec<_> = files(setup.folder.path())
        .into_iter()
        .filter(|path| path.metadata().is_ok_and(|file| file.len() > 0))
        .collect();
    assert!(written.is_empty(), "{written:?}");
    setup.server.clear_faults();
    setup.pulls(name, &setup.demo());
}

fn texts() -> Vec<(&'static str, Fault)> {
    let body = |body: &str| Fault::Body { body: body.to_owned() };
    vec![
        ("empty", body("")),
        ("a web page", body("<html>Log in to use this network</html>")),
        ("half", body(r#"{"schemaVersion": 2, "layers": [{"#)),
        ("null", body("null")),
        ("a list", body("[]")),
        ("an empty object", body("{}")),
        ("not UTF-8", body("{\"layers\": \"\u{fffd}\u{0}\"}")),
        ("a deep list", Fault::DeepJson { deep: 1_000_000 }),
        ("a list without end", Fault::EndlessJson),
        ("compressed", Fault::Gzip),
    ]
}

#[test]
fn a_manifest_that_is_none_is_a_protocol_error() {
    all_at_once(&texts(), |fault| is_refused(MANIFEST, "tiny", fault));
}

#[test]
fn an_answer_of_hugging_face_that_is_none_is_a_protocol_error() {
    all_at_once(&texts(), |fault| is_refused(API, "hf.co/mullama/demo-GGUF", fault));
}

fn layer(kind: &str, digest: &str, size: &Value) -> Value {
    json!({"mediaType": format!("application/vnd.ollama.image.{kind}"), "digest": digest, "size": size})
}

#[test]
fn a_manifest_with_impossible_layers_is_a_protocol_error() {
    let hex = Content::bytes(*b"x").sha256().to_owned();
    let digest = format!("sha256:{hex}");
    let model = |digest: &str, size: Value| json!([layer("model", digest, &size)]);
    let cases = [
        ("no layers", json!([])),
        ("no model", json!([layer("params", &digest, &json!(3))])),
        ("no digest", model("", json!(100))),
        ("a path as a digest", model("sha256:../../../../etc/passwd", json!(100))),
        ("a path of the right length", model(&format!("sha256:../{}", &hex[3..]), json!(100))),
        ("a short digest", model("sha256:abc", json!(100))),
        ("a long digest", model(&format!("{digest}0"), json!(100))),
        ("another kind of digest", model(&format!("sha512:{hex}"), json!(100))),
        ("other digits", model(&format!("sha256:{}é", &hex[2..]), json!(100))),
        ("a negative size", model(&digest, json!(-1))),
        ("a fraction of a byte", model(&digest, json!(1.5))),
        ("a size that is a text", model(&digest, json!("100"))),
        ("a size above every limit", model(&digest, json!(u64::MAX))),
        ("huge parameters", json!([layer("model", &digest, &json!(9)), layer("params", &digest, &json!(1_u64 << 40))])),
        ("too many layers", json!(vec![layer("license", &digest, &json!(1)); 20_000])),
    ];
    let cases = cases.map(|(name, layers)| {
        let config = layer("config", &digest, &json!(1));
        (name, Fault::Body { body: json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string() })
    });
    all_at_once(&cases, |fault| is_refused(MANIFEST, "tiny", fault));
}

#[test]
fn a_repository_with_impossible_files_is_a_protocol_error_or_has_no_model() {
    let commit = "0123456789012345678901234567890123456789";
    let info = |commit: &str, path: &str, sha256: &str, size: Value| {
        let lfs = json!({"sha256": sha256, "size": size, "pointerSize": 134});
        json!({"id": "mullama/demo-GGUF", "sha": commit, "siblings": [{"rfilename": path, "size": size, "lfs": lfs}]})
    };
    let hex = Content::bytes(*b"x").sha256().to_owned();
    let cases = [
        ("a commit that is a path", info("../../../../../../etc", "a-Q4_K_M.gguf", &hex, json!(100))),
        ("no commit", info("", "a-Q4_K_M.gguf", &hex, json!(100))),
        ("a path upwards", info(commit, "../../../a-Q4_K_M.gguf", &hex, json!(100))),
        ("an absolute path", info(commit, "/tmp/a-Q4_K_M.gguf", &hex, json!(100))),
        ("a path with a detour", info(commit, "a/../../b-Q4_K_M.gguf", &hex, json!(100))),
        ("a NUL", info(commit, "a\0-Q4_K_M.gguf", &hex, json!(100))),
        ("a backslash", info(commit, "..\\..\\a-Q4_K_M.gguf", &hex, json!(100))),
        ("a digest that is a path", info(commit, "a-Q4_K_M.gguf", "../../../../../../../etc/passwd", json!(100))),
        ("a negative size", info(commit, "a-Q4_K_M.gguf", &hex, json!(-5))),
        ("a size above every limit", info(commit, "a-Q4_K_M.gguf", &hex, json!(u64::MAX))),
    ];
    all_at_once(&cases, |info| {
        let setup = Setup::new();
        setup.fault(API, Fault::Body { body: info.to_string() }, ALWAYS);
        let error = setup.pull("hf.co/mullama/demo-GGUF").unwrap_err();
        assert!(matches!(error.code(), "DOWNLOAD_ERROR" | "MODEL_NOT_FOUND"), "{error}");
        let asked = setup.server.requests().len();
        assert_eq!(asked, 1, "nothing else was asked for");
        let written: Vec<_> =
            files(setup.folder.path()).into_iter().filter(|path| path.metadata().unwrap().len() > 0).collect();
        assert!(written.is_empty(), "{written:?}");
        setup.server.clear_faults();
        setup.pulls("hf.co/mullama/demo-GGUF", &setup.demo());
    });
}

#[test]
fn parameters_that_are_wrong_do_not_prevent_a_pull() {
    let setup = Setup::new();
    for (tag, params) in
        [("a", "null"), ("b", "{\"stop\": 3, \"temperature\": \"hot\"}"), ("c", "not JSON"), ("d", "[[[[")]
    {
        let model = mullama_hub_server::RegistryModel::new(setup.demo()).layer("params", params);
        setup.server.add_model(&format!("library/odd:{tag}"), model);
        let model = setup.pulls(&format!("odd:{tag}"), &setup.demo());
        assert!(model.defaults.stream.is_empty(), "{params}: {:?}", model.defaults);
    }
    let model = setup.pulls("tiny", &setup.demo());
    assert_eq!(model.defaults.stream["stop_sequences"], json!(["<|im_end|>", "<|endoftext|>"]));
    assert_eq!((model.defaults.n_ctx, model.defaults.system.as_deref()), (Some(512), Some("You answer in verse.")));
}

#[test]
fn redirects_lead_only_where_they_may() {
    let cases = [
        ("a file", "file:///etc/passwd"),
        ("another protocol", "ftp://127.0.0.1/x"),
        ("data", "data:application/json,{}"),
        ("no address", "http://"),
        ("round and round", MANIFEST),
        ("not an address", "http://[::1/"),
    ];
    all_at_once(&cases, |to| {
        is_refused(MANIFEST, "tiny", &Fault::Redirect { to: (*to).to_owned() });
    });
}

#[test]
fn a_redirect_within_the_server_is_followed() {
    let setup = Setup::new();
    setup.fault(MANIFEST, Fault::Redirect { to: "../../plain/manifests/latest".into() }, 1);
    setup.pulls("tiny", &setup.demo());
}
