//! A GGUF file is checked before llama.cpp sees it: right ones pass, wrong ones are errors that say what and where.

mod crash;
mod hyperparameters;
mod mutants;
mod shards;
mod structure;
mod vocabulary;
mod writer;
