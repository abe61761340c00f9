use proptest::prelude::*;

use super::{Label, NoChoice, RepoFile, choose, named};

fn files(paths: &[&str]) -> Vec<RepoFile> {
    paths.iter().map(|path| RepoFile { path: (*path).to_owned(), len: None, etag: None }).collect()
}

fn chosen(paths: &[&str], wanted: Option<&str>) -> Result<Vec<String>, NoChoice> {
    let files = files(paths);
    choose(&files, wanted).map(|chosen| chosen.iter().map(|file| file.path.clone()).collect())
}

/// The path, its quantization, and its model.
const SHAPES: [(&str, Option<&str>, &str); 38] = [
    ("model-Q4_K_M.gguf", Some("Q4_K_M"), "model"),
    ("Model.Q4_K_M.gguf", Some("Q4_K_M"), "model"),
    ("model_q4_k_m.gguf", Some("Q4_K_M"), "model"),
    ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", Some("Q4_K_M"), "llama321binstruct"),
    ("llama-2-7b-chat.Q5_K_S.gguf", Some("Q5_K_S"), "llama27bchat"),
    ("q4_k_m/model-00001-of-00003.gguf", Some("Q4_K_M"), "model"),
    ("Q8_0/Model-Q8_0-00001-of-00002.gguf", Some("Q8_0"), "model"),
    ("BF16/Qwen3-235B-A22B-BF16-00001-of-00010.gguf", Some("BF16"), "qwen3235ba22b"),
    ("Qwen3-8B-UD-Q4_K_XL.gguf", Some("UD-Q4_K_XL"), "qwen38b"),
    ("UD-IQ2_XXS/DeepSeek-R1-UD-IQ2_XXS-00001-of-00004.gguf", Some("UD-IQ2_XXS"), "deepseekr1"),
    ("gemma-3-4b-it-IQ4_XS.gguf", Some("IQ4_XS"), "gemma34bit"),
    ("gemma-3-4b-it.i1-IQ3_M.gguf", Some("IQ3_M"), "gemma34bit"),
    ("model-IQ4_NL.gguf", Some("IQ4_NL"), "model"),
    ("model-bf16.gguf", Some("BF16"), "model"),
    ("model.f16.gguf", Some("F16"), "model"),
    ("model-fp16.gguf", Some("F16"), "model"),
    ("model-F32.gguf", Some("F32"), "model"),
    ("ggml-model-q4_0.gguf", Some("Q4_0"), "model"),
    ("ggml-model-i2_s.gguf", None, "modeli2s"),
    ("phi-2.Q3_K_L.gguf", Some("Q3_K_L"), "phi2"),
    ("model-Q4_0_4_4.gguf", Some("Q4_0_4_4"), "model"),
    ("model-Q6_K_L.gguf", Some("Q6_K_L"), "model"),
    ("model-Q2_K.gguf", Some("Q2_K"), "model"),
    ("model-TQ1_0.gguf", Some("TQ1_0"), "model"),
    ("gpt-oss-20b-MXFP4.gguf", Some("MXFP4"), "gptoss20b"),
    ("gpt-oss-20b-mxfp4_moe.gguf", Some("MXFP4_MOE"), "gptoss20b"),
    ("model-q8.gguf", Some("Q8"), "model"),
    ("Q4_K_M.gguf", Some("Q4_K_M"), ""),
    ("model.gguf", None, "model"),
    ("Model-GGUF.gguf", None, "model"),
    ("sub/folder/tiny-q5_1.GGUF", Some("Q5_1"), "tiny"),
    ("model.f16.q4_k_s.gguf", Some("Q4_K_S"), "modelf16"),
    ("model-Q4_K_M-imat.gguf", Some("Q4_K_M"), "model"),
    ("model-imatrix-Q5_K_M.gguf", Some("Q5_K_M"), "model"),
    ("Q2-small.gguf", Some("Q2"), "small"),
    ("seqq4_0x.gguf", None, "seqq40x"),
    ("QwQ-32B-IQ4_KS.gguf", Some("IQ4_KS"), "qwq32b"),
    ("Qwen2.5-0.5B-Instruct-Q4_K_M-v2.gguf", Some("Q4_K_M"), "qwen2505binstructv2"),
];

#[test]
fn names_of_files_are_read_in_every_usual_shape() {
    for (path, quant, model) in SHAPES {
        let label = Label::of(path);
        assert_eq!((label.quant.as_deref(), label.model.as_str()), (quant, model), "{path}");
        let found = chosen(&[path], None);
        assert!(found.is_ok() || path.contains("-of-"), "{path}: {found:?}");
    }
}

#[test]
fn what_goes_with_a_model_is_never_chosen() {
    let with = [
        "mmproj-model-f16.gguf",
        "model-mmproj-Q8_0.gguf",
        "mmproj.gguf",
        "mmproj/model-Q4_K_M-mmproj.gguf",
        "imatrix.gguf",
        "model-imatrix.gguf",
        "model.imatrix.gguf",
        "ggml-vocab-llama.gguf",
        "model-lora-f16.gguf",
        "README.md",
        ".gguf",
        "model.gguf.part",
        "model.bin",
        "imatrix.dat",
        "._model-Q4_K_M.gguf",
        "",
    ];
    for path in with {
        assert_eq!(chosen(&[path, "model-Q2_K.gguf"], None).unwrap(), ["model-Q2_K.gguf"], "{path}");
        assert!(chosen(&[path], None).unwrap_err().found.contains("no GGUF"), "{path}");
    }
}

