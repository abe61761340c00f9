//! Tests of the engine, step by step, with scripted logits and a clock that the tests control.

mod backpressure;
mod cached_prefixes;
mod cells;
mod deadlines;
mod deterministic;
mod dropping;
mod ends;
mod error_texts;
mod failures;
mod leaving;
mod order;
mod paused;
mod properties;
mod reading;
mod requests;
mod sampling;
mod sharing;
mod step_cost;
mod stops;
mod support;
#[cfg(feature = "streaming")]
mod threads;
mod tokenizing;
