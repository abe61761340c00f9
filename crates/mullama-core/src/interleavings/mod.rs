//! Random interleavings of readers, engine and inbox, explored by shuttle. A lost wake-up is a deadlock, which shuttle
//! reports with the schedule that leads to it.

mod engine;
mod inbox;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

use crate::config::{ResolvedParams, StreamConfig};
use crate::engine::handle::EngineHandle;
use crate::error::MullamaError;
use crate::kv::backend::Limits;
use crate::kv::prefix_cache::Reuse;
use crate::kv::scripted::{ByteVocabulary, Script, ScriptedBackend};
use crate::stream::TokenStream;
use crate::stream::admission::{AdmissionLimits, WhenFull};

/// Number of schedules that each of the two schedulers explores per model.
const SCHEDULES: usize = 10_000;

/// Maximum duration of the schedules of one scheduler; far more than they take.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs a model under random schedules, and under schedules that rarely switch threads but do so at unlucky moments.
fn explore(model: fn()) {
    let mut config = Config::new();
    // A step of the engine needs the larger stack, because it calls llama.cpp's samplers.
    config.stack_size = 256 * 1024;
    config.silence_warnings = true;
    config.max_time = Some(LIMIT);
    Runner::new(RandomScheduler::new(SCHEDULES), config.clone()).run(model);
    Runner::new(PctScheduler::new(3, SCHEDULES), config).run(model);
}

/// Starts an engine that generates the alphabet, one letter per token.
fn start(slots: u32) -> Arc<EngineHandle> {
    start_with(slots, AdmissionLimits { active: slots + 8, paused: 8 })
}

/// As [`start`], with these limits.
fn start_with(slots: u32, admission: AdmissionLimits) -> Arc<EngineHandle> {
    let params = ResolvedParams::scripted(slots as usize, admission, 64, 0);
    let make = |_| {
        Ok(ScriptedBackend::new(Script::new(
            Arc::new(|tokens, logits| logits[usize::from(b'a') + tokens.len() - 1] = 10.0),
            Limits { rows: 8, cells: 64, n_seq: 8, reuse: Reuse::Nothing },
        )))
    };
    EngineHandle::start_with(&params, Arc::new(ByteVocabulary), make).expect("started")
}

fn open(engine: &EngineHandle, max_tokens: u32, buffer_size: u32) -> TokenStream {
    try_open(engine, max_tokens, buffer_size).expect("opened")
}

fn try_open(engine: &EngineHandle, max_tokens: u32, buffer_size: u32) -> Result<TokenStream, MullamaError> {
    engine.submit(vec![1].into(), config(max_tokens, buffer_size), WhenFull::Refuse)
}

fn config(max_tokens: u32, buffer_size: u32) -> StreamConfig {
    StreamConfig::new().temperature(0.0).timeout_ms(None).max_tokens(max_tokens).buffer_size(buffer_size)
}

/// Reads to the end; returns the text, and the code of the error if one ended it.
fn read(stream: &mut TokenStream) -> (String, Option<&'static str>) {
    let mut text = String::new();
    for item in stream.iter_mut() {
        match item {
            Ok(token) => text.push_str(&token.text),
            Err(error) => return (text, Some(error.code())),
        }
    }
    (text, None)
}
