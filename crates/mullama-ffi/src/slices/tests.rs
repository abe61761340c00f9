use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::model::ModelOptions;
use crate::tokenize::Special;

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// A vocabulary that is written to its own file.
struct Vocabulary {
    model: &'static str,
    pre: &'static str,
    name: &'static str,
    tokens: Vec<(String, i32)>,
    merges: Vec<String>,
}

impl Vocabulary {
    fn new(model: &'static str, pre: &'static str, tokens: Vec<(String, i32)>) -> Self {
        Self { model, pre, name: "", tokens, merges: Vec::new() }
    }

    /// The 256 bytes, and merges of characters beside and across a cut, so that only the patterns keep them apart.
    fn bpe(pre: &'static str) -> Self {
        let mut codes = 0x100u32..;
        let spelling = |byte: u8| match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => codes.next().and_then(char::from_u32).expect("few"),
        };
        let spellings: Vec<char> = (0..=255u8).map(spelling).collect();
        let mut vocabulary = Self::new("gpt2", pre, spellings.iter().map(|char| (char.to_string(), NORMAL)).collect());
        let beside: Vec<char> = b"ab1. \n\r/'".iter().map(|&byte| spellings[usize::from(byte)]).collect();
        for left in &beside {
            for right in &beside {
                vocabulary.merges.push(format!("{left} {right}"));
                vocabulary.tokens.push((format!("{left}{right}"), NORMAL));
            }
        }
        vocabulary.tokens.push(("<|end|>".to_owned(), CONTROL));
        vocabulary.tokens.push(("<|a b|>".to_owned(), USER_DEFINED));
        vocabulary
    }

    fn lines(pre: &'static str) -> Self {
        let mut vocabulary = Self::spm(&["\n", "\u{2581}a", "a\u{2581}", "a\u{2581}b", "\n\n"], &[]);
        (vocabulary.model, vocabulary.pre) = ("gpt2", pre);
        vocabulary.merges = ["\u{2581} a", "a \u{2581}", "a\u{2581} b", "\n \n"].map(str::to_owned).to_vec();
        vocabulary
    }

    fn spm(pieces: &[&str], special: &[(&str, i32)]) -> Self {
        let mut tokens: Vec<(String, i32)> = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
            .map(|(text, kind)| (text.to_owned(), kind))
            .to_vec();
        tokens.extend((0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), BYTE)));
        tokens.extend(["\u{2581}", "a", "b", "c", "."].map(|piece| (piece.to_owned(), NORMAL)));
        tokens.extend(pieces.iter().map(|&piece| (piece.to_owned(), NORMAL)));
        tokens.extend(special.iter().map(|&(text, kind)| (text.to_owned(), kind)));
        Self::new("llama", "", tokens)
    }

    fn load(&self) -> Arc<Model> {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(0u64.to_le_bytes());
        file.extend(9u64.to_le_bytes());
        for (key, value) in [
            ("general.architecture", "llama"),
            ("general.name", self.name),
            ("tokenizer.ggml.model", self.model),
            ("tokenizer.ggml.pre", self.pre),
        ] {
            key_of(&mut file, key, 8);
            text(&mut file, value);
        }
        array(&mut file, "tokenizer.ggml.tokens", 8, self.tokens.iter(), |file, token| text(file, &token.0));
        array(&mut file, "tokenizer.ggml.token_type", 5, self.tokens.iter(), |file, token| {
            file.extend(token.1.to_le_bytes());
        });
        array(
            &mut file,
            "tokenizer.ggml.scores",
            6,
            (0..self.tokens.len()).map(|at| u16::try_from(at).expect("few")),
            |file, at| {
                file.extend((-f32::from(at)).to_le_bytes());
            },
        );
        let none = [String::from("x y")];
        let merges = if self.merges.is_empty() { &none[..] } else { &self.merges };
        array(&mut file, "tokenizer.ggml.merges", 8, merges.iter(), |file, merge| text(file, merge));
        key_of(&mut file, "tokenizer.ggml.bos_token_id", 4);
        file.extend(1u32.to_le_bytes());
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/tmp");
        std::fs::create_dir_all(&folder).expect("made");
        let name = format!("slices-{}-{}-{}-{}.gguf", self.model, self.pre, self.name, self.tokens.len());
        std::fs::write(folder.join(&name), file).expect("written");
        let options = ModelOptions { vocab_only: true, ..ModelOptions::default() };
        Model::load(&folder.join(name), &options, None).expect("loaded")
    }
}

