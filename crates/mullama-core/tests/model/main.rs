//! Tests of mullama with llama.cpp itself and the model inside the Python package.

#[cfg(feature = "streaming")]
mod asynchronous;
mod company;
mod deterministic;
mod errors;
mod failing;
mod files;
mod life;
mod sampling;
mod support;
mod templates;
mod text;
