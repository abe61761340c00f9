//! What one request's streams do, written into the metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mullama::{FinishReason, StreamConfig, StreamHandle, TokenStream};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::Metrics;
use super::requests::Tally;
use crate::generation::Progress;
use crate::models::Loaded;
use crate::telemetry::Generation;

/// Most observations that one read adds; the rest of a longer jump is left out of the histograms.
const MOST_AT_ONCE: usize = 64;

/// Records the streams of one request, from their first token to their ends.
#[derive(Debug)]
pub(crate) struct Recorder {
    metrics: Metrics,
    model: String,
    buffer_size: usize,
    /// The tokens of the request, for its line in the log.
    tally: Option<Arc<Tally>>,
    generated: Counter,
    compute_gap: Histogram,
    reader_wait: Histogram,
    /// What was already recorded of each choice.
    seen: Vec<Progress>,
    span: Generation,
}

impl Recorder {
    pub(crate) fn new(model: &Loaded, config: &StreamConfig, count: usize, span: Generation) -> Self {
        let metrics = model.metrics().clone();
        let labels = [("model", model.name().to_owned())];
        Self {
            model: model.name().to_owned(),
            buffer_size: usize::try_from(config.buffer_size).unwrap_or(usize::MAX),
            tally: Tally::of_this_request(),
            generated: metrics.0.generated_tokens.get_or_create_owned(&labels),
            compute_gap: metrics.0.compute_gap.get_or_create_owned(&labels),
            reader_wait: metrics.0.reader_wait.get_or_create_owned(&labels),
            seen: vec![Progress::default(); count],
            metrics,
            span,
        }
    }

    /// The span of the streams.
    pub(crate) fn span(&mut self) -> &mut Generation {
        &mut self.span
    }

    /// A stream has failed, and with it the request.
    pub(crate) fn failed(&mut self, code: &'static str) {
        self.span.failed(code);
        if let Some(tally) = &self.tally {
            tally.fail(code);
        }
    }

    /// A stream has returned a token. Several may have been computed since the last call; each counts with their mean.
    pub(crate) fn token(&mut self, choice: usize, progress: &Progress) {
        let before = std::mem::replace(&mut self.seen[choice], *progress);
        let tokens = progress.usage.completion_tokens.saturating_sub(before.usage.completion_tokens);
        if tokens == 0 {
            return;
        }
        self.generated.inc_by(tokens as u64);
        if let Some(tally) = &self.tally {
            tally.add(tokens as u64);
        }
        let is_first = before.usage.completion_tokens == 0;
        if is_first {
            self.first(progress);
            self.span.first_token(progress);
        }
        let gaps = tokens - usize::from(is_first);
        let Ok(divisor @ 1..) = u32::try_from(gaps) else { return };
        let reader = progress.timings.reader_wait.saturating_sub(before.timings.reader_wait);
        let compute = progress.timings.decode.saturating_sub(before.timings.decode).saturating_sub(reader);
        for _ in 0..gaps.min(MOST_AT_ONCE) {
            self.compute_gap.observe((compute / divisor).as_secs_f64());
            self.reader_wait.observe((reader / divisor).as_secs_f64());
        }
    }

    fn first(&self, progress: &Progress) {
        let labels = [("model", self.model.clone())];
        let observe = |family: &super::Histograms<1>, time: Duration| {
            family.get_or_create(&labels).observe(time.as_secs_f64());
        };
        observe(&self.metrics.0.queue_time, progress.timings.queue);
        observe(&self.metrics.0.first_token, progress.timings.first_token);
    }

    /// A stream has ended by itself.
    pub(crate) fn ended(&mut self, choice: usize, reason: FinishReason, progress: &Progress) {
        self.token(choice, progress);
        self.span.ended(choice, reason, progress);
        self.count_end(reason, progress);
    }

    fn count_end(&self, reason: FinishReason, progress: &Progress) {
        let labels = [("model", self.model.clone())];
        let all = &*self.metrics.0;
        all.prompt_tokens.get_or_create(&labels).inc_by(progress.usage.prompt_tokens as u64);
        all.cached_tokens.get_or_create(&labels).inc_by(progress.usage.cached_tokens as u64);
        let [model] = labels;
        all.streams.get_or_create(&[model, ("reason", reason.as_str().to_owned())]).inc();
    }

    /// The server ends a stream, because another one of its request has failed or because it stops.
    pub(crate) fn closed(&mut self, choice: usize, stream: &TokenStream) {
        stream.cancel();
        self.ended(choice, FinishReason::Error, &Progress::of(&stream.handle()));
    }

    /// The client has left before a stream's end: cancels it, and measures how long the engine takes to let it go.
    pub(crate) fn left(&mut self, choice: usize, stream: TokenStream, model: &Arc<Loaded>) {
        let handle = stream.handle();
        let progress = Progress::of(&handle);
        let phase = self.phase(&handle, &progress);
        stream.cancel();
        self.token(choice, &progress);
        self.span.ended(choice, FinishReason::Cancelled, &progress);
        self.count_end(FinishReason::Cancelled, &progress);
        let labels = [("model", self.model.clone()), ("phase", phase.to_owned())];
        let latency = self.metrics.0.cancel_latency.get_or_create_owned(&labels);
        // Outside of a runtime, as in a router's own tests, the stream ends unmeasured.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(measure_end(stream, Arc::clone(model), latency));
    }

    fn phase(&self, handle: &StreamHandle, progress: &Progress) -> &'static str {
        match progress {
            _ if handle.buffered() >= self.buffer_size => "paused",
            progress if progress.usage.completion_tokens > 0 => "decode",
            progress if progress.usage.prompt_tokens > 0 => "prefill",
            _ => "queued",
        }
    }
}

/// Reads a cancelled stream to its end, which the engine sends when the sequence has left; at most a buffer comes before.
async fn measure_end(mut stream: TokenStream, model: Arc<Loaded>, latency: Histogram) {
    let start = Instant::now();
    while std::future::poll_fn(|cx| stream.poll_token(cx)).await.is_some() {}
    latency.observe(start.elapsed().as_secs_f64());
    drop((stream, model));
}
