//! What every test of the engine stands on: a stage, scripts to run on it, and a reader who takes what is there.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use mullama::testing::{ByteVocabulary, Limits, Logits, Reuse, Size, Stage, Step, always};
use mullama::{MullamaError, StreamConfig, Token, TokenId, TokenStream, TryNext};

/// A prompt of one token; its byte is no letter.
pub(crate) const PROMPT: &[TokenId] = &[1];

/// What a decode costs on most stages.
pub(crate) const STEP: Duration = Duration::from_millis(1);

/// Milliseconds of the virtual clock.
pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A letter that depends on every token before it: one lost, repeated or changed, and the rest of the text is another.
pub(crate) fn hashed() -> Logits {
    always(|tokens| {
        let mut hasher = DefaultHasher::new();
        tokens.hash(&mut hasher);
        97 + TokenId::try_from(hasher.finish() % 26).expect("a letter")
    })
}

/// Writes these bytes after a prompt of one token, then ends the text.
pub(crate) fn spelling(bytes: &'static [u8]) -> Logits {
    always(move |tokens| bytes.get(tokens.len() - 1).map_or(ByteVocabulary::END, |&byte| byte.into()))
}

/// A size with these places, and room for everything else.
pub(crate) fn slots(slots: usize) -> Size {
    Size { slots, ..Size::default() }
}

/// A small pool: as many cells as the context is long.
pub(crate) fn pool(slots: usize, cells: usize, n_seq: usize) -> Size {
    let limits = Limits { rows: 512, cells, n_seq, reuse: Reuse::Nothing };
    Size { slots, queue: 64, context_len: cells, limits, ..Size::default() }
}

/// A stage of hashed letters where each decode takes [`STEP`].
pub(crate) fn stage(size: Size) -> Stage {
    Stage::new(size, hashed(), |_| STEP)
}

/// A stage with one stream that writes these bytes and then ends.
pub(crate) fn spell(bytes: &'static [u8], config: StreamConfig) -> (Stage, TokenStream) {
    let stage = Stage::new(Size::default(), spelling(bytes), |_| STEP);
    let stream = stage.open(PROMPT, config).expect("opened");
    (stage, stream)
}

/// Greedy, without a deadline.
pub(crate) fn config(max_tokens: u32) -> StreamConfig {
    StreamConfig::new().temperature(0.0).timeout_ms(None).max_tokens(max_tokens)
}

/// As [`config`], with stop sequences.
pub(crate) fn stopping(max_tokens: u32, stops: &[&str]) -> StreamConfig {
    config(max_tokens).stop_sequences(stops.iter().map(ToString::to_string).collect())
}

/// A prompt of this many tokens that differs from others by its seed.
pub(crate) fn prompt(len: usize, seed: usize) -> Vec<TokenId> {
    (0..len).map(|at| TokenId::try_from((at * 7 + seed * 31) % 256).expect("a byte")).collect()
}

/// What a reader got.
#[derive(Debug, Default)]
pub(crate) struct Got {
    pub(crate) tokens: Vec<Token>,
    pub(crate) over: bool,
    pub(crate) error: Option<MullamaError>,
}

impl Got {
    pub(crate) fn text(&self) -> String {
        self.tokens.iter().map(|token| token.text.as_str()).collect()
    }

    /// The code of the error that ended it.
    pub(crate) fn code(&self) -> Option<&'static str> {
        self.error.as_ref().map(MullamaError::code)
    }

    /// Takes at most `most` items that are there, without waiting.
    pub(crate) fn take(&mut self, stream: &mut TokenStream, most: usize) {
        for _ in 0..most {
            match stream.next_within(Duration::ZERO) {
                TryNext::Token(token) => self.tokens.push(token),
                TryNext::Ended => {
                    self.over = true;
                    return;
                }
                TryNext::Failed(error) => {
                    assert!(self.error.replace(error).is_none(), "an error is told once");
                    self.over = true;
                }
                TryNext::Pending => return,
            }
        }
    }
}

/// Takes everything that is there.
pub(crate) fn take(stream: &mut TokenStream) -> Got {
    let mut got = Got::default();
    got.take(stream, usize::MAX);
    got
}

/// Steps and reads all streams, moving the clock on where the engine waits for it, until each is over.
pub(crate) fn read_all(stage: &mut Stage, streams: &mut [TokenStream]) -> Vec<Got> {
    let mut got: Vec<Got> = streams.iter().map(|_| Got::default()).collect();
    for _ in 0..100_000 {
        let before: usize = got.iter().map(|got| got.tokens.len()).sum();
        got.iter_mut().zip(streams.iter_mut()).for_each(|(got, stream)| got.take(stream, usize::MAX));
        if got.iter().all(|got| got.over) {
            return got;
        }
        let taken = got.iter().map(|got| got.tokens.len()).sum::<usize>() > before;
        if let (Step::Idle { until }, false) = (stage.step(), taken) {
            let ended = streams.iter().zip(&got).any(|(stream, got)| stream.finish_reason().is_some() && !got.over);
            if !ended {
                let until = until.expect("streams that are read never wait for ever");
                stage.clock.advance(until.saturating_sub(now(stage)));
            }
        }
    }
    panic!("the streams do not end: {got:?}");
}

/// As [`read_all`], for one stream.
pub(crate) fn read(stage: &mut Stage, stream: &mut TokenStream) -> Got {
    read_all(stage, std::slice::from_mut(stream)).remove(0)
}

/// Steps this many times.
pub(crate) fn steps(stage: &mut Stage, count: usize) {
    for _ in 0..count {
        stage.step();
    }
}

/// The time on the stage.
pub(crate) fn now(stage: &Stage) -> Duration {
    mullama::testing::Clock::now(stage.clock.as_ref())
}

/// The text that a stream writes when it has the stage for itself.
pub(crate) fn alone(prompt: &[TokenId], max_tokens: u32) -> String {
    let mut stage = stage(Size::default());
    let mut stream = stage.open(prompt, config(max_tokens)).expect("opened");
    read(&mut stage, &mut stream).text()
}

/// Rows of each decode since the last call.
pub(crate) fn rows(stage: &Stage) -> Vec<usize> {
    stage.decodes().iter().map(Vec::len).collect()
}
