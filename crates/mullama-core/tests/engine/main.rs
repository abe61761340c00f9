//! The engine's laws, step by step, over scripted logits and a clock that a test moves.

mod cells;
mod deadlines;
mod ends;
mod failures;
mod leaving;
mod names;
mod order;
mod properties;
mod requests;
mod room;
mod sharing;
mod stops;
mod support;
#[cfg(feature = "streaming")]
mod threads;
