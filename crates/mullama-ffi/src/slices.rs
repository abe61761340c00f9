//! Determines where a text may be cut without changing its tokens, and how much text one token can stand for.
//!
//! A cut is only made where every rule of llama.cpp's tokenizer for the vocabulary proves that no token, and no match
//! of a regular expression, reaches across it:
//!
//! * After a line break between a character that is not white space and a letter. Every pattern of the BPE tokenizers
//!   in `BYTE_BPE` ends a match or a gap there, and none of them looks back or, from a lone line break, ahead.
//! * Before a single space between two ASCII letters. Those patterns end a word there, and start the next with the
//!   space.
//! * `SentencePiece` and RWKV have no patterns, so both rules hold if no token of the vocabulary contains such a
//!   position. `SentencePiece` puts a space before a text, which stands for the space at the cut.
//! * `WordPiece` processes one word between white space at a time, and the tokenizers in `LINE_BPE` one line.
//!
//! Control tokens and user-defined tokens are found first. If one of them contains such a position, texts are not cut
//! there at all; the same holds if one of them starts or ends with a letter and removes or adds white space beside it.

use crate::error::Error;
use crate::model::Model;
use crate::sys;
use crate::token::TokenId;
use crate::vocab::{KIND_BPE, KIND_RWKV, KIND_SPM, KIND_WPM, Vocab};

/// Target size of a slice in bytes, if the text can be cut there: some tens of milliseconds of work.
pub(crate) const SLICE_BYTES: usize = 64 << 10;
/// Maximum bytes between two positions where a text can be cut. llama.cpp takes 150 to 250 bytes of memory for each
/// byte.
pub(crate) const STRETCH_BYTES: usize = 2 << 20;

/// The pre-tokenizers of `tokenizer.ggml.model` = `gpt2` whose patterns were reviewed: text becomes GPT-2's bytes, and
/// both cuts are safe. `superbpe` and `exaone-moe` are excluded, whose words contain spaces, and `whitespace`, which
/// drops text.
const BYTE_BPE: [&str; 85] = [
    "default",
    "minicpm5",
    "llama3",
    "llama-v3",
    "llama-bpe",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "jina-v5-nano",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "spark2_5",
    "youtu",
    "falcon",
    "mpt",
    "starcoder",
    "gpt-2",
    "phi-2",
    "jina-es",
    "jina-de",
    "gigachat",
    "jina-v2-es",
    "jina-v2-de",
    "a.x-4.0",
    "mellum",
    "modern-bert",
    "jais-2",
    "jina-v1-en",
    "jina-v2-code",
    "roberta-bpe",
    "refact",
    "command-r",
    "qwen2",
    "deepseek-r1-qwen",
    "kormo",
    "f2llmv2",
    "qwen35",
    "stablelm2",
    "olmo",
    "dbrx",
    "smaug-bpe",
    "poro-chat",
    "chatglm-bpe",
    "glm4",
    "glm5",
    "viking",
    "jais",
    "tekken",
    "smollm",
    "codeshell",
    "bloom",
    "gpt3-finnish",
    "exaone",
    "exaone4",
    "minerva-7b",
    "megrez",
    "gpt-4o",
    "llama4",
    "kanana2",
    "talkie",
    "granite-embed-multi-97m",
    "cohere2moe",
    "trillion",
    "granite-docling",
    "seed-coder",
    "hunyuan",
    "hunyuan-dense",
    "joyai-llm",
    "kimi-k2",
    "grok-2",
    "minimax-m2",
    "solar-open",
    "bailingmoe",
    "bailingmoe2",
    "llada-moe",
    "laguna",
    "ufakzeka",
    "afmoe",
    "tiny_aya",
    "hy_v4",
    "mellum2",
    "chameleon",
];
/// Pre-tokenizers that split a text only into lines, and spell unknown characters in tokens such as `<0x0A>`.
const LINE_BPE: [&str; 4] = ["gemma4", "granite-embed-multi-311m", "sarvam-moe", "mmbert"];

/// The cutting rules of a vocabulary, which hold for every text; determined once, in a pass over the vocabulary.
#[derive(Debug, Clone, Default)]
pub struct TextRules {
    longest_piece: Option<usize>,
    after_line_break: bool,
    before_space: Option<SpaceCut>,
}

/// What happens to the space at a cut before a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpaceCut {
    /// The next slice begins with it.
    Kept,
    /// The tokenizer puts a space before the next slice by itself.
    Implied,
}

/// The start of a text that is tokenized at once, and the number of bytes after it that are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) bytes: usize,
    pub(crate) skip: usize,
}

