//! Turns text into tokens, on threads whose stacks are large enough for llama.cpp's regular expressions on any accepted
//! prompt.
//!
//! llama.cpp splits text for most BPE vocabularies with `std::regex`, and libstdc++ matches those recursively: one or
//! two frames per character of a match. A megabyte of the same letter overflows an ordinary stack, which ends the
//! process. So text is tokenized on a thread with a very large stack, of which the system commits only the pages that
//! are used. A text whose longest possible match would not fit even there is refused.

use std::cell::Cell;
use std::ffi::c_char;
use std::panic;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::error::{Error, check};
use crate::slices::TextRules;
use crate::sys;
use crate::token::TokenId;
use crate::vocab::{KIND_WPM, Vocab};

/// Stack sizes to try, largest first: a process with a limit on its address space may get only a smaller one.
const STACK_BYTES: [usize; 5] = [1 << 30, 256 << 20, 64 << 20, 16 << 20, 4 << 20];
/// Stack that one character of a match may take. All of llama.cpp's patterns were measured on x86-64 with GCC 12: 320
/// bytes as built, 896 with different inlining (GPT-4o's groups and lookaheads). This is 1.5 times as much.
const STACK_BYTES_PER_CHAR: usize = 1344;
/// Stack for everything that does not grow with the text.
const STACK_BYTES_KEPT: usize = 256 << 10;
/// Stack that may be used of a thread of unknown size: an ordinary one has at least 2 MiB, and its caller needs most of
/// that.
const STACK_BYTES_ELSEWHERE: usize = STACK_BYTES_KEPT + (256 << 10);
/// Maximum length of a text in bytes. The largest contexts hold about ten million tokens of about four bytes.
const TEXT_BYTES: usize = 64 << 20;

/// How special tokens are handled when a text is tokenized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    /// Whether the special tokens that the model adds (such as BOS and EOS) are put around the text.
    pub add: bool,
    /// Whether control tokens that are spelled out in the text are parsed.
    pub parse: bool,
}

thread_local! {
    /// The stack size of this thread, if this module started it.
    static STACK: Cell<usize> = const { Cell::new(STACK_BYTES_ELSEWHERE) };
}

/// The properties of a tokenizer thread.
#[derive(Debug, Clone, Copy)]
pub struct TokenizerThread {
    /// The thread's name.
    pub name: &'static str,
    /// The priority, relative to the thread that starts it: what Linux adds to its nice value. Other systems ignore it.
    pub nice: i32,
}

/// Starts a thread on which [`Vocab::tokenize_while`] accepts long texts.
///
/// # Errors
///
/// [`Error::ThreadSpawn`] if the system refuses even a small stack.
///
/// # Panics
///
/// If `f` panics, that thread does; joining it returns the panic.
pub fn spawn_tokenizer_thread<F>(options: TokenizerThread, f: F) -> Result<JoinHandle<()>, Error>
where
    F: FnOnce() + Send + 'static,
{
    // A refused spawn drops its closure, so `f` is kept here until a thread has started.
    let job = Arc::new(Mutex::new(Some(f)));
    with_largest_stack(|stack_bytes| {
        let job = Arc::clone(&job);
        thread::Builder::new().name(options.name.to_owned()).stack_size(stack_bytes).spawn(move || {
            STACK.set(stack_bytes);
            lower_priority(options.nice);
            let taken = job.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(f) = taken {
                f();
            }
        })
    })
}

