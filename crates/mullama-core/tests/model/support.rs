//! What every test on the real model stands on: the demo, small contexts, and waits with a limit.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mullama::{Context, ContextParams, Model, MullamaError, StreamConfig, TokenStream, TryNext};

/// Far longer than anything here takes, on a busy machine too.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn demo_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../python/mullama/models/demo.gguf")
}

/// The demo, loaded anew: its engines are no other test's.
pub(crate) fn fresh_demo() -> Arc<Model> {
    Arc::new(Model::load(demo_path()).expect("the demo loads"))
}

/// One thread: tests run beside each other, and threads of ggml that wait for each other spin.
pub(crate) fn params() -> ContextParams {
    ContextParams { n_threads: Some(1), ..ContextParams::default() }
}

/// A context on an engine of this test alone.
pub(crate) fn context(params: ContextParams) -> Context {
    Context::new(fresh_demo(), params).expect("a context")
}

/// Greedy, with a deadline that only a hang meets.
pub(crate) fn greedy(max_tokens: u32) -> StreamConfig {
    StreamConfig::new().temperature(0.0).max_tokens(max_tokens).timeout_ms(60_000)
}

/// Prompts whose greedy answers leave no doubt at any of 60 tokens: by 0.16 in log-probability at least, where another
/// shape of the batch (company, a beginning that was computed before) moves one by 0.02. So their texts can be compared.
pub(crate) const CERTAIN: [&str; 5] =
    ["Count: 1, 2, 3", "{\"type\": \"function\",", "Emoji for fox:", "Count by five: 5, 10,", "Tell me about Python:"];

/// Waits until something holds; fails after [`LIMIT`].
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "not in time: {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Reads to the end with a limit: the text, and the error if one ended it.
pub(crate) fn read(stream: &mut TokenStream) -> (String, Option<MullamaError>) {
    let mut text = String::new();
    loop {
        match stream.next_within(LIMIT) {
            TryNext::Token(token) => text.push_str(&token.text),
            TryNext::Ended => return (text, None),
            TryNext::Failed(error) => return (text, Some(error)),
            TryNext::Pending => panic!("nothing came in time after {text:?}"),
        }
    }
}
