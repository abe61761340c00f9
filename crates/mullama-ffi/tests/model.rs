//! What loading refuses, what a vocabulary reports, and which texts tokenizing handles.

mod support;

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use mullama_ffi::{Error, Model, ModelOptions};
use support::{context, demo, demo_path, write};

fn load(path: &Path) -> Result<std::sync::Arc<Model>, Error> {
    Model::load(path, &ModelOptions::default(), None)
}

fn scratch(name: &str, bytes: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).expect("the target directory is writable");
    path
}

#[test]
fn the_model_describes_itself() {
    let model = demo();
    assert!(model.n_ctx_train() > 0 && model.n_embd() > 0 && model.n_layer() > 0);
    assert!(model.n_head() >= model.n_head_kv() && model.n_head_kv() > 0);
    assert!(model.n_params() > 1_000_000 && model.size() > 1_000_000);
    assert!(model.desc().contains("llama"), "{}", model.desc());
    assert!(model.has_decoder() && !model.has_encoder());
    assert!(!model.is_recurrent() && !model.is_hybrid() && !model.is_diffusion());
    assert_eq!(model.n_swa(), 0);
    let metadata = model.metadata();
    let architecture = metadata.iter().find(|(key, _)| key == "general.architecture");
    assert_eq!(architecture.map(|(_, value)| value.as_str()), Some("llama"));
    let template = metadata.iter().find(|(key, _)| key == "tokenizer.chat_template");
    assert_eq!(model.chat_template().as_ref(), template.map(|(_, value)| value));
}

#[test]
fn a_file_that_is_not_a_model_is_refused_with_the_message_of_llama_cpp() {
    let bytes = fs::read(demo_path()).expect("the demo");
    let bad = [
        PathBuf::from("/no/such/file.gguf"),
        PathBuf::from(env!("CARGO_MANIFEST_DIR")),
        scratch("empty.gguf", b""),
        scratch("text.gguf", b"this is a text, and no model"),
        scratch("magic.gguf", b"GGUF\x03\0\0\0"),
        scratch("half.gguf", &bytes[..bytes.len() / 2]),
    ];
    for path in bad {
        let error = load(&path).expect_err("no model");
        let Error::ModelRefused { said } = error else { panic!("{}: {error:?}", path.display()) };
        assert!(!said.is_empty(), "{}", path.display());
    }
    load(&demo_path()).expect("a good one after them");
}

#[test]
fn a_path_with_a_nul_byte_is_refused() {
    assert!(matches!(load(Path::new("a\0b")), Err(Error::NulByte { .. })));
}

#[test]
fn progress_rises_to_one_and_can_cancel() {
    let mut fractions = Vec::new();
    let mut listen = |fraction| {
        fractions.push(fraction);
        true
    };
    Model::load(&demo_path(), &ModelOptions::default(), Some(&mut listen)).expect("loaded");
    assert!(fractions.is_sorted() && fractions.last() == Some(&1.0), "{fractions:?}");
    let error = Model::load(&demo_path(), &ModelOptions::default(), Some(&mut |_| false));
    assert!(matches!(error, Err(Error::ModelCancelled)), "{error:?}");
}

#[test]
fn a_panic_in_the_progress_callback_reaches_the_caller() {
    let load = || {
        let mut panics = |_: f32| -> bool { panic!("in progress") };
        Model::load(&demo_path(), &ModelOptions::default(), Some(&mut panics))
    };
    let payload = panic::catch_unwind(AssertUnwindSafe(load)).expect_err("it panics");
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"in progress"));
    load_again_after_it();
}

fn load_again_after_it() {
    load(&demo_path()).expect("loaded");
}

#[test]
fn a_model_outlives_its_arc_while_a_context_holds_it() {
    let model = load(&demo_path()).expect("loaded");
    let mut context = mullama_ffi::Context::new(&model, &support::options()).expect("made");
    drop(model);
    assert!(!write(&mut context, 0, "Hello", 4).expect("it writes").is_empty());
}

#[test]
fn the_pieces_of_the_tokens_join_to_the_text() {
    let model = demo();
    let vocab = model.vocab();
    for text in ["Hello, world!", "tabs\tand\nlines", "émoji 🎉 漢字", "a\0b", " ", ""] {
        let tokens = vocab.tokenize(text, false, false).expect("tokens");
        let mut bytes = Vec::new();
        for &token in &tokens {
            vocab.piece(token, false, &mut bytes).expect("a piece");
        }
        assert_eq!(String::from_utf8_lossy(&bytes), text);
    }
}