#[test]
fn q4_k_m_is_the_default_and_then_the_nearest() {
    let order = [
        "m-Q4_K_M.gguf",
        "m-UD-Q4_K_M.gguf",
        "m-UD-Q4_K_XL.gguf",
        "m-Q4_K_L.gguf",
        "m-Q4_K_S.gguf",
        "m-Q4_0.gguf",
        "m-Q4_1.gguf",
        "m-IQ4_NL.gguf",
        "m-IQ4_XS.gguf",
        "m-Q5_K_M.gguf",
        "m-Q5_0.gguf",
        "m-Q3_K_M.gguf",
        "m-IQ3_M.gguf",
        "m-Q6_K.gguf",
        "m-Q2_K.gguf",
        "m-Q8_0.gguf",
        "m-BF16.gguf",
        "m-F32.gguf",
        "m.gguf",
    ];
    for at in 0..order.len() {
        let mut rest = order[at..].to_vec();
        rest.reverse();
        assert_eq!(chosen(&rest, None).unwrap(), [order[at]]);
    }
}

#[test]
fn a_quantization_is_asked_for_in_any_case_and_never_replaced() {
    let repo = ["m-Q4_K_M.gguf", "m-Q8_0.gguf", "m-UD-Q5_K_XL.gguf", "m-fp16.gguf"];
    for (wanted, path) in [("q8_0", 1), ("Q4_K_M", 0), ("UD-Q5_K_XL", 2), ("Q5_K_XL", 2), ("F16", 3), ("m-q8_0", 1)] {
        assert_eq!(chosen(&repo, Some(wanted)).unwrap(), [repo[path]], "{wanted}");
    }
    for wanted in ["Q5_K_M", "Q4", "latest", "BF16", "m", "x-Q8_0"] {
        let none = chosen(&repo, Some(wanted)).unwrap_err();
        assert!(none.found.contains(wanted) && none.found.contains("UD-Q5_K_XL"), "{none:?}");
    }
    let both = ["m-Q4_K_XL.gguf", "m-UD-Q4_K_XL.gguf"];
    assert_eq!(chosen(&both, Some("Q4_K_XL")).unwrap(), [both[0]]);
    assert_eq!(chosen(&both, Some("ud-q4_k_xl")).unwrap(), [both[1]]);
}

#[test]
fn the_parts_of_a_split_model_come_together_in_order() {
    let repo = [
        "Q8_0/m-Q8_0-00002-of-00003.gguf",
        "Q8_0/m-Q8_0-00003-of-00003.gguf",
        "Q8_0/m-Q8_0-00001-of-00003.gguf",
        "Q4_K_M/m-Q4_K_M-00001-of-00002.gguf",
        "m-Q2_K.gguf",
    ];
    let split = chosen(&repo, Some("Q8_0")).unwrap();
    assert_eq!(split, [repo[2], repo[0], repo[1]]);
    // One part of Q4_K_M is missing, so it is no choice.
    assert_eq!(chosen(&repo, None).unwrap(), ["m-Q2_K.gguf"]);
    assert!(chosen(&repo[3..4], None).unwrap_err().found.contains("of the 2 parts"));
    let files = files(&repo);
    assert_eq!(named(&files, repo[1]).unwrap().len(), 3);
    assert_eq!(named(&files, "m-Q2_K.gguf").unwrap().len(), 1);
    assert!(named(&files, repo[3]).unwrap_err().found.contains("parts"));
    let none = named(&files, "other.gguf").unwrap_err().found;
    assert!(none.contains("no such file") && none.contains("Q2_K"), "{none}");
}

#[test]
fn several_models_in_one_repository_are_listed() {
    let repo = ["tiny-Q4_K_M.gguf", "large-Q4_K_M.gguf", "large-Q8_0.gguf"];
    for wanted in [None, Some("Q4_K_M")] {
        let none = chosen(&repo, wanted).unwrap_err();
        assert!(none.found.contains("tiny-Q4_K_M.gguf") && none.advice.contains(".gguf"), "{none:?}");
    }
    assert_eq!(chosen(&repo, Some("Q8_0")).unwrap(), ["large-Q8_0.gguf"]);
    assert_eq!(chosen(&repo, Some("tiny-Q4_K_M")).unwrap(), ["tiny-Q4_K_M.gguf"]);
    let many = (0..200).map(|n| format!("model{n}.gguf")).collect::<Vec<_>>();
    let none = chosen(&many.iter().map(String::as_str).collect::<Vec<_>>(), None).unwrap_err();
    assert!(none.found.contains("and 176 more") && none.found.len() < 1000, "{none:?}");
}

proptest! {
    #[test]
    fn any_names_give_files_of_the_list_or_an_error(
        paths in proptest::collection::vec(prop_oneof![
            any::<String>(), "[qQiuUdD0-9_KkMmé/.-]{0,12}\\.gguf", "m-0000[0-9]-of-0000[0-9]\\.gguf",
        ], 0..8),
        wanted in proptest::option::of("[qQ0-9_KM.-]{0,8}"),
    ) {
        let files = files(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        if let Ok(chosen) = choose(&files, wanted.as_deref()) {
            prop_assert!(!chosen.is_empty() && chosen.iter().all(|file| files.contains(file)));
        }
        for path in &paths {
            let _ = named(&files, path);
        }
    }
}
