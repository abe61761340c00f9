//! One module per dialect: the fields of its requests, and the frames of its answers.

pub(crate) mod openai;
mod sampling;
