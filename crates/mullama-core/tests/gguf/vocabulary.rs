//! Vocabularies: those that llama.cpp can load pass; those that it would assert on or loop over are refused.

use mullama::gguf::GgufError;

use crate::structure::refuses;
use crate::writer::{F32, Model, Value};

fn texts(tokens: &[&str]) -> Value {
    Value::Texts(tokens.iter().map(|token| token.as_bytes().to_vec()).collect())
}

/// A model with this tokenizer and these tokens.
fn vocabulary(model: &'static str, tokens: &[&str]) -> Model {
    Model::llama().with("tokenizer.ggml.model", Value::Text(model)).with("tokenizer.ggml.tokens", texts(tokens)).tensor(
        "token_embd.weight",
        &[32, tokens.len() as u64],
        F32,
    )
}

#[test]
fn tokens_and_their_tokenizer_are_required() {
    refuses!(Model::llama().without("tokenizer.ggml.model").check(), GgufError::MissingKey { .. });
    refuses!(Model::llama().without("tokenizer.ggml.tokens").check(), GgufError::MissingKey { .. });
    let model = Model::llama().with("tokenizer.ggml.tokens", texts(&[]));
    refuses!(model.check(), GgufError::ArrayLength { found: 0, .. });
    let model = Model::llama().with("tokenizer.ggml.tokens", Value::U32(1));
    refuses!(model.check(), GgufError::WrongKeyType { .. });
}

#[test]
fn tokens_differ_as_llama_cpp_reads_them() {
    refuses!(vocabulary("gpt2", &["a", "b", "a"]).check(), GgufError::Token { token: 2, .. });
    refuses!(vocabulary("gpt2", &["a", "a\0b"]).check(), GgufError::Token { token: 1, .. });
    refuses!(vocabulary("gpt2", &["[EMPTY_1]", ""]).check(), GgufError::Token { token: 1, .. });
    vocabulary("gpt2", &["[EMPTY_2]", "", "\0"]).check().unwrap_err();
    vocabulary("gpt2", &["[EMPTY_0]", "", "\0"]).check().unwrap();
}

#[test]
fn arrays_beside_the_tokens_are_as_long() {
    let model = Model::llama().with("tokenizer.ggml.scores", Value::F32s(vec![0.0; 15]));
    refuses!(model.check(), GgufError::ArrayLength { found: 15, wanted: 16, .. });
    let model = Model::llama().with("tokenizer.ggml.token_type", Value::I32s(vec![1; 16]));
    model.check().unwrap();
}

#[test]
fn special_tokens_that_are_added_exist() {
    let bos = "tokenizer.ggml.bos_token_id";
    let adds = |model: Model| model.with("tokenizer.ggml.add_bos_token", Value::Bool(true));
    // There are 16 tokens: the default id 11 exists, so llama.cpp falls back to it.
    adds(Model::llama().with(bos, Value::U32(99))).check().unwrap();
    let few = || vocabulary("gpt2", &["a", "b"]);
    few().with(bos, Value::U32(99)).check().unwrap();
    adds(few().with(bos, Value::U32(1))).check().unwrap();
    refuses!(adds(few().with(bos, Value::U32(99))).check(), GgufError::MissingSpecialToken { vocab_len: 2, .. });
    refuses!(adds(few()).check(), GgufError::MissingSpecialToken { .. });
    refuses!(vocabulary("llama", &["a"]).check(), GgufError::MissingSpecialToken { .. });
    refuses!(vocabulary("t5", &["a"]).check(), GgufError::MissingSpecialToken { .. });
    refuses!(vocabulary("gemma4", &["a", "b"]).check(), GgufError::MissingSpecialToken { .. });
    let bert = vocabulary("bert", &["a", "b"]).with(bos, Value::U32(0));
    refuses!(bert.clone().check(), GgufError::MissingSpecialToken { key: "tokenizer.ggml.seperator_token_id", .. });
    bert.with("tokenizer.ggml.seperator_token_id", Value::U32(1)).check().unwrap();
}

/// The 256 tokens of single bytes as RWKV's files spell them, but for one, and these.
fn rwkv(left_out: Option<u8>, more: &[&str]) -> Model {
    let bytes = (0..=u8::MAX).filter(|byte| Some(*byte) != left_out);
    let mut tokens: Vec<String> = bytes.map(|byte| format!("\\x{byte:02x}")).collect();
    tokens.extend(more.iter().map(|&token| token.to_owned()));
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    vocabulary("rwkv", &tokens)
}

#[test]
fn an_rwkv_vocabulary_that_would_loop_is_refused() {
    rwkv(None, &["ab", r"\n\n", r"\xe2\x96", ""]).check().unwrap();
    refuses!(vocabulary("rwkv", &["a", "bc"]).check(), GgufError::MissingByteToken { byte: 0 });
    for byte in 0..=u8::MAX {
        // Whether or not another token begins with the byte.
        refuses!(rwkv(Some(byte), &[]).check(), GgufError::MissingByteToken { byte: found } if found == byte);
        let longer = format!("\\x{byte:02x}a");
        refuses!(rwkv(Some(byte), &[&longer]).check(), GgufError::MissingByteToken { byte: found } if found == byte);
    }
    rwkv(Some(b'['), &["["]).check().unwrap();
    rwkv(Some(b'\n'), &[r"\n\0ignored".replace(r"\0", "\0").as_str()]).check().unwrap();
    // llama.cpp reads the text of an empty token as `[EMPTY_255]`.
    refuses!(rwkv(Some(b'['), &[""]).check(), GgufError::MissingByteToken { byte: b'[' });
}

#[test]
fn a_model_without_a_vocabulary_asks_for_few_dummies() {
    let model = |len| {
        Model::llama().with("tokenizer.ggml.model", Value::Text("no_vocab")).with("llama.vocab_size", Value::U32(len))
    };
    assert_eq!(model(16).check().unwrap().vocab_len, None);
    refuses!(model(1 << 30).check(), GgufError::TooLarge { key, .. } if key == "llama.vocab_size");
}

#[test]
fn a_vocabulary_of_long_tokens_is_refused_before_it_costs_minutes() {
    let tokens: Vec<String> = (0..100).map(|id| format!("{id:04000}")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    refuses!(vocabulary("gpt2", &tokens).check(), GgufError::Token { token: 67, .. });
}