fn text(file: &mut Vec<u8>, text: &str) {
    file.extend((text.len() as u64).to_le_bytes());
    file.extend(text.as_bytes());
}

fn key_of(file: &mut Vec<u8>, key: &str, kind: u32) {
    text(file, key);
    file.extend(kind.to_le_bytes());
}

fn array<T>(
    file: &mut Vec<u8>,
    key: &str,
    kind: u32,
    items: impl ExactSizeIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    key_of(file, key, 9);
    file.extend(kind.to_le_bytes());
    file.extend((items.len() as u64).to_le_bytes());
    items.for_each(|item| write(file, item));
}

/// A reproducible sequence of random numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }

    /// A random text of characters that tokenizers treat differently, especially around cuts.
    fn text(&mut self) -> String {
        const PARTS: [&str; 34] = [
            "a",
            "b",
            "Ab",
            "ab ab",
            "c\nc",
            " ",
            "  ",
            "\n",
            "\n\n",
            "\r\n",
            "\t",
            "a b",
            "1",
            "12345",
            ".",
            "/",
            "'s",
            "'",
            "\u{e9}",
            "e\u{301}",
            "\u{6f22}\u{5b57}",
            "\u{6f22}\n\u{5b57}",
            "\u{3000}",
            "\u{a0}",
            "\u{2581}",
            "\u{1f389}",
            "<|end|>",
            "<|a b|>",
            "a<|end|>\nb",
            "<mask>",
            "\u{0}",
            "\u{1}",
            "a \n b",
            "\u{85}",
        ];
        (0..self.below(40)).map(|_| PARTS[self.below(PARTS.len())]).collect()
    }
}

/// Cuts random texts wherever the rules allow it; returns the number of cuts.
fn cuts_change_nothing(model: &Model, texts: usize) -> usize {
    let (vocab, rules) = (model.vocab(), TextRules::of(model).expect("read"));
    let mut numbers = Numbers(texts as u64);
    let mut cuts = 0;
    for _ in 0..texts {
        let text = numbers.text();
        let whole = vocab.tokenize_on_this_thread(&text, false, true).expect("tokenized");
        if let Some(longest) = rules.longest_piece() {
            assert!(text.len().div_ceil(longest) <= whole.len(), "{} bytes: {whole:?}", text.len());
        }
        let inside = (1..text.len()).filter(|&at| text.is_char_boundary(at));
        for slice in inside.filter_map(|at| rules.cut(&text, at)) {
            let mut parts = vocab.tokenize_on_this_thread(&text[..slice.bytes], false, true).expect("tokenized");
            let rest = &text[slice.bytes + slice.skip..];
            parts.extend(vocab.tokenize_on_this_thread(rest, false, true).expect("tokenized"));
            assert_eq!(parts, whole, "{text:?} cut at byte {}", slice.bytes);
            cuts += 1;
        }
    }
    cuts
}

#[test]
fn a_cut_changes_no_token_of_any_byte_level_pre_tokenizer() {
    for pre in BYTE_BPE {
        // Each call compiles the patterns again, which takes milliseconds.
        assert!(cuts_change_nothing(&Vocabulary::bpe(pre).load(), 6) > 3, "{pre}");
    }
}

#[test]
fn a_cut_changes_no_token_where_lines_are_words() {
    for pre in LINE_BPE {
        assert!(cuts_change_nothing(&Vocabulary::lines(pre).load(), 150) > 5, "{pre}");
    }
}

#[test]
fn a_cut_changes_no_token_of_other_kinds_of_vocabulary() {
    let spm = Vocabulary::spm(&["\u{2581}a", "ab", "\u{2581}\u{2581}", ".\u{2581}"], &[("<|end|>", CONTROL)]);
    assert!(cuts_change_nothing(&spm.load(), 150) > 20);
    // BERT's special tokens are found by their names.
    let mut wpm: Vec<(String, i32)> =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(|text| (text.to_owned(), CONTROL)).to_vec();
    wpm.extend(
        ["\u{2581}a", "\u{2581}b", "b", "a", "\u{2581}c", ".", "\u{2581}1"].map(|text| (text.to_owned(), NORMAL)),
    );
    assert!(cuts_change_nothing(&Vocabulary::new("bert", "", wpm).load(), 150) > 20);
    let mut rwkv: Vec<(String, i32)> = (0..=255u8).map(|byte| (format!("\\x{byte:02x}"), NORMAL)).collect();
    rwkv.extend([" a", "ab", "\\n\\n", "ab ab."].map(|text| (text.to_owned(), NORMAL)));
    let rwkv = Vocabulary::new("rwkv", "", rwkv);
    // "ab ab." contains the position before a space, so only lines are cut.
    assert!(cuts_change_nothing(&rwkv.load(), 150) > 5);
}