/// Lowers the priority of only the calling thread, which is possible on Linux, where POSIX would lower the whole
/// process.
fn lower_priority(nice: i32) {
    #[cfg(target_os = "linux")]
    // SAFETY: the call takes a number only. Where it is refused the thread runs on as it was.
    let _ = unsafe { libc::nice(nice) };
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

fn with_largest_stack<T>(spawn: impl Fn(usize) -> std::io::Result<T>) -> Result<T, Error> {
    let (last, larger) = STACK_BYTES.split_last().expect("there are stacks to try");
    for &stack_bytes in larger {
        if let Ok(spawned) = spawn(stack_bytes) {
            return Ok(spawned);
        }
    }
    spawn(*last).map_err(|source| Error::ThreadSpawn { stack_bytes: *last, source: Arc::new(source) })
}

impl Vocab<'_> {
    /// Tokenizes a text on a separate thread; blocks until it is done.
    ///
    /// `add_special` puts the special tokens that the model adds around it; `parse_special` parses control tokens
    /// that are spelled out in it. NUL bytes are treated like other text.
    ///
    /// # Errors
    ///
    /// [`Error::TextTooLong`], [`Error::RunTooLong`], [`Error::NoVocabulary`], [`Error::ThreadSpawn`], or an error
    /// from C++.
    pub fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<TokenId>, Error> {
        self.check_text(text)?;
        let job = || self.tokenize_on_this_thread(text, add_special, parse_special);
        thread::scope(|scope| {
            let job = &job;
            let thread = with_largest_stack(|stack_bytes| {
                thread::Builder::new().name("mullama-tokenize".to_owned()).stack_size(stack_bytes).spawn_scoped(
                    scope,
                    move || {
                        STACK.set(stack_bytes);
                        job()
                    },
                )
            })?;
            thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
        })
    }

    /// Like [`tokenize`](Self::tokenize), on the calling thread: one made by [`spawn_tokenizer_thread`], or any other
    /// for texts without long runs.
    ///
    /// # Errors
    ///
    /// Those of [`tokenize`](Self::tokenize); if the stack is small, [`Error::RunTooLong`] is returned for shorter
    /// runs.
    pub fn tokenize_on_this_thread(
        self,
        text: &str,
        add_special: bool,
        parse_special: bool,
    ) -> Result<Vec<TokenId>, Error> {
        self.check_text(text)?;
        let mut tokens = Vec::new();
        self.append(text, flags(add_special, parse_special), &mut tokens)?;
        Ok(tokens)
    }

    /// Like [`tokenize_on_this_thread`](Self::tokenize_on_this_thread), with long text in slices. `go_on` is called
    /// before each slice with the number of tokens so far, and stops the work by returning `false`; then only these
    /// tokens are returned.
    ///
    /// # Errors
    ///
    /// Those of [`tokenize`](Self::tokenize), and [`Error::StretchTooLong`] for a text that cannot be cut.
    pub fn tokenize_while(
        self,
        text: &str,
        special: Special,
        rules: &TextRules,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<TokenId>, Error> {
        self.check_text(text)?;
        let mut tokens = Vec::new();
        let mut slice = rules.first_slice(text)?;
        if !go_on(0) {
            return Ok(tokens);
        }
        if slice.bytes == text.len() {
            self.append(text, flags(special.add, special.parse), &mut tokens)?;
            return Ok(tokens);
        }
        let (before, after) = self.added_tokens(special.add)?;
        tokens.extend(before);
        let mut from = 0;
        loop {
            let behind = |error: Error| error.behind(from);
            self.append(&text[from..from + slice.bytes], flags(false, special.parse), &mut tokens).map_err(behind)?;
            from += slice.bytes + slice.skip;
            if from == text.len() {
                tokens.extend(after);
                return Ok(tokens);
            }
            if !go_on(tokens.len()) {
                return Ok(tokens);
            }
            slice = rules.first_slice(&text[from..]).map_err(|error| error.behind(from))?;
        }
    }

    /// The special tokens that the model adds before and after a text.
    fn added_tokens(self, add_special: bool) -> Result<(Vec<TokenId>, Vec<TokenId>), Error> {
        if !add_special {
            return Ok((Vec::new(), Vec::new()));
        }
        let mut before = Vec::new();
        self.append("", flags(true, false), &mut before)?;
        // WordPiece puts a token before every text, whatever the file says.
        let begins = usize::from(self.add_bos() || self.kind() == KIND_WPM).min(before.len());
        let after = before.split_off(begins);
        Ok((before, after))
    }

    /// Appends the tokens of a text to others.
    fn append(self, text: &str, flags: i32, tokens: &mut Vec<TokenId>) -> Result<(), Error> {
        if self.splits_by_regex() {
            check_runs(text, longest_run(STACK.get()))?;
        }
        // A token stands for at least one byte, except for those put around the text and a leading space.
        tokens.reserve(text.len() + 8);
        let mut count = self.tokenize_into(text, flags, tokens)?;
        if count < 0 && count != i32::MIN {
            tokens.reserve(count.unsigned_abs() as usize);
            count = self.tokenize_into(text, flags, tokens)?;
        }
        let count = usize::try_from(count).map_err(|_| Error::TextTooLong { bytes: text.len(), limit: TEXT_BYTES })?;
        // SAFETY: llama.cpp wrote `count` tokens into the spare capacity.
        unsafe { tokens.set_len(tokens.len() + count) };
        Ok(())
    }

    fn check_text(self, text: &str) -> Result<(), Error> {
        if !self.has_vocabulary() {
            return Err(Error::NoVocabulary);
        }
        if text.len() > TEXT_BYTES {
            return Err(Error::TextTooLong { bytes: text.len(), limit: TEXT_BYTES });
        }
        Ok(())
    }

    /// Writes the tokens of a text into spare capacity; returns their number, negative if they did not fit.
    fn tokenize_into(self, text: &str, flags: i32, tokens: &mut Vec<TokenId>) -> Result<i32, Error> {
        let too_long = |_| Error::TextTooLong { bytes: text.len(), limit: TEXT_BYTES };
        let bytes = i32::try_from(text.len()).map_err(too_long)?;
        let spare = tokens.spare_capacity_mut();
        let capacity = i32::try_from(spare.len()).unwrap_or(i32::MAX);
        let mut count = 0;
        // SAFETY: the text is passed with its length, and llama.cpp writes at most `capacity` tokens.
        let status = unsafe {
            sys::mullama_tokenize(
                self.raw(),
                text.as_ptr().cast::<c_char>(),
                bytes,
                spare.as_mut_ptr().cast::<TokenId>(),
                capacity,
                flags,
                &raw mut count,
            )
        };
        check("llama_tokenize", status)?;
        Ok(count)
    }
}

fn flags(add_special: bool, parse_special: bool) -> i32 {
    (if add_special { sys::ML_ADD_SPECIAL } else { 0 }) | (if parse_special { sys::ML_PARSE_SPECIAL } else { 0 })
}

/// The longest run, in characters, for which a stack of this size is safe.
///
/// A match may span one run of the text and the next (punctuation and the line breaks that follow), but only for
/// patterns that take less than half of the measured size.
fn longest_run(stack_bytes: usize) -> usize {
    stack_bytes.saturating_sub(STACK_BYTES_KEPT) / STACK_BYTES_PER_CHAR
}

/// Finds the first run that is longer than `limit` characters.
///
/// A run is a part of the text without a break that ends every match: the lines of a text are runs, and so is the white
/// space between them. (A few patterns match across the spaces inside a line, but none across a line break and the text
/// after it.)
fn check_runs(text: &str, limit: usize) -> Result<(), Error> {
    if text.len() <= limit {
        return Ok(());
    }
    for is_run in [is_inside_line as fn(char) -> bool, char::is_whitespace] {
        let (mut at, mut chars) = (0, 0);
        for (index, char) in text.char_indices() {
            if !is_run(char) {
                chars = 0;
                continue;
            }
            if chars == 0 {
                at = index;
            }
            chars += 1;
            if chars > limit {
                chars += text[index..].chars().skip(1).take_while(|&c| is_run(c)).count();
                return Err(Error::RunTooLong { at, chars, limit });
            }
        }
    }
    Ok(())
}

fn is_inside_line(char: char) -> bool {
    !matches!(char, '\n' | '\r')
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::mpsc;

    use super::*;
    use crate::model::{Model, ModelOptions};

    #[test]
    fn a_run_ends_at_a_line_break() {
        assert!(check_runs("aaaa\naaaa\naaaa", 4).is_ok());
        assert!(check_runs("aaaa\n\n\naaaa", 4).is_ok());
    }

    #[test]
    fn a_run_over_the_limit_is_reported_where_it_begins() {
        let error = check_runs("ab\ncdefgh\ni", 5).expect_err("six characters in a line");
        assert!(matches!(error, Error::RunTooLong { at: 3, chars: 6, limit: 5 }), "{error:?}");
        let error = check_runs("a\n\n\n\n\n\nb", 5).expect_err("six line breaks");
        assert!(matches!(error, Error::RunTooLong { at: 1, chars: 6, limit: 5 }), "{error:?}");
    }

    #[test]
    fn a_run_is_counted_in_characters() {
        assert!(check_runs("ééééé\n", 5).is_ok());
        assert!(check_runs("éééééé\n", 5).is_err());
    }

    #[test]
    fn a_tokenizer_thread_takes_longer_runs_than_another() {
        let elsewhere = longest_run(STACK.get());
        let (sender, receiver) = mpsc::sync_channel(1);
        let options = TokenizerThread { name: "tokenizer", nice: 0 };
        let thread = spawn_tokenizer_thread(options, move || {
            sender.send(longest_run(STACK.get())).expect("the test waits");
        });
        thread.expect("spawned").join().expect("no panic");
        assert!(receiver.recv().expect("sent") > 100 * elsewhere);
    }

    #[test]
    fn the_longest_allowed_run_fits_the_stack_for_every_kind_of_pattern() {
        // One pattern of each family in llama.cpp: cased groups with lookaheads, plain classes, words across spaces,
        // `\s+$`.
        for pattern in ["gpt-4o", "deepseek-llm", "granite-embed-multi-97m", "superbpe", "default"] {
            let model = byte_vocabulary(pattern);
            for unit in ["a", "A", " ", ".", "1", "\n", "\u{e9}", "a ", "aB", "\u{6f22}"] {
                takes_the_longest_run(&model, pattern, unit);
            }
        }
    }

    /// Runs on a stack that is small enough to be filled quickly; an overflow ends the test program.
    fn takes_the_longest_run(model: &Model, pattern: &str, unit: &str) {
        const SMALL_STACK: usize = 8 << 20;
        let chars = longest_run(SMALL_STACK) / unit.chars().count();
        let text = unit.repeat(chars);
        thread::scope(|scope| {
            let thread = thread::Builder::new().stack_size(SMALL_STACK).spawn_scoped(scope, || {
                STACK.set(SMALL_STACK);
                model.vocab().tokenize_on_this_thread(&text, false, false)
            });
            let tokens = thread.expect("spawned").join().expect("no panic");
            assert!(tokens.is_ok_and(|tokens| !tokens.is_empty()), "{pattern} on {unit:?}");
        });
    }

    /// A model that has only a BPE vocabulary of the 256 bytes, split by the named pattern.
    fn byte_vocabulary(pattern: &str) -> Arc<Model> {
        let path =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/tmp/vocabulary-{pattern}.gguf"));
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(&path, gguf(pattern)).expect("written");
        let options = ModelOptions { vocab_only: true, ..ModelOptions::default() };
        Model::load(&path, &options, None).expect("loaded")
    }

    fn gguf(pattern: &str) -> Vec<u8> {
        // GPT-2's spelling of bytes: printable ones stand for themselves, the others are at U+0100 and above.
        let mut odd = 0x100u32..;
        let tokens: Vec<String> = (0..=255u8)
            .map(|byte| match byte {
                b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte).to_string(),
                _ => odd.next().and_then(char::from_u32).expect("few").to_string(),
            })
            .collect();
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(0u64.to_le_bytes());
        file.extend(6u64.to_le_bytes());
        let text = |file: &mut Vec<u8>, text: &str| {
            file.extend((text.len() as u64).to_le_bytes());
            file.extend(text.as_bytes());
        };
        for (key, value) in
            [("general.architecture", "llama"), ("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.pre", pattern)]
        {
            text(&mut file, key);
            file.extend(8u32.to_le_bytes());
            text(&mut file, value);
        }
        for (key, values) in [("tokenizer.ggml.tokens", &tokens[..]), ("tokenizer.ggml.merges", &["a a".to_owned()])] {
            text(&mut file, key);
            file.extend(9u32.to_le_bytes());
            file.extend(8u32.to_le_bytes());
            file.extend((values.len() as u64).to_le_bytes());
            for value in values {
                text(&mut file, value);
            }
        }
        text(&mut file, "tokenizer.ggml.bos_token_id");
        file.extend(4u32.to_le_bytes());
        file.extend(0u32.to_le_bytes());
        file
    }
}
