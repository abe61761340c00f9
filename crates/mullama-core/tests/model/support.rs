//! Common parts of all tests with the real model: the demo, small contexts, and waits with a limit.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mullama::{Context, ContextParams, Model, MullamaError, StreamConfig, TokenStream, TryNext};

/// Far longer than any operation here takes, even on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn demo_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../python/mullama/models/demo.gguf")
}

/// The demo model, loaded anew, so that no other test uses its engines.
pub(crate) fn fresh_demo() -> Arc<Model> {
    Arc::new(Model::load(demo_path()).expect("the demo loads"))
}

/// One thread, because tests run concurrently, and ggml's threads spin while they wait for each other.
pub(crate) fn params() -> ContextParams {
    ContextParams { n_threads: Some(1), ..ContextParams::default() }
}

/// A context whose engine only this test uses.
pub(crate) fn context(params: ContextParams) -> Context {
    Context::new(fresh_demo(), params).expect("a context")
}

/// A greedy config with a deadline that only a hang would exceed.
pub(crate) fn greedy(max_tokens: u32) -> StreamConfig {
    StreamConfig::new().temperature(0.0).max_tokens(max_tokens).timeout_ms(60_000)
}

/// Prompts whose greedy answers are unambiguous for 60 tokens: by at least 0.16 in log-probability, while other streams
/// in the batch or a cached prefix move one by 0.02. So their texts can be compared.
pub(crate) const CERTAIN: [&str; 5] =
    ["Count: 1, 2, 3", "{\"type\": \"function\",", "Emoji for fox:", "Count by five: 5, 10,", "Tell me about Python:"];

/// Waits until a condition holds; fails after [`LIMIT`].
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "not in time: {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Reads to the end with a limit; returns the text, and the error if one ended it.
pub(crate) fn read(stream: &mut TokenStream) -> (String, Option<MullamaError>) {
    let mut text = String::new();
    loop {
        match stream.next_within(LIMIT) {
            TryNext::Token(token) => text.push_str(&token.text),
            TryNext::Ended => return (text, None),
            TryNext::Failed(error) => return (text, Some(error)),
            TryNext::Pending => panic!("no token in time after {text:?}"),
        }
    }
}
