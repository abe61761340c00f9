//! From logits to text, for one sequence: sample → detokenize → stop.

pub(crate) mod detokenizer;
pub(crate) mod sampler;
pub(crate) mod stop_matcher;
pub(crate) mod vocabulary;
