//! The native half of a stream. It has one reader, the JavaScript thread that made it.

use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use mullama::{FinishReason, MullamaError, StreamHandle, Token, TokenId};
use napi::bindgen_prelude::{Either4, Null, Uint8Array, Undefined};
use napi_derive::napi;

use crate::context::Context;
use crate::error::{Failure, failure, wrong_type};
use crate::held::Held;
use crate::notifier::Notifier;
use crate::prompt::Prompt;
use crate::settings::Settings;

/// Text and id: most tokens have no more, for their bytes are those of the text.
type Short = (String, TokenId);
/// Text, id, bytes, log-probability, and the most likely tokens as pairs of id and log-probability.
type Long = (String, Option<TokenId>, Uint8Array, Option<f64>, Vec<(TokenId, f64)>);
/// A token; null at the end; undefined if JavaScript will be woken.
type Next = Either4<Short, Long, Null, Undefined>;

/// The native half of a stream.
#[napi]
pub(crate) struct Stream {
    /// `None` once it is over, so that it no longer keeps the engine alive.
    reader: Option<Held<mullama::TokenStream>>,
    handle: StreamHandle,
    waker: Waker,
    /// Milliseconds that passed between the call and the start of the engine.
    waited_ms: u64,
}

#[napi]
impl Stream {
    /// Opens a stream, which is woken under this key.
    #[napi(constructor)]
    pub fn new(
        context: &Context,
        prompt: &mut Prompt,
        settings: &Settings,
        notifier: &Notifier,
        key: u32,
    ) -> Result<Self, Failure> {
        let context = context.get()?;
        let prompt = prompt.take(context.context_len().map_err(failure)?);
        let prompt = prompt.ok_or_else(|| wrong_type("the prompt was used before"))?;
        let stream = context.stream(prompt, settings.config.clone()).map_err(failure)?;
        let waker = notifier.handle(key).into_waker();
        Ok(Self { handle: stream.handle(), reader: Some(Held::new(stream)), waker, waited_ms: settings.waited_ms })
    }

    /// The next token, if there is one. It is taken only now, so nothing waits in JavaScript.
    #[napi]
    pub fn next(&mut self) -> Result<Next, Failure> {
        let Some(reader) = &mut self.reader else { return Ok(Either4::C(Null)) };
        match reader.poll_token(&mut TaskContext::from_waker(&self.waker)) {
            Poll::Pending => Ok(Either4::D(())),
            Poll::Ready(Some(Ok(token))) => Ok(as_item(token)),
            Poll::Ready(Some(Err(error))) => {
                self.reader = None;
                Err(failure(self.in_full(error)))
            }
            Poll::Ready(None) => {
                self.reader = None;
                Ok(Either4::C(Null))
            }
        }
    }

    /// Stops the generation. What was produced can still be read.
    #[napi]
    pub fn cancel(&self) {
        self.handle.cancel();
    }

    /// Stops the generation and discards what was not read.
    #[napi]
    pub fn close(&mut self) {
        // The slot is free at once; the rest may wait for the thread that drops it.
        self.handle.close();
        self.reader = None;
    }

    #[napi]
    pub fn tokens_generated(&self) -> u32 {
        u32::try_from(self.handle.tokens_generated()).unwrap_or(u32::MAX)
    }

    #[napi]
    pub fn tokens_per_second(&self) -> f64 {
        self.handle.tokens_per_second()
    }

    #[napi]
    pub fn finish_reason(&self) -> Option<&'static str> {
        self.handle.finish_reason().map(FinishReason::as_str)
    }

    #[napi]
    pub fn stop_sequence(&self) -> Option<String> {
        self.handle.stop_sequence()
    }

    /// Tokens of the prompt, those of it that were cached, and computed ones.
    #[napi]
    pub fn usage(&self) -> Vec<u32> {
        let usage = self.handle.usage();
        let counts = [usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens];
        counts.map(|count| u32::try_from(count).unwrap_or(u32::MAX)).into()
    }

    /// Milliseconds: queue, prefill, first token, decode, waiting for the reader.
    #[napi]
    pub fn timings(&self) -> Vec<f64> {
        let timings = self.handle.timings();
        let spans = [timings.queue, timings.prefill, timings.first_token, timings.decode, timings.reader_wait];
        spans.map(|span: Duration| span.as_secs_f64() * 1000.0).into()
    }

    #[napi]
    pub fn seed(&self) -> u32 {
        self.handle.seed()
    }

    #[napi]
    pub fn text(&self) -> String {
        self.handle.text()
    }

    /// Tokens computed and not yet returned.
    #[napi]
    pub fn buffered(&self) -> u32 {
        u32::try_from(self.handle.buffered()).unwrap_or(u32::MAX)
    }
}

impl Stream {
    /// A deadline that passed, with the length that its setting has.
    fn in_full(&self, mut error: MullamaError) -> MullamaError {
        if let MullamaError::StreamTimeout { limit_ms, .. } = &mut error {
            *limit_ms = limit_ms.saturating_add(self.waited_ms);
        }
        error
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.close();
    }
}

fn as_item(token: Token) -> Next {
    let Token { text, id, bytes, logprob, top_logprobs, .. } = token;
    match id {
        Some(id) if logprob.is_none() && bytes == text.as_bytes() => Either4::A((text, id)),
        id => {
            let top = top_logprobs.into_iter().map(|(id, logprob)| (id, logprob.into())).collect();
            Either4::B((text, id, bytes.into(), logprob.map(f64::from), top))
        }
    }
}