impl TextRules {
    /// Reads the vocabulary of a model, which takes about 30 ms for 150,000 tokens.
    ///
    /// # Errors
    ///
    /// An error from C++.
    pub fn of(model: &Model) -> Result<Self, Error> {
        let vocab = model.vocab();
        if !vocab.has_vocabulary() {
            return Ok(Self::default());
        }
        let kind = Kind::of(model);
        let mut survey = Survey::default();
        for token in (0..).take(vocab.n_tokens()) {
            survey.read(vocab, token)?;
        }
        let pieces_may_cross = matches!(kind, Kind::Spm | Kind::Rwkv);
        let strips = survey.strips && survey.special_ends.letter;
        let cuttable = kind != Kind::Other && !strips && !(kind == Kind::Spm && survey.special_ends.ascii_letter);
        let line_break = cuttable && !survey.specials.line_break && !(pieces_may_cross && survey.pieces.line_break);
        let space = cuttable && !survey.specials.space && !(pieces_may_cross && survey.pieces.space);
        Ok(Self {
            longest_piece: survey.longest_piece(kind),
            // SentencePiece would put a space before a slice that begins with a letter.
            after_line_break: line_break && kind != Kind::Spm,
            before_space: if space && kind != Kind::LineBpe { space_cut(vocab, kind, &survey)? } else { None },
        })
    }

    /// Maximum bytes of a text that one of its tokens can stand for; `None` if the tokenizer may drop text.
    pub fn longest_piece(&self) -> Option<usize> {
        self.longest_piece
    }

    /// The start of `text` to tokenize next; all of it if it is short enough.
    pub(crate) fn first_slice(&self, text: &str) -> Result<Slice, Error> {
        let whole = Slice { bytes: text.len(), skip: 0 };
        if text.len() <= SLICE_BYTES {
            return Ok(whole);
        }
        let longest = STRETCH_BYTES.min(text.len() - 1);
        let backwards = (1..=SLICE_BYTES).rev();
        let cut = backwards.chain(SLICE_BYTES + 1..=longest).find_map(|at| self.cut(text, at));
        match cut {
            Some(slice) => Ok(slice),
            None if text.len() <= STRETCH_BYTES => Ok(whole),
            None => Err(Error::StretchTooLong { at: 0, bytes: text.len(), limit: STRETCH_BYTES }),
        }
    }

    /// The slice that ends at byte `at`, if the text may be cut there.
    fn cut(&self, text: &str, at: usize) -> Option<Slice> {
        let bytes = text.as_bytes();
        let kept = Slice { bytes: at, skip: 0 };
        if bytes[at - 1] == b'\n' && self.after_line_break {
            let before = text[..at - 1].chars().next_back()?;
            let after = text[at..].chars().next()?;
            return (!before.is_whitespace() && after.is_alphabetic()).then_some(kept);
        }
        if bytes[at] != b' ' || !bytes[at - 1].is_ascii_alphabetic() || !bytes.get(at + 1)?.is_ascii_alphabetic() {
            return None;
        }
        self.before_space.map(|space| match space {
            SpaceCut::Kept => kept,
            SpaceCut::Implied => Slice { bytes: at, skip: 1 },
        })
    }
}

/// llama.cpp's tokenizers, as far as they differ in where texts may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    ByteBpe,
    LineBpe,
    Spm,
    Wpm,
    Rwkv,
    Other,
}

impl Kind {
    fn of(model: &Model) -> Self {
        match model.vocab().kind() {
            KIND_SPM => Self::Spm,
            KIND_WPM => Self::Wpm,
            KIND_RWKV => Self::Rwkv,
            KIND_BPE => {
                let metadata = model.metadata();
                let value = |key: &str| metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
                let pre = value("tokenizer.ggml.pre").filter(|pre| !pre.is_empty()).unwrap_or("default");
                match value("tokenizer.ggml.model") {
                    Some("gpt2") if BYTE_BPE.contains(&pre) => Self::ByteBpe,
                    Some("gpt2") if LINE_BPE.contains(&pre) => Self::LineBpe,
                    Some("gemma4") => Self::LineBpe,
                    _ => Self::Other,
                }
            }
            _ => Self::Other,
        }
    }
}

/// Whether token spellings contain a position at which a text would be cut.
#[derive(Debug, Default)]
struct CutPositions {
    /// A line break before a letter.
    line_break: bool,
    /// A space after an ASCII letter.
    space: bool,
}

impl CutPositions {
    fn read(&mut self, spelling: &[u8]) {
        let contains = |is_place: fn(u8, u8) -> bool| spelling.windows(2).any(|pair| is_place(pair[0], pair[1]));
        self.line_break |= contains(|left, right| left == b'\n' && may_be_letter(right));
        self.space |= contains(|left, right| left.is_ascii_alphabetic() && right == b' ');
    }
}

/// How special tokens start or end.
#[derive(Debug, Default)]
struct Ends {
    letter: bool,
    ascii_letter: bool,
    /// Whether this describes how they start.
    space: bool,
}

