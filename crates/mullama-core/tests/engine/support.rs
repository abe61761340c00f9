//! Common parts of all engine tests: a stage, scripts to run on it, and a reader that takes what is available.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use mullama::testing::{ByteVocabulary, Limits, Logits, Reuse, Size, Stage, Step, always};
use mullama::{MullamaError, StreamConfig, Token, TokenId, TokenStream, TryNext};

/// A prompt of one token, whose byte is not a letter.
pub(crate) const PROMPT: &[TokenId] = &[1];

/// The duration of a decode on most stages.
pub(crate) const STEP: Duration = Duration::from_millis(1);

/// A duration in milliseconds of the virtual clock.
pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A letter that depends on every previous token: if one is lost, repeated or changed, the rest of the text differs.
pub(crate) fn hashed() -> Logits {
    always(|tokens| {
        let mut hasher = DefaultHasher::new();
        tokens.hash(&mut hasher);
        97 + TokenId::try_from(hasher.finish() % 26).expect("a letter")
    })
}

/// Generates these bytes after a prompt of one token, then ends the text.
pub(crate) fn spelling(bytes: &'static [u8]) -> Logits {
    always(move |tokens| bytes.get(tokens.len() - 1).map_or(ByteVocabulary::END, |&byte| byte.into()))
}

/// A size with this number of slots, and enough of everything else.
pub(crate) fn slots(slots: usize) -> Size {
    Size { slots, ..Size::default() }
}

/// A small pool with as many cells as the context is long.
pub(crate) fn pool(slots: usize, cells: usize, n_seq: usize) -> Size {
    let limits = Limits { rows: 512, cells, n_seq, reuse: Reuse::Nothing };
    Size { slots, queue: 64, context_len: cells, limits, ..Size::default() }
}

/// A stage with hashed letters where each decode takes [`STEP`].
pub(crate) fn stage(size: Size) -> Stage {
    Stage::new(size, hashed(), |_| STEP)
}

/// A stage with one stream that generates these bytes and then ends.
pub(crate) fn spell(bytes: &'static [u8], config: StreamConfig) -> (Stage, TokenStream) {
    let stage = Stage::new(Size::default(), spelling(bytes), |_| STEP);
    let stream = stage.open(PROMPT, config).expect("opened");
    (stage, stream)
}

/// A greedy config without a deadline.
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

/// What a reader received.
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

    /// The code of the error that ended the stream.
    pub(crate) fn code(&self) -> Option<&'static str> {
        self.error.as_ref().map(MullamaError::code)
    }

    /// Takes up to `most` available items without waiting.
    pub(crate) fn take(&mut self, stream: &mut TokenStream, most: usize) {
        for _ in 0..most {
            match stream.next_within(Duration::ZERO) {
                TryNext::Token(token) => self.tokens.push(token),
                TryNext::Ended => {
                    self.over = true;
                    return;
                }
                TryNext::Failed(error) => {
                    assert!(self.error.replace(error).is_none(), "an error is returned once");
                    self.over = true;
                }
                TryNext::Pending => return,
            }
        }
    }
}

/// Takes everything that is available.
pub(crate) fn take(stream: &mut TokenStream) -> Got {
    let mut got = Got::default();
    got.take(stream, usize::MAX);
    got
}

/// Steps and reads all streams until each has ended; advances the clock when the engine waits for it.
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
                let until = until.expect("streams that are read never wait forever");
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

/// Runs this many steps.
pub(crate) fn steps(stage: &mut Stage, count: usize) {
    for _ in 0..count {
        stage.step();
    }
}

/// The current time of the stage.
pub(crate) fn now(stage: &Stage) -> Duration {
    mullama::testing::Clock::now(stage.clock.as_ref())
}

/// The text that a stream generates when it is alone on the stage.
pub(crate) fn alone(prompt: &[TokenId], max_tokens: u32) -> String {
    let mut stage = stage(Size::default());
    let mut stream = stage.open(prompt, config(max_tokens)).expect("opened");
    read(&mut stage, &mut stream).text()
}

/// The number of rows of each decode since the last call.
pub(crate) fn rows(stage: &Stage) -> Vec<usize> {
    stage.decodes().iter().map(Vec::len).collect()
}