#[test]
fn control_tokens_are_parsed_only_when_asked() {
    let model = demo();
    let vocab = model.vocab();
    let eos = vocab.eos().expect("the demo has one");
    let name = vocab.text(eos).expect("a name");
    assert_eq!(vocab.tokenize(&name, false, true).expect("tokens"), [eos]);
    assert!(!vocab.tokenize(&name, false, false).expect("tokens").contains(&eos));
    assert!(vocab.is_control(eos).expect("known"));
    assert!(vocab.is_eog(eos) && vocab.eog_tokens().contains(&eos));
    let mut bytes = Vec::new();
    vocab.piece(eos, false, &mut bytes).expect("a piece");
    assert!(bytes.is_empty());
    vocab.piece(eos, true, &mut bytes).expect("a piece");
    assert_eq!(bytes, name.as_bytes());
}

#[test]
fn tokens_outside_the_vocabulary_are_refused() {
    let model = demo();
    let vocab = model.vocab();
    let n_vocab = i32::try_from(vocab.n_tokens()).expect("small");
    for token in [-1, i32::MIN, n_vocab, i32::MAX] {
        let mut bytes = Vec::new();
        let refused = |error: Error| matches!(error, Error::TokenOutOfRange { .. });
        assert!(refused(vocab.piece(token, true, &mut bytes).expect_err("no token")));
        assert!(refused(vocab.text(token).expect_err("no token")));
        assert!(refused(vocab.is_control(token).expect_err("no token")));
        assert!(!vocab.is_eog(token));
    }
    for token in 0..n_vocab {
        vocab.piece(token, true, &mut Vec::new()).expect("a token");
        vocab.text(token).expect("a token");
    }
}

#[test]
fn long_runs_give_tokens_or_a_typed_error() {
    let model = demo();
    let vocab = model.vocab();
    for unit in ["a", "A", " ", ".", "1", "\n", "é", "🎉", "a.", " a"] {
        for chars in [100_000, 1 << 20, 2 << 20] {
            let text = unit.repeat(chars);
            match vocab.tokenize(&text, true, true) {
                Ok(tokens) => assert!(!tokens.is_empty()),
                Err(Error::RunTooLong { chars, limit, .. }) => assert!(chars > limit),
                Err(error) => panic!("{chars} times {unit:?}: {error:?}"),
            }
        }
    }
}

#[test]
fn a_thread_with_an_ordinary_stack_refuses_what_could_overflow_it() {
    let model = demo();
    let vocab = model.vocab();
    let text = "a".repeat(8_000);
    assert!(matches!(
        vocab.tokenize_on_this_thread(&text, true, true),
        Err(Error::RunTooLong { at: 0, chars: 8_000, .. })
    ));
    assert!(vocab.tokenize_on_this_thread("Hello, world!", true, true).is_ok());
    assert!(vocab.tokenize(&text, true, true).is_ok());
}

#[test]
fn a_text_over_the_limit_is_refused() {
    let model = demo();
    let text = "a b\n".repeat((64 << 20) / 4 + 1);
    let error = model.vocab().tokenize(&text, true, true).expect_err("too long");
    assert!(matches!(error, Error::TextTooLong { limit, .. } if limit == 64 << 20), "{error:?}");
}

#[test]
fn a_vocabulary_serves_many_threads_at_once() {
    let model = demo();
    let expected = model.vocab().tokenize("the quick brown fox", true, true).expect("tokens");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let tokens = model.vocab().tokenize("the quick brown fox", true, true);
                    assert_eq!(tokens.expect("tokens"), expected);
                }
            });
        }
    });
    drop(context());
}