/// The result of a pass over the vocabulary.
#[derive(Debug)]
struct Survey {
    longest: usize,
    /// Maximum bytes that a token of one GPT-2 character stands for.
    spelled: [bool; 256],
    /// Bytes with a token such as `<0x0A>`.
    escaped: [bool; 256],
    pieces: CutPositions,
    specials: CutPositions,
    special_ends: Ends,
    /// Whether a special token removes the white space around it.
    strips: bool,
}

impl Default for Survey {
    fn default() -> Self {
        Self {
            longest: 0,
            spelled: [false; 256],
            escaped: [false; 256],
            pieces: CutPositions::default(),
            specials: CutPositions::default(),
            special_ends: Ends::default(),
            strips: false,
        }
    }
}

impl Survey {
    fn read(&mut self, vocab: Vocab<'_>, token: TokenId) -> Result<(), Error> {
        let text = vocab.text(token)?;
        let mut piece = Vec::new();
        vocab.piece(token, true, &mut piece)?;
        // SentencePiece spells a space with three bytes, which a text may contain as well.
        self.longest = self.longest.max(text.len()).max(piece.len());
        if let Some(byte) = only_char(&text).and_then(gpt2_byte) {
            self.spelled[usize::from(byte)] = true;
        }
        if let Some(byte) = text.strip_prefix("<0x").and_then(|hex| u8::from_str_radix(hex.strip_suffix('>')?, 16).ok())
        {
            self.escaped[usize::from(byte)] = true;
        }
        for spelling in [text.replace('\u{2581}', " ").as_bytes(), &piece] {
            self.pieces.read(spelling);
        }
        let attributes = vocab.attributes(token)?;
        self.strips |= attributes & (sys::ATTR_LSTRIP | sys::ATTR_RSTRIP) != 0;
        if attributes & (sys::ATTR_CONTROL | sys::ATTR_USER_DEFINED | sys::ATTR_UNKNOWN) != 0 {
            // User-defined tokens are found in the text by their exact spelling.
            self.read_special(text.as_bytes());
        }
        Ok(())
    }

    fn read_special(&mut self, spelling: &[u8]) {
        let mut ends = [spelling.first(), spelling.last()].into_iter().flatten();
        self.special_ends.letter |= ends.clone().any(|&byte| may_be_letter(byte));
        self.special_ends.ascii_letter |= ends.any(u8::is_ascii_alphabetic);
        self.special_ends.space |= spelling.first() == Some(&b' ');
        self.specials.read(spelling);
    }

    /// Maximum bytes that a token can stand for, if every byte of a text becomes part of a token.
    fn longest_piece(&self, kind: Kind) -> Option<usize> {
        // UTF-8 never contains the other bytes.
        let spelled = || (0..=0xf4u8).filter(|byte| !matches!(byte, 0xc0 | 0xc1)).all(|b| self.spelled[usize::from(b)]);
        let lossless = !self.strips
            && match kind {
                // SentencePiece fails for what it cannot spell in bytes, and RWKV makes each unknown byte a token.
                Kind::Spm | Kind::Rwkv => true,
                Kind::ByteBpe => spelled(),
                Kind::LineBpe => self.escaped.iter().all(|&escaped| escaped),
                Kind::Wpm | Kind::Other => false,
            };
        lossless.then_some(self.longest.max(1))
    }
}

/// Whether a byte is an ASCII letter, or part of a character beyond ASCII.
fn may_be_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || !byte.is_ascii()
}

fn only_char(text: &str) -> Option<char> {
    let mut chars = text.chars();
    chars.next().filter(|_| chars.next().is_none())
}

/// The byte that GPT-2 spells with this character: printable ones stand for themselves, the others are at U+0100 and
/// above.
fn gpt2_byte(char: char) -> Option<u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match u32::from(char) {
        code @ ..0x100 => u8::try_from(code).ok().filter(printable),
        code => (0..=0xffu8).filter(|byte| !printable(byte)).nth((code - 0x100) as usize),
    }
}

/// Whether the tokenizer puts a space before a slice, which replaces the one at the cut.
fn space_cut(vocab: Vocab<'_>, kind: Kind, survey: &Survey) -> Result<Option<SpaceCut>, Error> {
    if kind != Kind::Spm {
        return Ok(Some(SpaceCut::Kept));
    }
    if survey.special_ends.space {
        return Ok(None);
    }
    let mut spelled = Vec::new();
    for token in vocab.tokenize_on_this_thread("a", false, false)? {
        vocab.piece(token, true, &mut spelled)?;
    }
    Ok(match spelled.as_slice() {
        b"a" => Some(SpaceCut::Kept),
        b" a" => Some(SpaceCut::Implied),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
