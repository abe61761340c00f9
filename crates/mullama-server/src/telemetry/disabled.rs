//! Without the feature: the same items, which do nothing.

#![expect(clippy::unused_self, reason = "the signatures are those of the feature")]

use std::future::{Future, ready};
use std::io;

use axum::Router;
use mullama::{FinishReason, StreamConfig};

use crate::generation::Progress;
use crate::models::Loaded;
use crate::state::State;

/// Where the spans of generations go: nowhere, because this build has no feature `opentelemetry`.
#[derive(Debug, Clone, Default)]
pub struct Telemetry(());

impl Telemetry {
    /// What the environment asks for. This build has no feature `opentelemetry`, so it is nothing.
    ///
    /// # Errors
    /// None without the feature.
    pub fn from_env() -> io::Result<Self> {
        Ok(Self::default())
    }

    pub(crate) fn flush(&self) -> impl Future<Output = ()> + use<> {
        ready(())
    }
}

pub(crate) fn layer(router: Router<State>, _state: &State) -> Router<State> {
    router
}

pub(crate) fn carried<F: Future>(task: F) -> F {
    task
}

pub(crate) fn asked(_model: Option<&str>) {}

pub(crate) fn refused(_code: &'static str) {}

/// The span of a request's streams, which is not recorded.
#[derive(Debug)]
pub(crate) struct Generation;

impl Generation {
    pub(crate) fn start(_model: &Loaded, _is_chat: bool, _choices: [usize; 2], _config: &StreamConfig) -> Self {
        Self
    }

    pub(crate) fn describe(&mut self, _id: Option<&str>, _is_streamed: bool) {}

    pub(crate) fn first_token(&mut self, _progress: &Progress) {}

    pub(crate) fn ended(&mut self, _choice: usize, _reason: FinishReason, _progress: &Progress) {}

    pub(crate) fn failed(&mut self, _code: &'static str) {}
}