#[test]
fn texts_are_not_cut_where_a_token_could_cross_the_cut() {
    let cut_at = |vocabulary: Vocabulary, text: &str| {
        let rules = TextRules::of(&vocabulary.load()).expect("read");
        (1..text.len()).find_map(|at| rules.cut(text, at))
    };
    let implied = Some(Slice { bytes: 1, skip: 1 });
    assert_eq!(cut_at(Vocabulary::spm(&[], &[]), "a b"), implied);
    assert_eq!(cut_at(Vocabulary::spm(&["a\u{2581}b"], &[]), "a b"), None, "a piece");
    assert_eq!(cut_at(Vocabulary::spm(&[], &[("<a b>", USER_DEFINED)]), "a b"), None, "a special token");
    assert_eq!(cut_at(Vocabulary::spm(&[], &[("d", USER_DEFINED)]), "a d"), None, "a special token behind the space");
    assert_eq!(cut_at(Vocabulary::spm(&[], &[(" ", USER_DEFINED)]), "a b"), None, "a special token for the space");
    assert_eq!(cut_at(Vocabulary::bpe("gpt-2"), "a\nb"), Some(Slice { bytes: 2, skip: 0 }));
    assert_eq!(cut_at(Vocabulary::bpe("gpt-2"), "a b"), None, "a special token");
    assert_eq!(cut_at(Vocabulary::bpe("superbpe"), "a\nb"), None);
}

#[test]
fn only_a_tokenizer_that_drops_no_text_has_a_longest_piece() {
    let longest = |vocabulary: Vocabulary| TextRules::of(&vocabulary.load()).expect("read").longest_piece();
    assert_eq!(longest(Vocabulary::bpe("gpt-2")), Some(7));
    let mut without_a_byte = Vocabulary::bpe("gpt-2");
    without_a_byte.tokens[usize::from(b'z')].0 = "zzz".to_owned();
    assert_eq!(longest(without_a_byte), None);
    assert_eq!(longest(Vocabulary::lines("gemma4")), Some(6));
    assert_eq!(longest(Vocabulary::spm(&[], &[])), Some(6));
    // llama.cpp lets Phi-3's special tokens swallow the white space behind them.
    let mut phi = Vocabulary::spm(&[], &[("<|endoftext|>", CONTROL)]);
    phi.name = "Phi-3 mini";
    assert_eq!(longest(phi), None);
}

#[test]
fn a_long_text_has_the_same_tokens_in_slices() {
    for vocabulary in [Vocabulary::bpe("llama3"), Vocabulary::spm(&["\u{2581}a", "ab"], &[("<|end|>", CONTROL)])] {
        let model = vocabulary.load();
        let (vocab, rules) = (model.vocab(), TextRules::of(&model).expect("read"));
        let mut numbers = Numbers(11);
        let text: String = (0..4_000).map(|_| numbers.text()).collect();
        assert!(text.len() > 3 * SLICE_BYTES);
        let mut asked = 0;
        let mut count = |_| {
            asked += 1;
            true
        };
        let special = Special { add: true, parse: true };
        let sliced = vocab.tokenize_while(&text, special, &rules, &mut count).expect("tokenized");
        assert_eq!(sliced, vocab.tokenize(&text, true, true).expect("tokenized"));
        assert!(asked > 3, "{asked}");
        let stopped = vocab.tokenize_while(&text, special, &rules, &mut |tokens| tokens == 0).expect("tokenized");
        assert!(sliced.starts_with(&stopped) && stopped.len() < sliced.len() / 2);
    }
}

#[test]
fn a_text_without_a_cut_is_taken_whole_up_to_a_limit() {
    let model = Vocabulary::spm(&[], &[]).load();
    let (vocab, rules) = (model.vocab(), TextRules::of(&model).expect("read"));
    let special = Special { add: false, parse: false };
    let text = format!("{} b", "a".repeat(SLICE_BYTES + 1));
    assert_eq!(rules.first_slice(&text).expect("short").bytes, SLICE_BYTES + 1, "the first cut behind a slice's end");
    let text = format!("a b{}", ".".repeat(STRETCH_BYTES + 1));
    let error = vocab.tokenize_while(&text, special, &rules, &mut |_| true).expect_err("too long");
    assert!(matches!(error, Error::StretchTooLong { at: 2, limit: STRETCH_BYTES, .. }), "{error:?}");
}