/// A value in a GGUF file.
enum Value<'a> {
    Text(&'a str),
    Texts(&'a [String]),
    Floats(Vec<f32>),
    Numbers(Vec<i32>),
    Number(u32),
    Flag(bool),
}

/// A file with only a `SentencePiece` vocabulary: control tokens, bytes, letters, and the mark of a space.
fn sentencepiece(adds_space: Option<bool>) -> std::sync::Arc<Model> {
    let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
    let letters = ["\u{2581}", "\u{2581}\u{2581}", "H", "e", "l", "o", "a", "\u{2581}a", "."].map(str::to_owned);
    let control = ["<unk>", "<s>", "</s>"].map(str::to_owned);
    let tokens: Vec<String> = control.into_iter().chain(bytes).chain(letters).collect();
    let kinds = (0..tokens.len()).map(|at| match at {
        0 => 2,
        1 | 2 => 3,
        3..259 => 6,
        _ => 1,
    });
    let mut values = vec![
        ("general.architecture", Value::Text("llama")),
        ("tokenizer.ggml.model", Value::Text("llama")),
        ("tokenizer.ggml.tokens", Value::Texts(&tokens)),
        ("tokenizer.ggml.scores", Value::Floats(vec![0.0; tokens.len()])),
        ("tokenizer.ggml.token_type", Value::Numbers(kinds.collect())),
        ("tokenizer.ggml.bos_token_id", Value::Number(1)),
        ("tokenizer.ggml.eos_token_id", Value::Number(2)),
    ];
    values.extend(adds_space.map(|adds| ("tokenizer.ggml.add_space_prefix", Value::Flag(adds))));
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = directory.join(format!("sentencepiece-{adds_space:?}.gguf"));
    std::fs::write(&path, gguf(&values)).expect("written");
    let options = ModelOptions { vocab_only: true, ..ModelOptions::default() };
    Model::load(&path, &options, None).expect("loaded")
}

fn gguf(values: &[(&str, Value<'_>)]) -> Vec<u8> {
    fn text(file: &mut Vec<u8>, text: &str) {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
    }
    fn list(file: &mut Vec<u8>, kind: u32, length: usize) {
        file.extend(9u32.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend((length as u64).to_le_bytes());
    }
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend(0u64.to_le_bytes());
    file.extend((values.len() as u64).to_le_bytes());
    for (key, value) in values {
        text(&mut file, key);
        match value {
            Value::Text(value) => {
                file.extend(8u32.to_le_bytes());
                text(&mut file, value);
            }
            Value::Texts(values) => {
                list(&mut file, 8, values.len());
                values.iter().for_each(|value| text(&mut file, value));
            }
            Value::Floats(values) => {
                list(&mut file, 6, values.len());
                file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Value::Numbers(values) => {
                list(&mut file, 5, values.len());
                file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Value::Number(value) => {
                file.extend(4u32.to_le_bytes());
                file.extend(value.to_le_bytes());
            }
            Value::Flag(value) => {
                file.extend(7u32.to_le_bytes());
                file.push(u8::from(*value));
            }
        }
    }
    file
}

#[test]
fn detokenize_returns_the_text_without_the_space_that_the_tokenizer_added() {
    let texts = ["Hello", " Hello", "  Hello", "Hello a", "", " ", "  ", "a", " a. a", "é", "\u{2581}", "\nHello"];
    for model in [sentencepiece(None), sentencepiece(Some(true)), sentencepiece(Some(false)), demo()] {
        for (text, special) in texts.iter().flat_map(|text| [(text, false), (text, true)]) {
            let tokens = model.vocab().tokenize(text, special, false).expect("tokens");
            let bytes = model.vocab().detokenize(&tokens).expect("bytes");
            let adds_space = model.vocab().adds_space();
            // SentencePiece writes a space as this mark, so the mark itself comes back as a space.
            let expected =
                if model.vocab().n_tokens() < 300 { text.replace('\u{2581}', " ") } else { (*text).to_owned() };
            assert_eq!(String::from_utf8(bytes), Ok(expected), "{tokens:?} of {text:?}, adds a space: {adds_space}");
        }
    }
    let adds = [None, Some(true), Some(false)].map(|adds| sentencepiece(adds).vocab().adds_space());
    assert_eq!((adds, demo().vocab().adds_space()), ([true, true, false], false));
}

#[test]
fn a_space_after_control_tokens_inside_a_text_is_kept() {
    let model = sentencepiece(None);
    let vocab = model.vocab();
    let tokens = vocab.tokenize("<s> a</s> a", false, true).expect("tokens");
    let text = String::from_utf8(vocab.detokenize(&tokens).expect("bytes")).expect("text");
    assert!(text.starts_with(' ') || text.starts_with('a'), "{text:?}");
    assert!(text.ends_with(" a"), "{text:?}");
    let error = vocab.detokenize(&[1, -1]).expect_err("no token");
    assert!(matches!(error, Error::TokenOutOfRange { token: -1, .. }), "{error:?}");
}
