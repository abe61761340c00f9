//! The document, or the chunks, of one completion: what chat completions and completions have in common.

use std::sync::Arc;

use mullama::{FinishReason, Model};
use serde::Serialize;
use serde_json::Value;

use super::ErrorDocument;
use super::options::Options;
use super::usage::{ProgressBody, TimingsBody, UsageBody};
use crate::error::ApiError;
use crate::generation::{Answer, Frames, Prefill, Progress};
use crate::ids;
use crate::models::Loaded;

/// What computes the answers.
const FINGERPRINT: &str = concat!("mullama-", env!("CARGO_PKG_VERSION"));

/// What names an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) created: u64,
    /// The name of the model.
    pub(crate) name: String,
    pub(crate) model: Arc<Model>,
}

impl Head {
    /// The head of a new answer, whose id has this prefix.
    pub(crate) fn new(prefix: &str, model: &Loaded) -> Self {
        let (name, model) = (model.name().to_owned(), Arc::clone(model.context().model()));
        Self { id: ids::new(prefix), created: ids::now(), name, model }
    }
}

/// The names that a kind of completion has for its objects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Objects {
    pub(crate) whole: &'static str,
    pub(crate) chunk: &'static str,
}

/// The state of one answer.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) head: Head,
    pub(crate) options: Options,
    objects: Objects,
    /// The counts of each choice, for the last chunk.
    progress: Vec<Progress>,
}

#[derive(Debug, Serialize)]
struct Document<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: C,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<ChunkUsage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<TimingsBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_progress: Option<ProgressBody>,
}

/// The usage of a chunk: null in all chunks but the last.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ChunkUsage {
    Later,
    Now(UsageBody),
}

impl Completion {
    /// An answer with this many choices.
    pub(crate) fn new(head: Head, options: Options, objects: Objects, count: usize) -> Self {
        Self { head, options, objects, progress: vec![Progress::default(); count] }
    }

    /// Number of choices.
    pub(crate) fn count(&self) -> usize {
        self.progress.len()
    }

    fn document<C>(&self, object: &'static str, choices: C) -> Document<'_, C> {
        Document {
            id: &self.head.id,
            object,
            created: self.head.created,
            model: &self.head.name,
            system_fingerprint: FINGERPRINT,
            choices,
            // With usage asked for, every chunk but the last has it as null.
            usage: self.options.include_usage.then_some(ChunkUsage::Later),
            timings: None,
            prompt_progress: None,
        }
    }

    /// A chunk of one choice.
    pub(crate) fn chunk(&self, choice: impl Serialize, frames: &mut Frames) {
        frames.event(&self.document(self.objects.chunk, [choice]));
    }

    /// A chunk with a token; `progress` is that of its choice.
    pub(crate) fn token_chunk(&self, choice: impl Serialize, progress: &Progress, frames: &mut Frames) {
        let timings = self.options.timings_per_token.then(|| TimingsBody::of(progress));
        frames.event(&Document { timings, ..self.document(self.objects.chunk, [choice]) });
    }

    /// The last chunk of a choice; `index` is that of the choice.
    pub(crate) fn last_chunk(
        &mut self,
        index: usize,
        choice: impl Serialize,
        progress: &Progress,
        frames: &mut Frames,
    ) {
        self.progress[index] = *progress;
        let timings = Some(TimingsBody::of(progress));
        frames.event(&Document { timings, ..self.document(self.objects.chunk, [choice]) });
    }

    /// A chunk without news but how far the prompt is computed.
    pub(crate) fn progress_chunk(&self, choice: impl Serialize, prefill: &Prefill, frames: &mut Frames) {
        let prompt_progress = Some(ProgressBody::of(prefill));
        frames.event(&Document { prompt_progress, ..self.document(self.objects.chunk, [choice]) });
    }

    /// What follows the last choice.
    pub(crate) fn finish(&self, frames: &mut Frames) {
        if self.options.include_usage {
            let usages = self.progress.iter().map(|progress| progress.usage);
            let usage = Some(ChunkUsage::Now(UsageBody::of(usages, self.options.n)));
            let no_choice: [(); 0] = [];
            frames.event(&Document { usage, ..self.document(self.objects.chunk, no_choice) });
        }
        frames.word("[DONE]");
    }

    /// An error in the middle of a stream.
    pub(crate) fn failed(error: &ApiError, frames: &mut Frames) {
        frames.event(&ErrorDocument::of(error));
        frames.word("[DONE]");
    }

    /// The whole answer.
    pub(crate) fn whole(&self, choices: Vec<impl Serialize>, answers: &[Answer]) -> Value {
        let usages = answers.iter().map(|answer| answer.ending.progress.usage);
        let usage = Some(ChunkUsage::Now(UsageBody::of(usages, self.options.n)));
        let timings = answers.first().map(|answer| TimingsBody::of(&answer.ending.progress));
        let document = Document { usage, timings, ..self.document(self.objects.whole, choices) };
        serde_json::to_value(document).unwrap_or_default()
    }
}

/// The reason as `OpenAI` names it.
pub(crate) const fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Length => "length",
        _ => "stop",
    }
}
